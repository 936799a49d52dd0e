import type { Pipeline, Sample } from "./figures.ts";
import { type History, observations, quantile } from "./history.ts";

/** `calm`: nothing to do. `watch`: it may settle by itself. `alarm`: somebody has to look. */
export type Tone = "calm" | "watch" | "alarm";

export interface Vitals {
  /** Seconds that the oldest event has waited for the log. */
  readonly journalSeconds: number | undefined;
  readonly journalEvents: number | undefined;
  readonly journalBytes: number | undefined;
  readonly lagSeconds: number | undefined;
  readonly lagEvents: number | undefined;
  /** 99th percentiles of the last minute, in seconds. */
  readonly commitSeconds: number | undefined;
  readonly loopSeconds: number | undefined;
  readonly dropped: number | undefined;
  readonly deadLetters: number | undefined;
  /** Whether a projector exports figures. */
  readonly folding: boolean;
}

const LATELY_MS = 60_000;

/** The pipeline now. */
export function vitalsOf(history: History): Vitals | undefined {
  const newest = history.at(-1);
  if (newest === undefined) return undefined;
  const late = (of: (from: Pipeline) => Pipeline["commits"]) => {
    const found = observations(history, (sample: Sample) => of(sample.pipeline), LATELY_MS);
    return found?.recent ? quantile(found.histogram, 0.99) : undefined;
  };
  return {
    ...newest.pipeline,
    folding: newest.domain !== undefined,
    commitSeconds: late(({ commits }) => commits),
    loopSeconds: late(({ loopLag }) => loopLag),
  };
}

/**
 * From where on a figure is to be watched, and from where on it is an alarm.
 *
 * Waiting: the shipper and the projector poll four times a second; from 5 s on something holds them up, after a minute
 * it is no restart of the database any more. Commits: a handshake waits for one. Loop: it shows in each
 * round trip; a tenth of a second is felt.
 * Dropped: the promise is none; dead letters wait for a person.
 */
const BOUNDS = {
  journalSeconds: [5, 60],
  lagSeconds: [5, 60],
  commitSeconds: [0.1, 1],
  loopSeconds: [0.1, 1],
  dropped: [1, 1],
  deadLetters: [1, Infinity],
} as const;

export type Judged = keyof typeof BOUNDS;

/** How one figure is to be taken. */
export function toneOf(figure: Judged, value: number | undefined): Tone {
  const [watch, alarm] = BOUNDS[figure];
  return value === undefined || value < watch ? "calm" : value < alarm ? "watch" : "alarm";
}

/** The worst of all. Without a projector it is never well: nobody knows how much waits for one. */
export function toneOfAll(vitals: Vitals): Tone {
  const tones = (Object.keys(BOUNDS) as Judged[]).map((figure) => toneOf(figure, vitals[figure]));
  if (tones.includes("alarm")) return "alarm";
  return tones.includes("watch") || !vitals.folding ? "watch" : "calm";
}
