import {
  type FailureReason,
  isOpen,
  type Network,
  type State,
  type Status,
  type Transport,
  type Visibility,
} from "./state.ts";

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
  /** The same without the time in which nobody could see it: as of the last time that somebody could. */
  readonly seenSince: number | undefined;
  /** The current connection, or the last. */
  readonly connectionId: string | undefined;
  readonly heartbeatMs: number;
}

/** The part of a state that a page shows. */
export function snapshotOf(state: State): Snapshot {
  const { at, staleSinceWall } = state;
  return {
    status: at.status,
    transport: isOpen(at) ? "websocket" : state.pollingSince === undefined ? "none" : "polling",
    network: state.network,
    visibility: state.visibility,
    stale: staleSinceWall !== undefined,
    staleSince: staleSinceWall,
    attempt: state.attempt,
    retryAt: at.status === "waiting" ? at.until : undefined,
    reason: at.status === "failed" ? at.reason : undefined,
    degraded: state.degraded,
    downSince: state.downSince,
    seenSince: state.seenSince,
    connectionId: state.connectionId,
    heartbeatMs: state.heartbeatMs,
  };
}

/** Whether two objects of one type have the same values. */
export function same<T extends object>(one: T, other: T): boolean {
  return (Object.keys(one) as Array<keyof T>).every((key) => Object.is(one[key], other[key]));
}
