import type { BackoffOptions } from "./backoff.ts";

/** Every figure of the client. Times in milliseconds. */
export interface Figures extends BackoffOptions {
  /** The first wait. */
  readonly backoffBaseMs: number;
  /** What each further wait is multiplied with. */
  readonly backoffFactor: number;
  /** No wait is longer, jitter included. */
  readonly backoffCapMs: number;
  /** Half the width of the random part of a wait. */
  readonly backoffJitterMs: number;
  /** Retries without a stable connection after which the client is `failed`. */
  readonly maxAttempts: number;
  /** How long a connection has to last for the count of attempts to start again. */
  readonly stableMs: number;
  /** Expected time between two heartbeats, until `welcome` gives the server's. */
  readonly heartbeatMs: number;
  /** Overdue heartbeats after which the connection is given up, until `welcome` gives the server's. */
  readonly missLimit: number;
  /** Time for an attempt to reach `welcome`: token, socket and all. */
  readonly attemptTimeoutMs: number;
  /** Time for the answer to a probe. */
  readonly probeTimeoutMs: number;
  /** Attempts in a row without a `welcome` after which polling begins. */
  readonly pollAfter: number;
  /** Time between two polls, give or take a fifth. */
  readonly pollMs: number;
  /** Visible downtime after which the banner is shown. */
  readonly bannerAfterMs: number;
}

/** The defaults; the package's README has the reason for each. */
export const DEFAULTS: Figures = {
  backoffBaseMs: 2_000,
  backoffFactor: 1.5,
  backoffCapMs: 60_000,
  backoffJitterMs: 500,
  maxAttempts: 30,
  stableMs: 120_000,
  heartbeatMs: 30_000,
  missLimit: 2,
  attemptTimeoutMs: 15_000,
  probeTimeoutMs: 5_000,
  pollAfter: 4,
  pollMs: 15_000,
  bannerAfterMs: 5_000,
};

/**
 * The figures that are set in an environment such as Vite's `import.meta.env`: `VITE_PULSETRAIL_BACKOFF_CAP_MS` is
 * `backoffCapMs`.
 *
 * @throws RangeError if one is not a number of zero or more.
 */
export function figuresFrom(
  environment: Readonly<Record<string, unknown>>,
  prefix = "VITE_PULSETRAIL_",
): Partial<Figures> {
  const figures: Record<string, number> = {};
  for (const key of Object.keys(DEFAULTS)) {
    const name = prefix + key.replace(/[A-Z]/g, "_$&").toUpperCase();
    const value = environment[name];
    if (!value) continue;
    figures[key] = Number(value);
    if (!(figures[key] >= 0)) throw new RangeError(`${name} is not a number of zero or more: ${value}`);
  }
  return figures;
}
