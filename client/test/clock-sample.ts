import { estimateOf, withSample } from "../src/clock.ts";

/** The offset that a client finds whose server is `ahead`, over a path with a round trip of `rtt`, the same each way. */
export function sampleFrom(ahead: number, rtt: number): number {
  const sent = 1_800_000_000_000;
  const stamped = sent + rtt / 2 + ahead;
  return estimateOf(withSample([], stamped, sent + rtt, rtt)).offsetMs;
}
