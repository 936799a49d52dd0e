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
 *   closed: `close()`, from anywhere; `connect()` leads out again.
 * ```
 *
 * Times are monotonic milliseconds, but for `wall` ones.
 */
export type Place =
  | { readonly status: "idle" | "closed" }
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
      readonly probe: string;
      readonly probedAt: number;
      readonly tries: number;
    }
  | { readonly status: "waiting"; readonly until: number; readonly hinted: boolean }
  | { readonly status: "suspended"; readonly wall: number }
  | { readonly status: "failed"; readonly reason: FailureReason };

export type Status = Place["status"];
/** Why it stopped: the cause of the last end, or that all attempts were used up. */
export type FailureReason = Cause | "retries_exhausted";
export type Transport = "websocket" | "polling" | "none";
export type Network = "online" | "offline";
export type Visibility = "visible" | "hidden";

/** How a connection or an attempt ended; `code` 0 where there was none. */
export interface End {
  readonly code: number;
  readonly cause: Cause;
  readonly clean: boolean;
  readonly detail?: string;
}

/** Everything the client knows. Times without `Wall` in their name are monotonic milliseconds. */
export interface State {
  readonly at: Place;
  readonly figures: Figures;
  readonly needsToken: boolean;
  /** Number of the socket; what older ones say is ignored. */
  readonly generation: number;
  /** Retries since the last stable connection. */
  readonly attempt: number;
  /** Attempts in a row that never reached `welcome`. */
  readonly failures: number;
  /** The last end was for want of a good token: the next one for that reason is final. */
  readonly refused: boolean;
  readonly hintMs?: number | undefined;
  readonly tokenExpires?: number | undefined;
  readonly network: Network;
  readonly visibility: Visibility;
  /** The data on the page may be out of date, since that moment. */
  readonly staleSinceWall?: number | undefined;
  /** Since when there is no connection. */
  readonly downSince?: number | undefined;
  /** How much of that somebody could see, up to the last step. */
  readonly seenMs: number;
  /** Waits planned since the drop, in all. */
  readonly backoffMs: number;
  /** How the last connection or attempt ended. */
  readonly end?: End | undefined;
  /** What the next handshake says of the connection before. */
  readonly previous?: (Partial<End> & { readonly connectionId?: string }) | undefined;
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
  /** The probe that went out with the last pong, and the time that the heartbeat carried. */
  readonly ping?: (Instant & { readonly id: string; readonly time: number }) | undefined;
  readonly probes: number;
  readonly hurriedAt: number;
  /** The moment of the last step. */
  readonly last: Instant;
}

/** All that a step may know of the world: both clocks, and one number in [0, 1). */
export interface Moment extends Instant {
  readonly random: number;
}

/** One timer belongs to the status: the attempt's, the wait's, the watchdog's or the probe's. */
export type TimerName = "status" | "poll";

export type PageEvent =
  | { readonly type: Visibility | Network | "freeze" | "resume" | "pageshow" }
  /** `persisted` false: the page will not come back. */
  | { readonly type: "pagehide"; readonly persisted: boolean }
  /** The way to the network changed. */
  | { readonly type: "network"; readonly network: string; readonly effectiveType?: string };

export type Event =
  | PageEvent
  | { readonly type: "connect" | "close" | "retry_now" }
  | { readonly type: "authenticated"; readonly generation: number; readonly expiresInMs?: number | undefined }
  | { readonly type: "unauthenticated"; readonly generation: number; readonly refused: boolean }
  | { readonly type: "renewed"; readonly generation: number; readonly expiresInMs?: number | undefined }
  | { readonly type: "opened"; readonly generation: number }
  | { readonly type: "message"; readonly generation: number; readonly message: OtherMessage }
  | {
      readonly type: "closed";
      readonly generation: number;
      readonly code: number;
      readonly reason: string;
      readonly clean: boolean;
    }
  /** `due` is when the timer should have fired. */
  | { readonly type: "timer"; readonly name: TimerName; readonly due: number }
  | { readonly type: "polled"; readonly polled: Polled }
  | { readonly type: "poll_failed"; readonly retryAfterMs?: number | undefined }
  | { readonly type: "reloaded"; readonly gap: number }
  /** The page showed its banner, after so much visible downtime, or hid it, after so much time. For the account only. */
  | { readonly type: "banner"; readonly shown: boolean; readonly ms: number };

export type Effect =
  /** Ask for a token; with `renew` for the open connection. */
  | { readonly type: "authenticate"; readonly force: boolean; readonly renew?: boolean }
  | { readonly type: "open"; readonly query: Readonly<Record<string, string | number | boolean | undefined>> }
  /** Detach from the socket and forget it; without a code the browser closes it. */
  | { readonly type: "drop"; readonly code: number }
  | { readonly type: "send"; readonly message: OtherMessage }
  /** Set, or set anew. */
  | { readonly type: "timer"; readonly name: TimerName; readonly ms: number }
  | { readonly type: "cancel"; readonly name: TimerName }
  | { readonly type: "deliver"; readonly message: OtherMessage }
  | { readonly type: "gap"; readonly gap: number }
  | { readonly type: "poll" };

/** A client that has not been told to connect. */
export function initialState(figures: Figures, given: Partial<State> = {}): State {
  const never = { wall: 0, mono: 0 };
  return {
    at: { status: "idle" },
    figures,
    needsToken: false,
    generation: 0,
    attempt: 0,
    failures: 0,
    refused: false,
    network: "online",
    visibility: "visible",
    seenMs: 0,
    backoffMs: 0,
    replayHead: 0,
    gap: 0,
    heartbeatMs: figures.heartbeatMs,
    missLimit: figures.missLimit,
    heard: never,
    samples: [],
    probes: 0,
    hurriedAt: -Infinity,
    last: never,
    ...given,
  };
}
