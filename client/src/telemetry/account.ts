import { baseFor } from "../backoff.ts";
import { jumpBetween } from "../clock.ts";
import type { Event, Moment, State } from "../state.ts";
import type { EventFields, EventType } from "./events.ts";

/** Puts an event on record; `connectionId` where it is not that of the state after the step. */
export type Put = <T extends EventType>(type: T, fields: EventFields[T], state: State) => void;

/** Milliseconds of heartbeats that one summary covers. */
const SUMMARY_MS = 300_000;

const isOpen = ({ at }: State) => at.status === "live" || at.status === "verifying";

/**
 * The client's account of its connections, derived from the steps of its state machine: what was before, what
 * happened, what is now. What belongs to no connection is told of the last.
 */
export function accountant(put: Put): (before: State, event: Event, after: State, now: Moment) => void {
  let hiddenWall: number | undefined;
  let asleepWall: number | undefined;
  let beats: { since: number; count: number; missed: number; min: number; max: number; sum: number } | undefined;

  function summarise(state: State, mono: number): void {
    if (!beats) return;
    const { since, count, missed, min, max, sum } = beats;
    beats = undefined;
    put(
      "heartbeat.summarised",
      { window_ms: mono - since, count, missed, min_ms: count ? min : 0, max_ms: max, sum_ms: sum },
      state,
    );
  }

  function heartbeat(mono: number, rtt?: number): void {
    beats ??= { since: mono, count: 0, missed: 0, min: Number.POSITIVE_INFINITY, max: 0, sum: 0 };
    if (rtt === undefined) beats.missed++;
    else {
      beats.count++;
      beats.min = Math.min(beats.min, rtt);
      beats.max = Math.max(beats.max, rtt);
      beats.sum += rtt;
    }
  }

  return (before, event, after, now) => {
    const { mono, wall } = now;
    const was = before.at;
    const { at, end } = after;
    const { type } = event;
    const away = (since: number | undefined) => since && Math.max(0, wall - since);

    const jump = before.last.wall && jumpBetween(before.last, now);
    if (jump) put("clock.jumped", { jump_ms: jump }, before);

    if (type === "hidden" && before.visibility !== type) {
      hiddenWall = wall;
      put("page.hidden", {}, before);
    } else if (type === "visible" && before.visibility !== type) {
      put("page.visible", { away_ms: away(hiddenWall) }, before);
    } else if (type === "freeze" || (type === "pagehide" && event.persisted)) {
      if (!asleepWall) put("page.frozen", {}, before);
      asleepWall = wall;
    } else if (type === "online" || type === "offline") {
      put("network.changed", { network: type }, before);
    } else if (type === "network") {
      put("network.changed", { network: event.network, effective_type: event.effectiveType }, before);
    } else if (type === "banner") {
      if (event.shown) put("banner.shown", { downtime_ms: event.ms }, before);
      else put("banner.hidden", { shown_ms: event.ms }, before);
    }
    if (asleepWall && (type === "resume" || type === "pageshow" || type === "visible")) {
      put("page.resumed", { away_ms: away(asleepWall) }, before);
      asleepWall = undefined;
    }

    // A connection is in doubt, or given up for its silence.
    const silent = mono - before.heard.mono;
    if (was.status === "live" && at !== was && at.status !== "live" && silent > before.heartbeatMs) {
      heartbeat(mono);
      if (at.status === "verifying" || end?.code === 4100) {
        put(
          "heartbeat.overdue",
          {
            overdue_ms: silent - before.heartbeatMs,
            timer_late_ms: type === "timer" ? Math.max(0, mono - event.due) : 0,
            misses: Math.floor(silent / before.heartbeatMs),
          },
          before,
        );
      }
    }
    if (was.status === "verifying" && at !== was) {
      if (at.status === "live") put("probe.answered", { rtt_ms: mono - was.probedAt }, before);
      else if (end?.code === 4101) put("probe.failed", { waited_ms: mono - was.doubted.mono }, before);
    }
    if (before.ping && !after.ping && isOpen(after)) {
      heartbeat(mono, mono - before.ping.mono);
      if (beats && mono - beats.since >= SUMMARY_MS) summarise(before, mono);
    }

    // A connection or an attempt ended.
    if (isOpen(before) && !isOpen(after)) {
      summarise(before, mono);
      put(
        "socket.closed",
        {
          code: end?.code,
          clean: end?.clean,
          cause: end?.cause,
          detail: end?.detail || undefined,
          uptime_ms: mono - (was as { since: number }).since,
        },
        before,
      );
    } else if (was.status === "connecting" && at.status !== "connecting" && at.status !== "live") {
      put(
        "attempt.failed",
        { phase: was.phase, cause: end?.cause, code: end?.code || undefined, elapsed_ms: mono - was.since },
        before,
      );
    }
    if (before.pollingSince !== undefined && after.pollingSince === undefined) {
      put("polling.stopped", { polled_ms: mono - before.pollingSince }, before);
    } else if (before.pollingSince === undefined && after.pollingSince !== undefined) {
      put("polling.started", { failures: after.failures }, before);
    }

    // What comes next.
    if (at === was) return;
    if (at.status === "waiting") {
      const delay = at.until - mono;
      // What is not a retry's wait is cut short, or the jitter after sleep: it has no base.
      const base = at.hinted ? delay : after.attempt > before.attempt ? baseFor(after.attempt, after.figures) : 0;
      put(
        "backoff.scheduled",
        { base_ms: base, jitter_ms: delay - base, delay_ms: delay, hint_ms: at.hinted ? delay : undefined },
        after,
      );
    } else if (at.status === "failed") {
      if (at.reason === "retries_exhausted") put("retries.exhausted", { cause: end?.cause }, after);
    } else if (at.status === "connecting" && after.generation !== before.generation) {
      put("attempt.started", { previous_connection_id: after.connectionId }, after);
    } else if (at.status === "live" && was.status === "connecting") {
      put(
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
