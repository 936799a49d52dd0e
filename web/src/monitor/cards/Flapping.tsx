import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { count } from "../../live/format.ts";
import { growth, type History, latest, line, rate } from "../../live/history.ts";
import { Card, Fact, Headline } from "../Card.tsx";

const flapping = (sample: Sample) => sample.domain?.flapping;
const reconnects = (sample: Sample) => sample.domain?.reconnects;

/** Who cannot stay: clients whose penalty is above the threshold, and how often any of them came back. */
export function Flapping({ history }: { readonly history: History }): ReactNode {
  const domain = latest(history)?.domain;
  const known = domain?.flapping !== undefined;
  // Reconnects as long as there is nothing better: who comes back often may be flapping.
  const points = useMemo(
    () =>
      known
        ? line(history, flapping)
        : rate(history, reconnects, 10_000).map(([time, value]) => [time, value === null ? null : value * 60] as const),
    [history, known],
  );
  return (
    <Card name="flapping" title="Flapping clients">
      <Headline value={count(domain?.flapping)}>
        <Fact name="Reconnects in a minute" value={count(growth(history, reconnects)?.count)} />
      </Headline>
      {domain && !known && <p className="note">This service does not judge flaps; the chart has the reconnects.</p>}
      <Line
        label={known ? "Flapping clients" : "Reconnects per minute"}
        points={points}
        now={history.at(-1)?.time ?? 0}
        color="flap"
        format={count}
        unit={known ? "flapping" : "reconnects a minute"}
        atLeast={4}
        steps={known}
      />
    </Card>
  );
}
