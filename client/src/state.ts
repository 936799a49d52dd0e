import type { ClockSample, Instant } from "./clock.ts";
import type { Cause } from "./close-codes.ts";
import type { Figures } from "./options.ts";
import type { OtherMessage, Polled } from "./protocol.ts";

/**
 * Where the client is.
 *
 * ```text
 *            connect              welcome              doubt
 *   idle ───────────► connecting ────────► live ◄─────────────► verifying
 *                      ▲  │ ▲               │    probe_ok           │
 *        timer, retry  │  │ └──────┐        │ close, overdue        │ no answer
 *                      │  ▼        │        ▼                       │
 *   failed ◄───────── waiting ◄────┴────────┴───────────────────────┘
 *     │  30 attempts, or a close that   ▲
 *     │  forbids to come back           │ resume, pageshow, visible
 *     └──► connecting (retry)       suspended ◄── freeze, pagehide: from any of them
 *
 *   Out of attempts, `failed` leads back to waiting when somebody looks again or the network is back.
 *   closed: `close()`, from anywhere; `connect()` leads out again.
 * ```
 *
 * Times are monotonic milliseconds, but for `wall` ones.
 */
export type Place =
  | { readonly status: "idle" | "closed" | "suspended" }
  | {
      readonly status: "connecting";
      readonly phase: "auth" | "socket" | "welcome";
      /** When the attempt began. */
      readonly since: number;
      /** When its socket began. */
      readonly socket: Instant;
    }
  | { readonly status: "live"; readonly since: number }
  | {
      readonly status: "verifying";
      /** When it became live. */
      readonly since: number;
      readonly doubted: Instant;
      /** The timer of the first probe was late itself, and it was asked again. */
      readonly again: boolean;
    }
  | { readonly status: "waiting"; readonly until: number; readonly hinted: boolean }
  | { readonly status: "failed"; readonly reason: FailureReason };

export type Status = Place["status"];
/** Why it stopped: the cause of the last end, or that all attempts were used up. */
export type FailureReason = Cause | "retries_exhausted";
export type Transport = "websocket" | "polling" | "none";
export type Network = "online" | "offline";
export type Visibility = "visible" | "hidden";

/** How a connection or an attempt ended. */
export interface End {
  readonly code: number | undefined;
  readonly cause: Cause;
  readonly clean: boolean;
  readonly detail: string | undefined;
}

/** Everything the client knows. Times without `Wall` in their name are monotonic milliseconds. */
export interface State {
  readonly at: Place;
  readonly figures: Figures;
  readonly needsToken: boolean;
  /** Number of the socket; what older ones say is ignored. */
  readonly generation: number;
  /** When the timer of the status is due. */
  readonly due: number;
  /** Retries since the last stable connection. */
  readonly attempt: number;
  /** Attempts in a row that never reached `welcome`. */
  readonly failures: number;
  /** The last token was refused, or ran out: the next one has to be new, and is the last to be tried. */
  readonly refused: boolean;
  readonly hintMs?: number | undefined;
  readonly tokenExpires?: number | undefined;
  readonly network: Network;
  readonly visibility: Visibility;
  /** The data on the page may be out of date, since that moment. */
  readonly staleSinceWall?: number | undefined;
  /** Since when there is no connection. */
  readonly downSince?: number | undefined;
  /** The same without the time in which nobody could see it. */
  readonly seenSince?: number | undefined;
  /** Waits planned since the drop, in all. */
  readonly backoffMs: number;
  /** How the last connection or attempt ended. */
  readonly end?: End | undefined;
  /** What the next handshake says of the connection before. */
  readonly previous?: (Partial<End> & { readonly connectionId?: string | undefined }) | undefined;
  readonly connectionId?: string | undefined;
  readonly stream?: { readonly epoch: string; readonly position: number } | undefined;
  /** Position up to which updates belong to the replay. */
  readonly replayHead: number;
  /** Number of the gap that the application still has to fill by itself; 0: none. */
  readonly gap: number;
  readonly heartbeatMs: number;
  readonly missLimit: number;
  /** When something was last received. */
  readonly heard: Instant;
  readonly degraded?: string | undefined;
  readonly pollingSince?: number | undefined;
  readonly samples: readonly ClockSample[];
  /** The newest probe without an answer, and the time that the heartbeat carried with whose pong it went out. */
  readonly ping?: (Instant & { readonly id: string; readonly time?: number }) | undefined;
  /** Gives numbers to probes and gaps. */
  readonly count: number;
  readonly hurriedAt: number;
  /** The moment of the last step. */
  readonly last: Instant;
}

