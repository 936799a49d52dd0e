import { type Sample, sampleOf } from "../src/live/figures.ts";

/** Half past ten, at the beginning of a minute. */
export const T0 = Date.UTC(2026, 10, 25, 10, 30);

/** An update's data as the service publishes it (tests/service/test_live_figures.py holds it to that form). */
export function published(time: number, figures: Record<string, unknown> = {}, pipeline: Record<string, unknown> = {}) {
  return { time, current: true, figures, pipeline, processes: ["gateway-0", "projector"] };
}

/** A sample of one moment. */
export function sample(
  time: number,
  figures: Record<string, unknown> = {},
  pipeline: Record<string, unknown> = {},
): Sample {
  const made = sampleOf(published(time, figures, pipeline));
  if (made === undefined) throw new Error("not a sample");
  return made;
}

/** One sample a second, with figures by the second. */
export function seconds(from: number, to: number, figures: (second: number) => Record<string, unknown>): Sample[] {
  return Array.from({ length: to - from + 1 }, (_, place) =>
    sample(T0 + (from + place) * 1_000, figures(from + place)),
  );
}
