import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { count, perSecond } from "../../live/format.ts";
import { growth, type History, latest, rate } from "../../live/history.ts";
import { Card, Fact, Headline } from "../Card.tsx";

const events = (sample: Sample) => sample.domain?.events;

/** Long enough that a batch more or less does not make the figure jump. */
const RECENT_MS = 10_000;

/** How much is written to the log. */
export function Events({ history }: { readonly history: History }): ReactNode {
  const points = useMemo(() => rate(history, events, RECENT_MS), [history]);
  const recent = growth(history, events, RECENT_MS);
  return (
    <Card name="events" title="Events per second" aside="written to the log">
      <Headline value={perSecond(recent && (recent.ms > 0 ? (recent.count * 1_000) / recent.ms : 0))}>
        <Fact name="In a minute" value={count(growth(history, events)?.count)} />
        <Fact name="In all" value={count(latest(history)?.domain?.events)} />
      </Headline>
      <Line
        label="Events per second"
        points={points}
        now={history.at(-1)?.time ?? 0}
        color="flow"
        format={perSecond}
        unit="events a second"
        atLeast={2}
      />
    </Card>
  );
}
