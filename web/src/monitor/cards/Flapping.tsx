import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { count, NONE } from "../../live/format.ts";
import { growth, type History, latest, line, rate } from "../../live/history.ts";
import { Card, Figure } from "../Card.tsx";

const flapping = (sample: Sample) => sample.domain?.flapping;
const reconnects = (sample: Sample) => sample.domain?.reconnects;

/** Who cannot stay: clients whose penalty is above the threshold, and how often any of them came back. */
export function Flapping({ history }: { readonly history: History }): ReactNode {
  const domain = latest(history)?.domain;
  const known = domain?.flapping !== undefined;
  const points = useMemo(
    () =>
      known
        ? line(history, flapping)
        : rate(history, reconnects, 10_000).map(([time, value]) => [time, value === null ? null : value * 60] as const),
    [history, known],
  );
  const returned = growth(history, reconnects);
  return (
    <Card name="flapping" title="Flapping clients">
      <Figure value={domain?.flapping === undefined ? NONE : count(domain.flapping)} />
      <p className="note">
        {domain && !known && "This service does not judge flaps yet. "}
        {returned && `${count(returned.count)} reconnected in the last minute`}
      </p>
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
