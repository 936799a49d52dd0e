import { baseFor } from "../backoff.ts";
import { type Instant, jumpBetween } from "../clock.ts";
import { NEW_TOKEN } from "../close-codes.ts";
import { type Event, isOpen, type Moment, type State } from "../state.ts";
import type { EventFields, EventType } from "./events.ts";

/** Puts an event on record, as of a moment. It belongs to the connection and the attempt of `about`. */
export type Put = <T extends EventType>(
  type: T,
  fields: EventFields[T],
  about: Pick<State, "connectionId" | "attempt">,
  now: Instant,
) => void;

/** Milliseconds of heartbeats that one summary covers. */
const SUMMARY_MS = 300_000;

/**
 * The client's account of its connections, derived from the steps of its state machine: what was before, what
 * happened, what is now. What belongs to no connection is told of the last.
 */
export function accountant(put: Put): (before: State, event: Event, after: State, now: Moment) => void {
  let hiddenWall: number | undefined;
  let asleepWall: number | undefined;
  let beats:
    | { since: number; count: number; missed: number; min_ms: number; max_ms: number; sum_ms: number }
    | undefined;

  return (before, [name, args], after, now) => {
    const { mono, wall } = now;
    const was = before.at;
    const { at, end } = after;
    const away = (since: number | undefined) => ({ away_ms: since && Math.max(0, wall - since) });

    function tell<T extends EventType>(type: T, fields: EventFields[T], state = before): void {
      put(type, fields, state, now);
    }

    function summarise(): void {
      if (!beats) return;
      const { since, ...figures } = beats;
      beats = undefined;
      tell("heartbeat.summarised", { window_ms: mono - since, ...figures });
    }

    function heartbeat(rtt?: number): void {
      beats ??= { since: mono, count: 0, missed: 0, min_ms: Infinity, max_ms: 0, sum_ms: 0 };
      if (rtt === undefined) beats.missed++;
      else {
        beats.count++;
        beats.min_ms = Math.min(beats.min_ms, rtt);
        beats.max_ms = Math.max(beats.max_ms, rtt);
        beats.sum_ms += rtt;
      }
    }

    const jump = before.last.wall && jumpBetween(before.last, now);
    if (jump) tell("clock.jumped", { jump_ms: jump });

    if (name === "hidden") {
      hiddenWall = wall;
      tell("page.hidden", {});
    } else if (name === "visible") tell("page.visible", away(hiddenWall));
    else if (name === "freeze" || (name === "pagehide" && args[0].persisted)) {
      if (!asleepWall) tell("page.frozen", {});
      asleepWall = wall;
    } else if (name === "online" || name === "offline") tell("network.changed", { network: name });
    else if (name === "network") {
      const [{ network, effectiveType }] = args;
      tell("network.changed", { network, effective_type: effectiveType });
    } else if (name === "banner") {
      const [shown, ms] = args;
      if (shown) tell("banner.shown", { downtime_ms: ms });
      else tell("banner.hidden", { shown_ms: ms });
    }
    if (asleepWall && (name === "resume" || name === "pageshow" || name === "visible")) {
      tell("page.resumed", away(asleepWall));
      asleepWall = undefined;
    }

    // A connection is in doubt, or given up for its silence.
    const silent = mono - before.heard.mono;
    if (was.status === "live" && at.status !== "live" && silent > before.heartbeatMs) {
      heartbeat();
      if (at.status === "verifying" || end?.code === 4100) {
        tell("heartbeat.overdue", {
          overdue_ms: silent - before.heartbeatMs,
          timer_late_ms: name === "timer" ? mono - before.due : 0,
          misses: Math.floor(silent / before.heartbeatMs),
        });
      }
    }
    if (was.status === "verifying" && at !== was) {
      const waited = mono - was.doubted.mono;
      if (at.status === "live") tell("probe.answered", { rtt_ms: waited });
      else if (end?.code === 4101) tell("probe.failed", { waited_ms: waited });
    }
    if (before.ping?.time && !after.ping && isOpen(at)) {
      heartbeat(mono - before.ping.mono);
      if (beats && mono - beats.since >= SUMMARY_MS) summarise();
    }

    // A connection or an attempt ended.
    if (isOpen(was) && !isOpen(at)) {
      summarise();
      tell("socket.closed", { ...end, uptime_ms: mono - was.since });
    } else if (was.status === "connecting" && at.status !== "connecting" && !isOpen(at)) {
      tell("attempt.failed", { ...end, phase: was.phase, elapsed_ms: mono - was.since });
    }
    if (before.pollingSince !== after.pollingSince) {
      if (before.pollingSince === undefined) tell("polling.started", { failures: after.failures });
      else tell("polling.stopped", { polled_ms: mono - before.pollingSince });
    }

    // What comes next.
    if (at === was) return;
    if (at.status === "waiting") {
      const delay = at.until - mono;
      // What is no retry's wait is cut short, or the jitter after sleep or before a new token: it has no base.
      const retries = after.attempt > before.attempt && !NEW_TOKEN.includes(end?.code ?? 0);
      const base = at.hinted ? delay : retries ? baseFor(after.attempt, after.figures) : 0;
      const hint_ms = at.hinted ? delay : undefined;
      tell("backoff.scheduled", { base_ms: base, jitter_ms: delay - base, delay_ms: delay, hint_ms }, after);
    } else if (at.status === "failed") {
      if (at.reason === "retries_exhausted") tell("retries.exhausted", { cause: end?.cause }, after);
    } else if (at.status === "connecting" && after.generation !== before.generation) {
      tell("attempt.started", { previous_connection_id: after.connectionId }, after);
    } else if (at.status === "live" && was.status === "connecting") {
      tell(
        "socket.opened",
        {
          elapsed_ms: mono - was.since,
          downtime_ms: before.previous && mono - (before.downSince ?? mono),
          resumed: !!before.stream && after.stream?.epoch === before.stream.epoch && after.gap === before.gap,
        },
        after,
      );
    }
  };
}
