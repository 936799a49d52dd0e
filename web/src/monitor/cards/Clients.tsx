import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { count } from "../../live/format.ts";
import { growth, type History, latest, line } from "../../live/history.ts";
import { Card, Fact, Headline } from "../Card.tsx";

const clients = (sample: Sample) => sample.domain?.clients;
const opened = (sample: Sample) => sample.domain?.opened;

/** How many are connected. */
export function Clients({ history }: { readonly history: History }): ReactNode {
  const points = useMemo(() => line(history, clients), [history]);
  const domain = latest(history)?.domain;
  return (
    <Card name="clients" title="Connected clients" aside="this page included">
      <Headline value={count(domain?.clients)}>
        <Fact name="Opened in a minute" value={count(growth(history, opened)?.count)} />
        <Fact
          name="Not answering"
          value={count(domain?.silent)}
          {...(domain && domain.silent > 0 && { tone: "watch" as const })}
        />
        <Fact name="Nodes" value={count(domain?.nodes)} />
      </Headline>
      <Line
        label="Connected clients"
        points={points}
        now={history.at(-1)?.time ?? 0}
        color="calm"
        format={count}
        unit="connected"
        atLeast={4}
        steps
      />
    </Card>
  );
}