/** All that a step may know of the world: both clocks, and one number in [0, 1). */
export interface Moment extends Instant {
  readonly random: number;
}

/** What a page goes through. */
export type PageEvent =
  | { readonly type: Visibility | Network | "freeze" | "resume" | "pageshow" }
  /** `persisted` false: the page will not come back. */
  | { readonly type: "pagehide"; readonly persisted: boolean }
  /** The way to the network changed. */
  | { readonly type: "network"; readonly network: string; readonly effectiveType?: string };

type PageEvents = { [Type in PageEvent["type"]]: (event: Extract<PageEvent, { readonly type: Type }>) => void };

/** What can happen: its name, and with what. */
export interface Events extends PageEvents {
  visible(): void;
  hidden(): void;
  online(): void;
  offline(): void;
  connect(network: Network, visibility: Visibility): void;
  close(): void;
  retry_now(): void;
  /** A token is there, and the subprotocol that says so; none if it is for the open connection. */
  authenticated(expiresInMs: number | undefined, protocol?: string): void;
  opened(): void;
  message(message: OtherMessage): void;
  /** A socket was closed, or there was none to be had: then the code is 0, or 4500 if the token was refused. */
  closed(code: number, detail: string, clean?: boolean): void;
  /** The timer of the status: the attempt's, the wait's, the watchdog's or the probe's. */
  timer(): void;
  poll(): void;
  polled(answer?: { readonly body?: Polled; readonly retryAfterMs: number }): void;
  reloaded(gap: number): void;
  /** The page showed its banner, after so much visible downtime, or hid it, after so much time. For the account only. */
  banner(shown: boolean, ms: number): void;
}

/** What a step can ask for: its name, and with what. */
export interface World {
  /** Get a token; the answer is `authenticated`, or `closed`. */
  authenticate(force: boolean): void;
  /** Get a new token for the open connection. */
  renew(): void;
  open(query: Readonly<Record<string, string | number | boolean | undefined>>, protocol?: string): void;
  /** Detach from the socket and forget it; with 0 the browser closes it. */
  drop(code: number): void;
  send(message: OtherMessage): void;
  /** Set a timer, or set it anew; without a time stop it. */
  timer(name: "timer" | "poll", ms?: number): void;
  deliver(message: OtherMessage): void;
  /** Have the application load what was missed. */
  fill(gap: number): void;
  poll(): void;
}

/** Something that happened. What comes of a socket has that socket's generation. */
export type Event = {
  [Name in keyof Events]: readonly [name: Name, args: Parameters<Events[Name]>, generation?: number];
}[keyof Events];

/** Something to be done. */
export type Effect = { [Name in keyof World]: readonly [name: Name, ...args: Parameters<World[Name]>] }[keyof World];

const NEVER: Instant = { wall: 0, mono: 0 };

/** A client that has not been told to connect. */
export function initialState(figures: Figures, needsToken: boolean): State {
  return {
    at: { status: "idle" },
    figures,
    needsToken,
    generation: 0,
    due: 0,
    attempt: 0,
    failures: 0,
    refused: false,
    network: "online",
    visibility: "visible",
    backoffMs: 0,
    replayHead: 0,
    gap: 0,
    heartbeatMs: figures.heartbeatMs,
    missLimit: figures.missLimit,
    heard: NEVER,
    samples: [],
    count: 0,
    hurriedAt: -Infinity,
    last: NEVER,
  };
}

/** Whether there is a connection. */
export function isOpen(at: Place): at is Extract<Place, { status: "live" | "verifying" }> {
  return at.status === "live" || at.status === "verifying";
}
