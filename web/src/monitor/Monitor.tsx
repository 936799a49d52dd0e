import type { Client } from "pulsetrail";
import { ConnectionBanner, ConnectionProvider, useResilientWebSocket } from "pulsetrail/react";
import { type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { AsTables } from "../charts/Chart.tsx";
import { latest } from "../live/history.ts";
import type { LiveFigures } from "../live/store.ts";
import { FiguresAge } from "./Card.tsx";
import { Clients } from "./cards/Clients.tsx";
import { Disconnects } from "./cards/Disconnects.tsx";
import { Events } from "./cards/Events.tsx";
import { Flapping } from "./cards/Flapping.tsx";
import { OwnConnection } from "./cards/OwnConnection.tsx";
import { PipelineHealth } from "./cards/PipelineHealth.tsx";
import { RoundTrip } from "./cards/RoundTrip.tsx";
import type { Credentials } from "./credentials.ts";
import { useLateness } from "./freshness.ts";
import { Header } from "./Header.tsx";
import { Notices } from "./Notices.tsx";
import { asksForToken, STATES } from "./states.ts";

export interface MonitorProps {
  readonly client: Client;
  readonly figures: LiveFigures;
  readonly access: Credentials;
}

/** The page that a team puts on its wall. */
export function Monitor({ client, figures, access }: MonitorProps): ReactNode {
  const { snapshot } = useResilientWebSocket(client);
  const history = useSyncExternalStore(figures.subscribe, figures.getSnapshot);
  const late = useLateness(snapshot, latest(history)?.time);
  const silent = useLateness(snapshot, history.at(-1)?.time);
  const [asTables, setAsTables] = useState(false);
  const known = latest(history) !== undefined;
  const asks = asksForToken(snapshot);
  useEffect(() => {
    document.title =
      snapshot.status === "live" ? "Pulsetrail Monitor" : `${STATES[snapshot.status]} – Pulsetrail Monitor`;
  }, [snapshot.status]);
  return (
    <ConnectionProvider value={client}>
      <AsTables value={asTables}>
        <FiguresAge value={known ? late : undefined}>
          <div
            className="monitor"
            data-connection-state={snapshot.status}
            data-stale={snapshot.stale || late !== undefined}
            data-figures={known ? "present" : "none"}
          >
            <Header history={history} asTables={asTables} setAsTables={setAsTables} />
            <main aria-label="Live figures">
              <ConnectionBanner
                {...(asks && { stopped: () => "Live updates stopped. The service asks for a token." })}
              />
              <Notices history={history} access={access} late={late} />
              <div className="cards">
                <Clients history={history} />
                <Disconnects history={history} />
                <Events history={history} />
                <RoundTrip history={history} />
                <Flapping history={history} />
                <FiguresAge value={silent}>
                  <PipelineHealth history={history} />
                </FiguresAge>
                <OwnConnection />
              </div>
            </main>
          </div>
        </FiguresAge>
      </AsTables>
    </ConnectionProvider>
  );
}
