import type { PageEvent, Visibility } from "../state.ts";
import type { Env, SocketConstructor, StorageLike } from "./env.ts";

declare const process: { env: { NODE_ENV?: string } };

interface Connection extends EventTarget {
  readonly type?: string;
  readonly effectiveType?: string;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/** Where storage is forbidden, looking at it throws. */
function storage(name: "localStorage" | "sessionStorage"): StorageLike | undefined {
  try {
    return typeof document === "undefined" ? undefined : (globalThis[name] ?? undefined);
  } catch {
    return undefined;
  }
}

/** Bundlers replace the expression as it stands; where none does there is nothing to ask. */
function isDevelopment(): boolean {
  try {
    return process.env.NODE_ENV === "development";
  } catch {
    return false;
  }
}

function connection(): Connection | undefined {
  return (globalThis.navigator as { connection?: Connection } | undefined)?.connection;
}

/** Not `crypto.randomUUID`: that is for secure contexts only, and an intranet may do without TLS. */
function id(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(5)), (part) => part.toString(36)).join("");
}

function listen(listener: (event: PageEvent) => void): () => void {
  if (typeof document === "undefined") return () => {};
  const stop = new AbortController();
  const on = (target: EventTarget | undefined, types: string, handle: (event: Event) => void) => {
    for (const type of types.split(" ")) target?.addEventListener(type, handle, stop);
  };
  const pass = (event: Event) => listener({ type: event.type } as PageEvent);
  on(document, "visibilitychange", () => listener({ type: document.visibilityState }));
  on(document, "freeze resume", pass);
  on(window, "pageshow online offline", pass);
  on(window, "pagehide", (event) =>
    listener({ type: "pagehide", persisted: (event as PageTransitionEvent).persisted !== false }),
  );
  on(connection(), "change", () => {
    const { type = "unknown", effectiveType } = connection() as Connection;
    listener({ type: "network", network: type, ...(effectiveType && { effectiveType }) });
  });
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
    id,
    setTimer: (callback, ms) => setTimeout(callback, Math.min(ms, MAX_TIMER_MS)),
    clearTimer: (timer) => clearTimeout(timer as number),
    openSocket: (url, protocols) =>
      new (Socket ?? (globalThis.WebSocket as unknown as SocketConstructor))(url, protocols),
    fetch: (url, init) => fetch(url, init),
    beacon: (url, body) => navigator.sendBeacon(url, body),
    resolve: (url) => (typeof document === "undefined" ? url : new URL(url, document.baseURI).href),
    get storage() {
      return storage("localStorage");
    },
    get session() {
      return storage("sessionStorage");
    },
    effectiveType: () => connection()?.effectiveType,
    visibility: () => (typeof document === "undefined" ? "visible" : (document.visibilityState as Visibility)),
    network: () => (globalThis.navigator?.onLine === false ? "offline" : "online"),
    listen,
    get development() {
      return isDevelopment();
    },
  };
}
