import type { Client, ClientOptions, Handler, Observer, Transition } from "./api.ts";
import { estimateOf } from "./clock.ts";
import { browserEnv } from "./env/browser.ts";
import type { SocketLike } from "./env/env.ts";
import { DEFAULTS, type Figures } from "./options.ts";
import { type OtherMessage, parse, SUBPROTOCOL } from "./protocol.ts";
import { same, snapshotOf } from "./snapshot.ts";
import { type Event, type Events, initialState, type State, type World } from "./state.ts";
import { step } from "./step.ts";

const CLIENT_KEY = "pulsetrail.client";

/** Milliseconds for which a JWT is still good; `undefined` for what is none, or never expires. */
function expiresInMs(token: string, serverNow: number): number | undefined {
  try {
    const claims = JSON.parse(atob((token.split(".")[1] as string).replace(/-/g, "+").replace(/_/g, "/")));
    return claims.exp > 0 ? claims.exp * 1000 - serverNow : undefined;
  } catch {
    return undefined;
  }
}

function add<T>(set: Set<T>, item: T): () => void {
  set.add(item);
  return () => void set.delete(item);
}

function ignore(): void {}

function describe({ at }: State): string {
  return at.status === "connecting" ? `connecting.${at.phase}` : at.status;
}

/**
 * A client for `/ws/updates` at `url`, which may be relative to the page. Nothing happens, and no global is touched,
 * before `connect`.
 */
