import { useConnection, useMessages } from "pulsetrail/react";
import { type ReactNode, useState } from "react";
import { count, durationText, NONE } from "../../live/format.ts";
import { Card, Fact, Verdict } from "../Card.tsx";
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
      aside={<Verdict tone={toneOfStatus(status)}>{STATES[status]}</Verdict>}
    >
      <dl className="facts own">
        <div className="long">
          <dt>Connection id</dt>
          <dd>
            <code>{id ?? NONE}</code>
          </dd>
        </div>
        <Fact name="Transport" value={transport} />
        <Fact name="Stream position" value={count(position)} note={epoch && `epoch ${epoch.slice(0, 8)}`} />
        <Fact
          name="Round trip"
          value={durationText(roundTripMs === undefined ? undefined : roundTripMs / 1_000)}
          note={offsetMs === undefined ? "not measured yet" : `server clock ${offset(offsetMs)}`}
        />
        <Fact name="Attempt" value={count(attempt)} note="retries since it was stable" />
        <Fact
          name="Resumed"
          value={resumed === undefined ? NONE : resumed ? "yes" : "no"}
          note={welcomes < 2 ? "first connection" : resumed ? "nothing was missed" : "a new stream began"}
        />
      </dl>
    </Card>
  );
}

function offset(ms: number): string {
  const size = durationText(Math.abs(ms) / 1_000);
  return Math.abs(ms) < 1 ? "agrees" : `${size} ${ms > 0 ? "ahead" : "behind"}`;
}
