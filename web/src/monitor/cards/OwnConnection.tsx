import { useConnection, useMessages } from "pulsetrail/react";
import { type ReactNode, useState } from "react";
import { count, durationText, NONE } from "../../live/format.ts";
import { Card } from "../Card.tsx";
import { STATES, toneOfStatus } from "../states.ts";

/** This page is a client like any other; what it knows of its own connection. */
export function OwnConnection(): ReactNode {
  const status = useConnection((snapshot) => snapshot.status);
  const transport = useConnection((snapshot) => snapshot.transport);
  const attempt = useConnection((snapshot) => snapshot.attempt);
  const id = useConnection((snapshot) => snapshot.connectionId);
  const position = useConnection((_, { stream }) => stream?.position);
  const epoch = useConnection((_, { stream }) => stream?.epoch);
  // The smallest of the last round trips: its error is half of it.
  const roundTripMs = useConnection((_, { clock }) => (clock.samples > 0 ? 2 * clock.errorMs : undefined));
  const offsetMs = useConnection((_, { clock }) => (clock.samples > 0 ? clock.offsetMs : undefined));
  const [resumed, setResumed] = useState<boolean | undefined>(undefined);
  const [welcomes, setWelcomes] = useState(0);
  useMessages("welcome", (welcome) => {
    setResumed(welcome.resumed);
    setWelcomes((before) => before + 1);
  });
  return (
    <Card
      name="connection"
      title="This page’s connection"
      local
      aside={
        <span className="verdict" data-tone={toneOfStatus(status)}>
          {STATES[status]}
        </span>
      }
    >
      <dl className="facts own">
        <div className="whole">
          <dt>Connection</dt>
          <dd>
            <code>{id ?? NONE}</code>
          </dd>
        </div>
        <Item name="Stream position" value={position === undefined ? NONE : count(position)}>
          {epoch && <small title={epoch}>epoch {epoch.slice(0, 8)}</small>}
        </Item>
        <Item name="Round trip" value={durationText(roundTripMs === undefined ? undefined : roundTripMs / 1_000)}>
          <small>{offsetMs === undefined ? "not measured yet" : `server clock ${offset(offsetMs)}`}</small>
        </Item>
        <Item name="Attempt" value={count(attempt)}>
          <small>retries since it was stable</small>
        </Item>
        <Item name="Resumed" value={resumed === undefined ? NONE : resumed ? "yes" : "no"}>
          <small>{welcomes < 2 ? "first connection" : resumed ? "nothing was missed" : "a new stream began"}</small>
        </Item>
        <Item name="Transport" value={transport} />
      </dl>
    </Card>
  );
}

function Item({
  name,
  value,
  children,
}: {
  readonly name: string;
  readonly value: string;
  readonly children?: ReactNode;
}): ReactNode {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {value}
        {children}
      </dd>
    </div>
  );
}

function offset(ms: number): string {
  const size = durationText(Math.abs(ms) / 1_000);
  return Math.abs(ms) < 1 ? "agrees" : `${size} ${ms > 0 ? "ahead" : "behind"}`;
}
