import { type ReactNode, useCallback, useMemo } from "react";
import { Chart } from "../../charts/Chart.tsx";
import { distributionOption } from "../../charts/options.ts";
import type { Palette } from "../../design/theme.ts";
import type { Sample } from "../../live/figures.ts";
import { bounded, bucketLabels, count, NONE, plural } from "../../live/format.ts";
import { type History, observations, perBucket, quantile, size } from "../../live/history.ts";
import { Card, Fact, Headline } from "../Card.tsx";

const roundTrips = (sample: Sample) => sample.domain?.roundTrips;

/** From a heartbeat to the page's answer. */
export function RoundTrip({ history }: { readonly history: History }): ReactNode {
  const found = useMemo(() => observations(history, roundTrips), [history]);
  const answers = found ? size(found.histogram) : 0;
  const labels = useMemo(() => (found ? bucketLabels(found.histogram.bounds) : []), [found]);
  const counts = useMemo(() => (found ? perBucket(found.histogram) : []), [found]);
  const option = useCallback(
    (palette: Palette) =>
      distributionOption({ labels, counts, color: "time", format: (value) => plural(value, "answer") }, palette),
    [labels, counts],
  );
  const at = (share: number) => bounded(found && quantile(found.histogram, share), found?.histogram.bounds ?? []);
  const [value, unit] = at(0.95);
  const [median, highest] = [at(0.5).join(" "), at(0.99).join(" ")];
  return (
    <Card name="round-trip" title="Heartbeat round trip" aside="95th percentile">
      <Headline value={answers > 0 ? value : NONE} unit={unit}>
        {answers > 0 && (
          <>
            <Fact name="Median" value={median} />
            <Fact name="99th" value={highest} />
            <Fact name={found?.recent ? "In 10 minutes" : "In all"} value={count(answers)} />
          </>
        )}
      </Headline>
      {found && answers === 0 && (
        <p className="note">None on record yet: they are summed up every five minutes, and when a connection ends.</p>
      )}
      <Chart
        label="Heartbeat round trips by how long they took"
        summary={`Median ${median}, 95th percentile ${value} ${unit}, 99th ${highest}, of ${plural(answers, "answer")}.`}
        empty={answers === 0}
        option={option}
        table={() => ({
          columns: ["Up to", "Answers"],
          rows: labels.map((label, place) => [label, count(counts[place])]),
        })}
      />
    </Card>
  );
}
