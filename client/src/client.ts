import type { Client, ClientOptions, Handler, Observer, Transition } from "./api.ts";
import { estimateOf } from "./clock.ts";
import { browserEnv } from "./env/browser.ts";
import type { SocketLike } from "./env/env.ts";
import { DEFAULTS, type Figures } from "./options.ts";
import { type OtherMessage, type Polled, parse, SUBPROTOCOL } from "./protocol.ts";
import { same, snapshotOf } from "./snapshot.ts";
import { type Effect, type Event, initialState, type State, type TimerName } from "./state.ts";
import { step } from "./step.ts";

const CLIENT_KEY = "pulsetrail.client";

/** Milliseconds for which a JWT is still good; `undefined` for what is none, or never expires. */
export function expiresInMs(token: string, serverNow: number): number | undefined {
  try {
    const claims = JSON.parse(atob((token.split(".")[1] as string).replace(/-/g, "+").replace(/_/g, "/")));
    return claims.exp > 0 ? claims.exp * 1000 - serverNow : undefined;
  } catch {
    return undefined;
  }
}

function withQuery(url: string, query: Readonly<Record<string, unknown>>): string {
  const address = new URL(url);
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) address.searchParams.set(key, String(value));
  }
  return address.href;
}

async function json<T>(response: Response): Promise<T> {
  if (!response.ok) throw new Error(response.statusText);
  return response.json() as Promise<T>;
}

function ignore(): void {}

/**
 * A client for `/ws/updates` at `url`, which may be relative to the page. Nothing happens, and no global is touched,
 * before `connect`.
 */
