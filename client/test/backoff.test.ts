import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { baseFor, DEFAULTS, delayFor } from "../src/index.ts";

const options = fc
  .record({
    backoffBaseMs: fc.integer({ min: 100, max: 10_000 }),
    backoffFactor: fc.double({ min: 1, max: 3, noNaN: true }),
    backoffCapMs: fc.integer({ min: 11_000, max: 600_000 }),
    backoffJitterMs: fc.integer({ min: 0, max: 500 }),
  })
  .filter(({ backoffBaseMs, backoffJitterMs }) => backoffBaseMs >= backoffJitterMs);
const attempt = fc.integer({ min: 1, max: 1_000 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe("backoff", () => {
  it("waits 2, 3, 4.5, ... seconds and never longer than a minute", () => {
    const waits = [1, 2, 3, 4, 9, 10, 30].map((n) => delayFor(n, DEFAULTS, 0.5));
    expect(waits).toEqual([2_000, 3_000, 4_500, 6_750, 51_257.8125, 59_500, 59_500]);
  });

  it("stays within the jitter around the base, and within zero and the cap", () => {
    fc.assert(
      fc.property(attempt, options, random, (n, figures, chance) => {
        const delay = delayFor(n, figures, chance);
        expect(Math.abs(delay - baseFor(n, figures))).toBeLessThanOrEqual(figures.backoffJitterMs + 1e-6);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(figures.backoffCapMs);
      }),
    );
  });

  it("spreads a fleet at the cap: half of it does not wait exactly 60.000 s", () => {
    const waits = Array.from({ length: 1_000 }, (_, client) => delayFor(20, DEFAULTS, client / 1_000));
    expect(new Set(waits).size).toBe(1_000);
    expect(Math.min(...waits)).toBe(59_000);
    expect(Math.max(...waits)).toBeLessThan(60_000);
  });

  it("spreads at any cap as widely as the jitter says", () => {
    fc.assert(
      fc.property(options, (figures) => {
        const spread = delayFor(1_000, figures, 1 - Number.EPSILON) - delayFor(1_000, figures, 0);
        if (figures.backoffFactor > 1.1) expect(spread).toBeCloseTo(2 * figures.backoffJitterMs, 3);
      }),
    );
  });
});
