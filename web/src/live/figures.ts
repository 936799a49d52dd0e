/**
 * The service's live figures as it publishes them once a second on topic `telemetry`; docs/protocol.md has their form.
 *
 * Whatever is not as it should be counts as absent: the page of one version can be open while another one answers.
 */

/** Figures by the value of their label; several labels are joined by a slash. */
export type Table = ReadonlyMap<string, number>;

export interface Histogram {
  /** Upper bounds in seconds, ascending; the last is Infinity. */
  readonly bounds: readonly number[];
  /** Observations up to each bound, cumulative. */
  readonly counts: readonly number[];
}

/** What the projections say of the connections; totals never fall. */
export interface Domain {
  readonly clients: number;
  readonly nodes: number;
  readonly opened: number;
  /** Ended connections by `reason/initiator`. */
  readonly ended: Table;
  readonly events: number;
  readonly silent: number;
  /** Absent while the service folds no flap penalties. */
  readonly flapping: number | undefined;
  readonly reconnects: number;
  readonly roundTrips: Histogram | undefined;
}

/** How the way from the sockets to the log and to the projections does, for all processes of the host. */
export interface Pipeline {
  readonly journalEvents: number | undefined;
  readonly journalBytes: number | undefined;
  readonly journalSeconds: number | undefined;
  readonly lagEvents: number | undefined;
  readonly lagSeconds: number | undefined;
  /** Totals since the processes started. */
  readonly dropped: number | undefined;
  readonly deadLetters: number | undefined;
  readonly commits: Histogram | undefined;
  readonly loopLag: Histogram | undefined;
}

export interface Sample {
  /** Milliseconds since 1970 by the server's clock. */
  readonly time: number;
  /** Absent while no projector exports any. */
  readonly domain: Domain | undefined;
  readonly pipeline: Pipeline;
  readonly processes: readonly string[];
}

type Fields = Readonly<Record<string, unknown>>;

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function table(value: unknown): Table {
  const entries = Object.entries(fields(value)).flatMap(([key, entry]) => {
    const found = number(entry);
    return found === undefined ? [] : [[key, found] as const];
  });
  return new Map(entries);
}

/** The sum of a table, or the number itself. */
function total(value: unknown): number {
  return number(value) ?? sum(table(value));
}

function histogram(value: unknown): Histogram | undefined {
  const buckets = [...table(value)]
    .filter(([key]) => key !== "sum" && key !== "count")
    .map(([bound, count]) => [bound === "+Inf" ? Infinity : Number(bound), count] as const)
    .filter(([bound]) => !Number.isNaN(bound))
    .sort(([one], [other]) => one - other);
  return buckets.length === 0
    ? undefined
    : { bounds: buckets.map(([bound]) => bound), counts: buckets.map(([, count]) => count) };
}

/** The sum of a table's figures. */
export function sum(of: Table): number {
  return [...of.values()].reduce((one, other) => one + other, 0);
}

/** An update's data as a sample; `undefined` for what is none. */
export function sampleOf(data: unknown): Sample | undefined {
  const { time, current, figures, pipeline, processes } = fields(data);
  const at = number(time);
  if (at === undefined) return undefined;
  return {
    time: at,
    domain: current === true ? domainOf(fields(figures)) : undefined,
    pipeline: pipelineOf(fields(pipeline)),
    processes: Array.isArray(processes) ? processes.filter((name) => typeof name === "string") : [],
  };
}

function domainOf(figures: Fields): Domain {
  const clients = table(figures.ws_updates_clients);
  return {
    clients: sum(clients),
    nodes: clients.size,
    opened: total(figures.ws_updates_connections_opened),
    ended: table(figures.ws_updates_disconnections),
    events: total(figures.pulsetrail_log_events),
    silent: total(figures.ws_updates_stale_clients),
    flapping: number(figures.ws_updates_flapping_clients),
    reconnects: total(figures.ws_updates_reconnects),
    roundTrips: histogram(figures.ws_updates_heartbeat_rtt_seconds),
  };
}

function pipelineOf(pipeline: Fields): Pipeline {
  return {
    journalEvents: number(pipeline.pulsetrail_journal_rows),
    journalBytes: number(pipeline.pulsetrail_journal_bytes),
    journalSeconds: number(pipeline.pulsetrail_journal_oldest_seconds),
    lagEvents: number(pipeline.pulsetrail_projection_lag_events),
    lagSeconds: number(pipeline.pulsetrail_projection_lag_seconds),
    dropped: number(pipeline.pulsetrail_events_dropped),
    deadLetters: number(pipeline.pulsetrail_projection_dead_letters),
    commits: histogram(pipeline.pulsetrail_journal_commit_seconds),
    loopLag: histogram(pipeline.pulsetrail_event_loop_lag_seconds),
  };
}
