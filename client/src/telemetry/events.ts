import type { Cause } from "../close-codes.ts";

/** What the client puts on record about itself: the rows of the catalogue, by type. Durations in milliseconds. */
export interface EventFields {
  "attempt.started": { readonly previous_connection_id?: string | undefined };
  "attempt.failed": {
    readonly phase: "auth" | "socket" | "welcome";
    readonly cause?: Cause | undefined;
    readonly code?: number | undefined;
    readonly elapsed_ms: number;
  };
  "socket.opened": {
    readonly elapsed_ms: number;
    readonly downtime_ms?: number | undefined;
    readonly resumed: boolean;
  };
  "socket.closed": {
    readonly code?: number | undefined;
    readonly clean?: boolean | undefined;
    readonly cause?: Cause | undefined;
    readonly detail?: string | undefined;
    readonly uptime_ms: number;
  };
  "backoff.scheduled": {
    readonly base_ms: number;
    readonly jitter_ms: number;
    readonly delay_ms: number;
    readonly hint_ms?: number | undefined;
  };
  "retries.exhausted": { readonly cause?: Cause | undefined };
  "heartbeat.overdue": { readonly overdue_ms: number; readonly timer_late_ms: number; readonly misses: number };
  "probe.answered": { readonly rtt_ms: number };
  "probe.failed": { readonly waited_ms: number };
  "heartbeat.summarised": {
    readonly window_ms: number;
    readonly count: number;
    readonly missed: number;
    readonly min_ms: number;
    readonly max_ms: number;
    readonly sum_ms: number;
  };
  "page.hidden": Record<never, never>;
  "page.visible": { readonly away_ms?: number | undefined };
  "page.frozen": Record<never, never>;
  "page.resumed": { readonly away_ms?: number | undefined };
  "network.changed": { readonly network: string; readonly effective_type?: string | undefined };
  "clock.jumped": { readonly jump_ms: number };
  "banner.shown": { readonly downtime_ms: number };
  "banner.hidden": { readonly shown_ms: number };
  "polling.started": { readonly failures: number };
  "polling.stopped": { readonly polled_ms: number };
  "telemetry.dropped": { readonly event_class: EventClass; readonly count: number };
}

export type EventType = keyof EventFields;

/** What is dropped first when there is no room: details, then the account of connections. */
export type EventClass = "account" | "detail";

const DETAIL = /^(page|network|clock|banner|polling|heartbeat\.s)/;

export function classOf(type: string): EventClass {
  return DETAIL.test(type) ? "detail" : "account";
}
