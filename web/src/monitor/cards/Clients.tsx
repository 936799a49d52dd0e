import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { count, plural } from "../../live/format.ts";
import { growth, type History, latest, line } from "../../live/history.ts";
import { Card, Figure } from "../Card.tsx";

const clients = (sample: Sample) => sample.domain?.clients;
const opened = (sample: Sample) => sample.domain?.opened;

/** How many are connected. */
export function Clients({ history }: { readonly history: History }): ReactNode {
  const points = useMemo(() => line(history, clients), [history]);
  const domain = latest(history)?.domain;
  const arrived = growth(history, opened)?.count ?? 0;
  return (
    <Card name="clients" title="Connected clients">
      <Figure value={count(domain?.clients)} />
      {domain && (
        <p className="note">
          on {plural(domain.nodes, "node")}, this page included · {count(arrived)} opened in the last minute
          {domain.silent > 0 && (
            <>
              {" · "}
              <strong data-tone="watch">{count(domain.silent)} not answering</strong>
            </>
          )}
        </p>
      )}
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
