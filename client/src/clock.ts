/** Both clocks at one moment, in milliseconds. */
export interface Instant {
  readonly wall: number;
  readonly mono: number;
}

/** One estimate of `server - client`. */
export interface ClockSample {
  readonly offsetMs: number;
  readonly rttMs: number;
}

/** What is known of the server's clock: `server - client`, half the round trip as its error, and from how many samples. */
export interface ClockEstimate {
  readonly offsetMs: number;
  readonly errorMs: number;
  readonly samples: number;
}

const KEPT = 8;
const JUMP_MS = 2_000;

/** By how much the wall clock jumped between two moments; 0 for what is no more than being set right. */
export function jumpBetween(from: Instant, to: Instant): number {
  const jump = to.wall - from.wall - (to.mono - from.mono);
  return Math.abs(jump) > JUMP_MS ? jump : 0;
}

/**
 * The newest eight samples, with one of a time stamp that the server made half a round trip before the client's clock
 * read `wallMs`.
 *
 * The offset is positive when the server's clock is ahead.
 */
export function withSample(
  samples: readonly ClockSample[],
  serverMs: number,
  wallMs: number,
  rttMs: number,
): readonly ClockSample[] {
  return [...samples, { offsetMs: serverMs - (wallMs - rttMs / 2), rttMs }].slice(-KEPT);
}

/** The sample with the smallest round trip counts: the least of its time was spent in queues. */
export function estimateOf(samples: readonly ClockSample[]): ClockEstimate {
  const [best] = [...samples].sort((one, other) => one.rttMs - other.rttMs);
  return { offsetMs: best?.offsetMs ?? 0, errorMs: (best?.rttMs ?? 0) / 2, samples: samples.length };
}
