/** The three figures that shape a wait, and its jitter. Milliseconds. */
export interface BackoffOptions {
  readonly backoffBaseMs: number;
  readonly backoffFactor: number;
  readonly backoffCapMs: number;
  readonly backoffJitterMs: number;
}

/** The wait before retry number `attempt` (from 1) without its jitter. */
export function baseFor(attempt: number, options: BackoffOptions): number {
  const raw = options.backoffBaseMs * options.backoffFactor ** (attempt - 1);
  return Math.min(raw, options.backoffCapMs - options.backoffJitterMs);
}

/**
 * The wait before retry number `attempt` (from 1); `random` is in [0, 1).
 *
 * The jitter is applied below the cap and not cut off by it: clamping after the jitter would make half of a fleet wait
 * exactly the cap.
 */
export function delayFor(attempt: number, options: BackoffOptions, random: number): number {
  return Math.max(0, baseFor(attempt, options) + (2 * random - 1) * options.backoffJitterMs);
}