export function createClient(url: string, options: ClientOptions = {}): Client {
  const { getToken, auth = "ticket", app, release, apiUrl } = options;
  const env = options.env ?? browserEnv(options.WebSocket);
  const figures: Figures = { ...DEFAULTS, ...options };
  const listeners = new Set<() => void>();
  const observers = new Set<Observer>();
  const gapHandlers = new Set<() => void | Promise<void>>();
  const handlers = new Set<readonly [type: string, handler: Handler<never>]>();
  const timers: { timer?: unknown; poll?: unknown } = {};
  const queue: Event[] = [];
  let state = initialState(figures, !!getToken);
  const idle = snapshotOf(state);
  let snapshot = idle;
  let socket: SocketLike | undefined;
  let authenticating = new AbortController();
  let polling = authenticating;
  let unlisten: (() => void) | undefined;
  let clientId: string | undefined;
  let pageId: string | undefined;

  const {
    logger = (transition: Transition) => {
      // biome-ignore lint/suspicious/noConsole: developers asked for a line a transition, in development only
      if (env.development) console.info("pulsetrail", transition);
    },
  } = options;

  function dispatch<Name extends keyof Events>(name: Name, args: Parameters<Events[Name]>, generation?: number): void {
    // What an event brings about has its turn when that one is done with.
    if (queue.push([name, args, generation] as unknown as Event) > 1) return;
    for (; queue[0]; queue.shift()) shielded(take);
    const latest = snapshotOf(state);
    if (!same(snapshot, latest)) snapshot = latest;
    for (const listener of [...listeners]) shielded(listener);
  }

  function take(): void {
    const [event] = queue as [Event];
    const before = state;
    const now = { ...env.now(), random: env.random() };
    const { state: after, effects } = step(before, event, now);
    state = after;
    for (const [name, ...args] of effects) (world[name] as (...args: unknown[]) => void)(...args);
    if (before === after) return;
    shielded(() => log(before, event));
    for (const observer of [...observers]) shielded(() => observer(before, event, after, now));
  }

  /** A handler's mistake must not keep the client from its work; it is reported as any uncaught one. */
  function shielded(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      env.setTimer(() => {
        throw error;
      }, 0);
    }
  }

  function log(before: State, event: Event): void {
    const from = describe(before);
    const to = describe(state);
    const { attempt, connectionId: connection, end } = state;
    if (from !== to) logger?.({ from, to, event: event[0], attempt, connection, ...(end !== before.end && end) });
  }

  const world: World = {
    async authenticate(force) {
      const { generation } = state;
      authenticating = new AbortController();
      const { signal } = authenticating;
      let code = 0;
      try {
        const token = await getToken?.({ force, signal });
        let protocol = `bearer.${token}`;
        if (auth === "ticket") {
          const { status, body } = await request("/tickets", token, { method: "POST", signal });
          if (status === 401) code = 4500;
          if (!body) throw new Error(`${status} for a ticket`);
          protocol = `ticket.${body.ticket}`;
        }
        dispatch("authenticated", [remaining(token), protocol], generation);
      } catch (error) {
        dispatch("closed", [code, String(error)], generation);
      }
    },
    renew: () => void renewToken().catch(ignore),
    open(query, protocol) {
      const { generation } = state;
      try {
        const address = new URL(env.resolve(url).replace(/^http/, "ws"));
        for (const [key, value] of Object.entries({ client: identify(), page: pageId, app, release, ...query })) {
          if (value !== undefined) address.searchParams.set(key, String(value));
        }
        socket = env.openSocket(address.href, protocol ? [SUBPROTOCOL, protocol] : [SUBPROTOCOL]);
        socket.onopen = () => dispatch("opened", [], generation);
        socket.onmessage = ({ data }: { data: unknown }) => {
          const message = parse(data);
          if (message) dispatch("message", [message], generation);
        };
        socket.onerror = ignore;
        socket.onclose = ({ code, reason, wasClean }: { code: number; reason: string; wasClean: boolean }) =>
          dispatch("closed", [code, reason, wasClean], generation);
      } catch (error) {
        // An address or a protocol that the constructor does not take: an attempt that failed, like others.
        dispatch("closed", [0, String(error)], generation);
      }
    },
    drop(code) {
      authenticating.abort();
      if (!socket) return;
      // The handler of errors stays: `ws` throws an error event that nobody listens to.
      socket.onopen = socket.onmessage = socket.onclose = null;
      try {
        if (code) socket.close(code);
      } catch {}
      socket = undefined;
    },
    send,
    timer(name, ms) {
      env.clearTimer(timers[name]);
      if (ms !== undefined) timers[name] = env.setTimer(() => dispatch(name, []), ms);
    },
    deliver(message) {
      for (const [type, handler] of [...handlers]) if (type === message.type) shielded(() => handler(message as never));
    },
    fill(gap) {
      Promise.all([...gapHandlers].map(async (handler) => handler())).then(() => dispatch("reloaded", [gap]), ignore);
    },
    async poll() {
      const { stream } = state;
      polling.abort();
      polling = new AbortController();
      const { signal } = polling;
      const query = stream ? `?since=${stream.position}&since_epoch=${stream.epoch}` : "";
      try {
        const token = await getToken?.({ force: false, signal });
        dispatch("polled", [await request(`/updates${query}`, token, { signal })]);
      } catch {
        dispatch("polled", []);
      }
    },
  };

  function send(message: OtherMessage): boolean {
    if (socket?.readyState !== 1) return false;
    socket.send(JSON.stringify(message));
    return true;
  }

  /** The id of this installation, kept where storage is allowed; that of the page is new each time. */
  function identify(): string {
    pageId ??= env.id();
    if (!clientId) {
      clientId = env.storage?.getItem(CLIENT_KEY) || env.id();
      try {
        env.storage?.setItem(CLIENT_KEY, clientId);
      } catch {}
    }
    return clientId;
  }

  // --- over HTTP ---

  function api(path: string): string {
    const address = apiUrl ? env.resolve(apiUrl) + path : new URL(`../v1${path}`, env.resolve(url)).href;
    return address.replace(/^ws/, "http");
  }

  /** An answer of the service's, and how long it asks to wait. */
  async function request(path: string, token: string | undefined, init: RequestInit) {
    const response = await env.fetch(api(path), {
      ...(token && { headers: { Authorization: `Bearer ${token}` } }),
      ...init,
    });
    const { ok, status } = response;
    return { status, retryAfterMs: retryAfter(response), body: ok && (await response.json()) };
  }

  function retryAfter(response: Response): number {
    return Number(response.headers.get("Retry-After")) * 1000 || 0;
  }

  function remaining(token = ""): number | undefined {
    return expiresInMs(token, env.now().wall + estimateOf(state.samples).offsetMs);
  }

  async function renewToken(): Promise<void> {
    const { generation } = state;
    const token = await getToken?.({ force: true, signal: authenticating.signal });
    if (generation !== state.generation || !token) return;
    if (send({ type: "token", token })) dispatch("authenticated", [remaining(token)], generation);
  }

  return {
    connect() {
      unlisten ??= env.listen((event) => dispatch(event.type, [event] as never));
      dispatch("connect", [env.network(), env.visibility()]);
    },
    close() {
      unlisten?.();
      unlisten = undefined;
      dispatch("close", []);
    },
    retryNow() {
      const { generation } = state;
      dispatch("retry_now", []);
      return state.generation !== generation;
    },
    send,
    renewToken,
    on: (type: string, handler: Handler<never>) => add(handlers, [type, handler]),
    onGap: (handler) => add(gapHandlers, handler),
    observe: (observer) => add(observers, observer),
    tell: dispatch,
    subscribe: (listener) => add(listeners, listener),
    getSnapshot: () => snapshot,
    getServerSnapshot: () => idle,
    api,
    retryAfter,
    get stream() {
      return state.stream;
    },
    get clock() {
      return estimateOf(state.samples);
    },
    get clientId() {
      return identify();
    },
    get pageId() {
      identify();
      return pageId as string;
    },
    figures,
    options,
    env,
  };
}
