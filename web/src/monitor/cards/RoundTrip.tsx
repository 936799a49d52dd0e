import { type ReactNode, useCallback, useMemo } from "react";
import { Chart } from "../../charts/Chart.tsx";
import { distributionOption } from "../../charts/options.ts";
import type { Palette } from "../../design/theme.ts";
import type { Sample } from "../../live/figures.ts";
import { count, duration, durationText, plural } from "../../live/format.ts";
import { type History, observations, perBucket, quantile, size } from "../../live/history.ts";
import { Card, Figure } from "../Card.tsx";

const roundTrips = (sample: Sample) => sample.domain?.roundTrips;

/** From a heartbeat to the page's answer. */
export function RoundTrip({ history }: { readonly history: History }): ReactNode {
  const found = useMemo(() => observations(history, roundTrips), [history]);
  const answers = found ? size(found.histogram) : 0;
  const buckets = useMemo(() => {
    if (!found) return [];
    const { bounds } = found.histogram;
    return perBucket(found.histogram).map((observed, place) => ({
      label: label(bounds, place),
      observed,
    }));
  }, [found]);
  const option = useCallback(
    (palette: Palette) =>
      distributionOption(
        {
          labels: buckets.map((bucket) => bucket.label),
          counts: buckets.map((bucket) => bucket.observed),
          color: "time",
          format: (value) => plural(value, "answer"),
        },
        palette,
      ),
    [buckets],
  );
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => found && atMost(quantile(found.histogram, share)));
  const [value, unit] = found && answers > 0 ? (p95 ?? []) : [];
  return (
    <Card name="round-trip" title="Heartbeat round trip" aside={<span className="aside">95th percentile</span>}>
      <Figure value={value ?? "–"} {...(unit && { unit })} />
      <p className="note">
        {answers === 0
          ? "No answer is on record yet: they are summed up every five minutes and at the end of a connection."
          : `median ${p50?.join(" ")} · 99th ${p99?.join(" ")} · ${plural(answers, "answer")} ${
              found?.recent ? "recorded in the last 10 minutes" : "since the log began"
            }`}
      </p>
      <Chart
        label="Heartbeat round trips by how long they took"
        summary={
          answers === 0
            ? "No figures yet."
            : `Median ${p50?.join(" ")}, 95th percentile ${p95?.join(" ")}, 99th ${p99?.join(" ")}, of ${count(answers)}.`
        }
        option={option}
        table={() => ({
          columns: ["Up to", "Answers"],
          rows: buckets.map((bucket) => [bucket.label, count(bucket.observed)]),
        })}
      />
    </Card>
  );
}

function label(bounds: readonly number[], place: number): string {
  const bound = bounds[place] ?? Infinity;
  return bound === Infinity ? `> ${durationText(bounds[place - 1])}` : durationText(bound);
}

function atMost(seconds: number | undefined): readonly [string, string] {
  return seconds === Infinity ? ["> 30", "s"] : duration(seconds);
}
