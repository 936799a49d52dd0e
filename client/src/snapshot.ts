import type { FailureReason, Network, State, Status, Transport, Visibility } from "./state.ts";

/** What a page shows of a connection. Changes with what a user can see, not with each message. */
export interface Snapshot {
  readonly status: Status;
  readonly transport: Transport;
  /** What the browser believes; it is often wrong. */
  readonly network: Network;
  readonly visibility: Visibility;
  /** The data may be out of date, since that moment (milliseconds since 1970). */
  readonly stale: boolean;
  readonly staleSince: number | undefined;
  /** Retries since the last stable connection. */
  readonly attempt: number;
  /** Monotonic time of the next attempt, while waiting; see `useRetryCountdown`. */
  readonly retryAt: number | undefined;
  /** Why it failed. */
  readonly reason: FailureReason | undefined;
  /** The server's word for what does not work at the moment. */
  readonly degraded: string | undefined;
  /** Monotonic time since when there is no connection. */
  readonly downSince: number | undefined;
  /** How much of that somebody could see, up to the monotonic time `seenAt`; see `visibleDowntime`. */
  readonly seenMs: number;
  readonly seenAt: number | undefined;
  /** The current connection, or the last. */
  readonly connectionId: string | undefined;
  readonly heartbeatMs: number;
}

/** The part of a state that a page shows. */
export function snapshotOf(state: State): Snapshot {
  const { at } = state;
  const open = at.status === "live" || at.status === "verifying";
  return {
    status: at.status,
    transport: open ? "websocket" : state.pollingSince === undefined ? "none" : "polling",
    network: state.network,
    visibility: state.visibility,
    stale: state.staleSinceWall !== undefined,
    staleSince: state.staleSinceWall,
    attempt: state.attempt,
    retryAt: at.status === "waiting" ? at.until : undefined,
    reason: at.status === "failed" ? at.reason : undefined,
    degraded: state.degraded,
    downSince: state.downSince,
    seenMs: state.seenMs,
    seenAt: state.downSince === undefined ? undefined : state.last.mono,
    connectionId: state.connectionId,
    heartbeatMs: state.heartbeatMs,
  };
}

/** Whether two objects of one type have the same values. */
export function same<T extends object>(one: T, other: T): boolean {
  return (Object.keys(one) as Array<keyof T>).every((key) => Object.is(one[key], other[key]));
}

/** Milliseconds without a connection that somebody could see, at a monotonic time. */
export function visibleDowntime(snapshot: Snapshot, mono: number): number {
  const { status, visibility, seenMs, seenAt } = snapshot;
  return seenMs + (seenAt === undefined || visibility === "hidden" || status === "suspended" ? 0 : mono - seenAt);
}
