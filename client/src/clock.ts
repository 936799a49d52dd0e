/** Both clocks at one moment, in milliseconds. */
export interface Instant {
  readonly wall: number;
  readonly mono: number;
}

/** One estimate of `server - client`, and how wrong it may be: half the round trip. */
export interface ClockSample {
  readonly offsetMs: number;
  readonly errorMs: number;
}

/** What is known of the server's clock: the best sample, and of how many. */
export interface ClockEstimate extends ClockSample {
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
  const errorMs = rttMs / 2;
  return [...samples, { offsetMs: serverMs - wallMs + errorMs, errorMs }].slice(-KEPT);
}

/** The sample with the smallest round trip counts: the least of its time was spent in queues. */
export function estimateOf(samples: readonly ClockSample[]): ClockEstimate {
  const [best] = [...samples].sort((one, other) => one.errorMs - other.errorMs);
  return { offsetMs: 0, errorMs: 0, ...best, samples: samples.length };
}