export function createClient(url: string, options: ClientOptions = {}): Client {
  const env = options.env ?? browserEnv(options.WebSocket);
  const figures: Figures = { ...DEFAULTS, ...options };
  const { getToken, auth = "ticket" } = options;
  const listeners = new Set<() => void>();
  const observers = new Set<Observer>();
  const gapHandlers = new Set<() => void | Promise<void>>();
  const handlers = new Map<string, Set<Handler<never>>>();
  const timers = new Map<TimerName, unknown>();
  const queue: Event[] = [];
  let state = initialState(figures, { needsToken: getToken !== undefined });
  let snapshot = snapshotOf(state);
  let socket: SocketLike | undefined;
  let protocols: string[] = [];
  let abort: AbortController | undefined;
  let unlisten: (() => void) | undefined;
  let working = false;
  let clientId: string | undefined;
  let pageId: string | undefined;

  const log = options.logger === undefined ? defaultLogger : options.logger;

  function defaultLogger(transition: Transition): void {
    // biome-ignore lint/suspicious/noConsole: developers asked for a line a transition, in development only
    if (env.development) console.info("pulsetrail", transition);
  }

  function dispatch(event: Event): void {
    queue.push(event);
    if (working) return;
    working = true;
    try {
      for (let next = queue.shift(); next; next = queue.shift()) take(next);
    } finally {
      working = false;
    }
    const latest = snapshotOf(state);
    if (!same(snapshot, latest)) snapshot = latest;
    for (const listener of [...listeners]) shielded(listener);
  }

  function take(event: Event): void {
    const before = state;
    const now = { ...env.now(), random: env.random() };
    const { state: after, effects } = step(before, event, now);
    state = after;
    for (const effect of effects) perform(effect);
    if (before === after) return;
    shielded(() => logTransition(before, event));
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

  function logTransition(before: State, event: Event): void {
    const from = describe(before);
    const to = describe(state);
    if (from === to || !log) return;
    const { attempt, connectionId, end } = state;
    log({ from, to, event: event.type, attempt, connection: connectionId, code: end?.code, cause: end?.cause });
  }

  function perform(effect: Effect): void {
    switch (effect.type) {
      case "authenticate":
        (effect.renew ? renewToken() : authenticate(effect.force)).catch(ignore);
        break;
      case "open":
        open(effect.query);
        break;
      case "drop":
        drop(effect.code);
        break;
      case "send":
        transmit(effect.message);
        break;
      case "timer": {
        const { name, ms } = effect;
        const due = env.now().mono + ms;
        env.clearTimer(timers.get(name));
        timers.set(
          name,
          env.setTimer(() => dispatch({ type: "timer", name, due }), ms),
        );
        break;
      }
      case "cancel":
        env.clearTimer(timers.get(effect.name));
        break;
      case "deliver":
        deliver(effect.message);
        break;
      case "gap":
        Promise.all([...gapHandlers].map(async (handler) => handler())).then(
          () => dispatch({ type: "reloaded", gap: effect.gap }),
          ignore,
        );
        break;
      case "poll":
        poll();
    }
  }

  // --- socket ---

  function open(query: Readonly<Record<string, unknown>>): void {
    const { generation } = state;
    const { app, release } = options;
    try {
      const address = withQuery(env.resolve(url).replace(/^http/, "ws"), {
        client: identify(),
        page: pageId,
        app,
        release,
        ...query,
      });
      const opened = env.openSocket(address, [SUBPROTOCOL, ...protocols]);
      socket = opened;
      opened.onopen = () => dispatch({ type: "opened", generation });
      opened.onmessage = ({ data }: { data: unknown }) => {
        const message = parse(data);
        if (message) dispatch({ type: "message", generation, message });
      };
      opened.onerror = ignore;
      opened.onclose = (event: { code: number; reason: string; wasClean: boolean }) =>
        dispatch({ type: "closed", generation, code: event.code, reason: event.reason, clean: event.wasClean });
    } catch (error) {
      // An address or a protocol that the constructor does not take: an attempt that failed, like others.
      dispatch({ type: "closed", generation, code: 1006, reason: String(error), clean: false });
    }
  }

  function drop(code: number): void {
    abort?.abort();
    abort = undefined;
    const dropped = socket;
    socket = undefined;
    if (!dropped) return;
    // The handler of errors stays: `ws` throws an error event that nobody listens to.
    dropped.onopen = dropped.onmessage = dropped.onclose = null;
    try {
      if (code) dropped.close(code);
    } catch {}
  }

  function transmit(message: OtherMessage): boolean {
    if (socket?.readyState !== 1) return false;
    try {
      socket.send(JSON.stringify(message));
      return true;
    } catch {
      return false;
    }
  }

  function deliver(message: OtherMessage): void {
    for (const handler of [...(handlers.get(message.type) ?? [])]) shielded(() => handler(message as never));
  }

  // --- identity ---

  /** The id of this installation, kept where storage is allowed; that of the page is new each time. */
  function identify(): string {
    pageId ??= env.id();
    if (!clientId) {
      try {
        clientId = env.storage?.getItem(CLIENT_KEY) || undefined;
      } catch {}
      clientId ??= env.id();
      try {
        env.storage?.setItem(CLIENT_KEY, clientId);
      } catch {}
    }
    return clientId;
  }

  // --- token ---

  async function token(force: boolean, { signal } = new AbortController()): Promise<string | undefined> {
    return getToken?.({ force, signal });
  }

  function api(path: string): string {
    const { apiUrl } = options;
    const base = apiUrl ?? url.replace(/\?.*/, "").replace(/\/ws\/updates$/, "/v1");
    return env.resolve(base + path).replace(/^ws/, "http");
  }

  async function authenticate(force: boolean): Promise<void> {
    const { generation } = state;
    abort = new AbortController();
    let refused = false;
    try {
      const bearer = await token(force, abort);
      let offered = `bearer.${bearer}`;
      if (auth === "ticket") {
        const response = await request("/tickets", bearer, { method: "POST", signal: abort.signal });
        refused = response.status === 401;
        offered = `ticket.${(await json<{ ticket: string }>(response)).ticket}`;
      }
      if (generation === state.generation) protocols = [offered];
      dispatch({ type: "authenticated", generation, expiresInMs: remaining(bearer) });
    } catch {
      dispatch({ type: "unauthenticated", generation, refused });
    }
  }

  function request(path: string, bearer: string | undefined, init: RequestInit): Promise<Response> {
    const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
    return env.fetch(api(path), { credentials: "omit", cache: "no-store", headers, ...init });
  }

  /** Seconds, or a date (RFC 9110, section 10.2.3). */
  function retryAfter(response: Response): number | undefined {
    const value = response.headers.get("Retry-After");
    const seconds = Number(value);
    if (!value) return undefined;
    return Math.max(0, Number.isNaN(seconds) ? Date.parse(value) - env.now().wall : seconds * 1000) || undefined;
  }

  function remaining(bearer: string | undefined): number | undefined {
    return expiresInMs(bearer ?? "", env.now().wall + estimateOf(state.samples).offsetMs);
  }

  async function renewToken(): Promise<void> {
    const { generation } = state;
    const renewed = await token(true);
    if (generation !== state.generation || !renewed) return;
    if (transmit({ type: "token", token: renewed })) {
      dispatch({ type: "renewed", generation, expiresInMs: remaining(renewed) });
    }
  }

  // --- polling ---

  async function poll(): Promise<void> {
    const { pollingSince: since, stream } = state;
    let retryAfterMs: number | undefined;
    // An answer that comes after the socket did, or to an older round of polling, is of no use.
    const wanted = () => since === state.pollingSince;
    try {
      const query = stream ? `?since=${stream.position}&since_epoch=${stream.epoch}` : "";
      const response = await request(`/updates${query}`, await token(false), {});
      retryAfterMs = retryAfter(response);
      const polled = await json<Polled>(response);
      if (!Array.isArray(polled.updates) || !(polled.stream_position >= 0))
        throw new TypeError("not an answer of the service");
      if (wanted()) return dispatch({ type: "polled", polled });
    } catch {}
    if (wanted()) dispatch({ type: "poll_failed", retryAfterMs });
  }

  // --- the outside ---

  function add<T>(set: Set<T>, item: T): () => void {
    set.add(item);
    return () => void set.delete(item);
  }

  return {
    connect() {
      unlisten ??= env.listen(dispatch);
      state = { ...state, network: env.network(), visibility: env.visibility() };
      dispatch({ type: "connect" });
    },
    close() {
      unlisten?.();
      unlisten = undefined;
      dispatch({ type: "close" });
    },
    retryNow() {
      const before = state.generation;
      dispatch({ type: "retry_now" });
      return state.generation !== before;
    },
    send: transmit,
    renewToken,
    on(type: string, handler: Handler<never>) {
      const ofType = handlers.get(type) ?? new Set();
      handlers.set(type, ofType);
      return add(ofType, handler);
    },
    onGap: (handler) => add(gapHandlers, handler),
    observe: (observer) => add(observers, observer),
    tell: dispatch,
    subscribe: (listener) => add(listeners, listener),
    getSnapshot: () => snapshot,
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

function describe({ at }: State): string {
  return at.status === "connecting" ? `connecting.${at.phase}` : at.status;
}
