import type { PageEvent } from "../state.ts";
import type { Env, SocketConstructor, StorageLike } from "./env.ts";

declare const process: { env: { NODE_ENV?: string } };

interface Connection extends EventTarget {
  readonly type?: string;
  readonly effectiveType?: string;
}

/** What there is of a browser; nothing in Node and in server rendering. */
interface Globals {
  readonly document?: Document;
  readonly window: Window;
  readonly navigator?: Partial<Navigator> & { readonly connection?: Connection };
  readonly localStorage?: StorageLike;
  readonly sessionStorage?: StorageLike;
  readonly WebSocket: SocketConstructor;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

const globals = globalThis as unknown as Globals;

/** Where storage is forbidden, looking at it throws. Node has one too, for all of its programs together. */
function storage(name: "localStorage" | "sessionStorage"): StorageLike | undefined {
  try {
    return globals.document && globals[name];
  } catch {
    return undefined;
  }
}

function listen(listener: (event: PageEvent) => void): () => void {
  const { document, window, navigator } = globals;
  const stop = new AbortController();
  const on = (target: EventTarget | undefined, types: string) => {
    for (const type of types.split(" ")) target?.addEventListener(type, tell, stop);
  };
  const tell = ({ type, persisted }: Event & { readonly persisted?: boolean }) => {
    const { type: network = "unknown", effectiveType } = navigator?.connection ?? {};
    listener(
      (type === "visibilitychange"
        ? { type: document?.visibilityState }
        : type === "change"
          ? { type: "network", network, effectiveType }
          : { type, persisted }) as PageEvent,
    );
  };
  if (document) {
    on(document, "visibilitychange freeze resume");
    on(window, "pageshow pagehide online offline");
    on(navigator?.connection, "change");
  }
  return () => stop.abort();
}

/**
 * The world of a browser page, or what there is of it in Node and in server rendering.
 *
 * This is the only file that touches `window` or `document`, and it does so when asked, not when it is loaded.
 */
export function browserEnv(Socket?: SocketConstructor): Env {
  return {
    now: () => ({ wall: Date.now(), mono: performance.now() }),
    random: Math.random,
    // Not `crypto.randomUUID`: that is for secure contexts only, and an intranet may do without TLS.
    id: () => crypto.getRandomValues(new Uint32Array(4)).join("-"),
    setTimer: (callback, ms) => setTimeout(callback, Math.min(ms, MAX_TIMER_MS)),
    clearTimer: (timer) => clearTimeout(timer as number),
    openSocket: (url, protocols) => new (Socket ?? globals.WebSocket)(url, protocols),
    fetch: (url, init) => fetch(url, init),
    beacon: (url, body) => !!globals.navigator?.sendBeacon?.(url, body),
    resolve: (url) => new URL(url, globals.document?.baseURI).href,
    get storage() {
      return storage("localStorage");
    },
    get session() {
      return storage("sessionStorage");
    },
    effectiveType: () => globals.navigator?.connection?.effectiveType,
    visibility: () => globals.document?.visibilityState ?? "visible",
    network: () => (globals.navigator?.onLine === false ? "offline" : "online"),
    listen,
    get development() {
      // Bundlers replace the expression as it stands; where none does there may be nothing to ask.
      try {
        return process.env.NODE_ENV === "development";
      } catch {
        return false;
      }
    },
  };
}
