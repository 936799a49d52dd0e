/** The samples of the last minutes, and the series that charts are made of. All pure; times in milliseconds. */
import type { Histogram, Sample, Table } from "./figures.ts";

export type History = readonly Sample[];

/** What is kept, by the service too. */
export const WINDOW_MS = 600_000;
export const MINUTE_MS = 60_000;

/** A point of a line; `null` breaks it. */
export type Point = readonly [time: number, value: number | null];

/** Samples further apart than this have a gap between them. */
const GAP_MS = 10_000;

/** The history with more samples, in the order of their times, without doubles and without what is too old. */
export function extended(history: History, samples: readonly Sample[]): History {
  const newest = history.at(-1)?.time ?? -Infinity;
  const all = samples.every(({ time }, place) => time > (samples[place - 1]?.time ?? newest))
    ? [...history, ...samples]
    : [...new Map([...history, ...samples].map((sample) => [sample.time, sample])).values()].sort(
        (one, other) => one.time - other.time,
      );
  const from = (all.at(-1)?.time ?? 0) - WINDOW_MS;
  const kept = all.findIndex(({ time }) => time >= from);
  return kept > 0 ? all.slice(kept) : all;
}

/** The newest sample that has figures of the connections. */
export function latest(history: History): Sample | undefined {
  return history.findLast(({ domain }) => domain !== undefined);
}

/** The time that the figures of the connections cover. */
export function spanOf(history: History): number {
  const first = history.find(({ domain }) => domain !== undefined);
  return (latest(history)?.time ?? 0) - (first?.time ?? 0);
}

/** The newest sample that is not after a time and has the figure; without one, the first that has it. */
function asOf<T>(history: History, time: number, of: (sample: Sample) => T | undefined): [number, T] | undefined {
  let found: [number, T] | undefined;
  for (const sample of history) {
    const value = of(sample);
    if (value === undefined) continue;
    if (found !== undefined && sample.time > time) break;
    found = [sample.time, value];
  }
  return found;
}

/** A figure over time, at most one point for each `step`. */
export function line(history: History, of: (sample: Sample) => number | undefined, step = 2_000): readonly Point[] {
  const points: Point[] = [];
  let slot = -1;
  for (const sample of history) {
    const value = of(sample);
    const last = points.at(-1);
    if (value === undefined) {
      if (last !== undefined && last[1] !== null) points.push([sample.time, null]);
      continue;
    }
    if (last !== undefined && sample.time - last[0] > GAP_MS) points.push([last[0] + 1, null]);
    if (Math.floor(sample.time / step) === slot) points.pop();
    slot = Math.floor(sample.time / step);
    points.push([sample.time, value]);
  }
  return points;
}

/** How fast a total grew, a second, one point for each `step`; what falls began anew and counts from there. */
export function rate(history: History, of: (sample: Sample) => number | undefined, step = 5_000): readonly Point[] {
  const points: Point[] = [];
  let begin: [number, number] | undefined;
  for (const sample of history) {
    const value = of(sample);
    if (value === undefined) continue;
    if (begin === undefined || value < begin[1]) {
      begin = [sample.time, value];
    } else if (sample.time - begin[0] > Math.max(GAP_MS, 2 * step)) {
      points.push([begin[0] + 1, null]);
      begin = [sample.time, value];
    } else if (sample.time - begin[0] >= step) {
      points.push([sample.time, ((value - begin[1]) * 1_000) / (sample.time - begin[0])]);
      begin = [sample.time, value];
    }
  }
  return points;
}

export interface Growth {
  readonly count: number;
  /** The time it took: shorter than was asked for while the history is young. */
  readonly ms: number;
}

/** By how much a total grew in the last `ms`. */
export function growth(
  history: History,
  of: (sample: Sample) => number | undefined,
  ms = MINUTE_MS,
): Growth | undefined {
  const end = asOf(history, Infinity, of);
  const begin = end && asOf(history, end[0] - ms, of);
  return begin && end && { count: Math.max(0, end[1] - begin[1]), ms: end[0] - begin[0] };
}

/** By how much each figure of a table grew, where it did. */
function difference(before: Table | undefined, after: Table): Table {
  const grown = [...after].map(([key, value]) => [key, value - (before?.get(key) ?? 0)] as const);
  return new Map(grown.filter(([, value]) => value > 0));
}

/** By how much a table of totals grew in the last `ms`. */
export function tableGrowth(history: History, of: (sample: Sample) => Table | undefined, ms = MINUTE_MS): Table {
  const end = asOf(history, Infinity, of);
  const begin = end && asOf(history, end[0] - ms, of);
  return begin && end ? difference(begin[1], end[1]) : new Map();
}

export interface Minute {
  /** When it began, by the clock. */
  readonly start: number;
  readonly counts: Table;
}

/**
 * By how much a table of totals grew in each minute of the clock, for as many as the charts are wide; before the history
 * began there is nothing in them. The last one is not over.
 */
export function byMinute(history: History, of: (sample: Sample) => Table | undefined): readonly Minute[] {
  const last = history.at(-1);
  if (last === undefined) return [];
  return Array.from({ length: WINDOW_MS / MINUTE_MS }, (_, place) => {
    const start = minuteOf(last.time) - WINDOW_MS + (place + 1) * MINUTE_MS;
    const end = asOf(history, start + MINUTE_MS, of);
    const begin = asOf(history, start, of);
    return { start, counts: end ? difference(begin?.[1], end[1]) : new Map() };
  });
}

/** The beginning of the minute that a time is in. */
export function minuteOf(time: number): number {
  return Math.floor(time / MINUTE_MS) * MINUTE_MS;
}

/** The observations of the last `ms`; without any, all that there ever were. */
export function observations(
  history: History,
  of: (sample: Sample) => Histogram | undefined,
  ms = WINDOW_MS,
): { readonly histogram: Histogram; readonly recent: boolean } | undefined {
  const end = asOf(history, Infinity, of);
  const begin = end && asOf(history, end[0] - ms, of);
  if (!begin || !end) return undefined;
  const counts = end[1].counts.map((count, place) => Math.max(0, count - (begin[1].counts[place] ?? 0)));
  const recent = (counts.at(-1) ?? 0) > 0;
  return { histogram: recent ? { bounds: end[1].bounds, counts } : end[1], recent };
}

/** How many observations a histogram has. */
export function size(histogram: Histogram): number {
  return histogram.counts.at(-1) ?? 0;
}

/**
 * The value below which a share of the observations is, in seconds, taken as evenly spread within their bucket.
 * Infinity: it is above the highest bound. `undefined`: there are none.
 */
export function quantile({ bounds, counts }: Histogram, share: number): number | undefined {
  const all = counts.at(-1) ?? 0;
  if (all === 0) return undefined;
  const rank = share * all;
  const bucket = counts.findIndex((count) => count >= rank);
  const upper = bounds[bucket] ?? Infinity;
  if (upper === Infinity) return Infinity;
  const lower = bounds[bucket - 1] ?? 0;
  const below = counts[bucket - 1] ?? 0;
  return lower + ((upper - lower) * (rank - below)) / ((counts[bucket] ?? 0) - below || 1);
}

/** The observations of each bucket alone. */
export function perBucket({ counts }: Histogram): readonly number[] {
  return counts.map((count, place) => count - (counts[place - 1] ?? 0));
}
