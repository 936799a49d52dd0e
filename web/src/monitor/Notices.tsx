import { useClient, useConnection } from "pulsetrail/react";
import { type FormEvent, type ReactNode, useState } from "react";
import { age } from "../live/format.ts";
import { type History, latest } from "../live/history.ts";
import type { Credentials } from "./credentials.ts";
import { asksForToken } from "./states.ts";

export interface NoticesProps {
  readonly history: History;
  readonly access: Credentials;
  /** Milliseconds without figures of the connections, although connected. */
  readonly late: number | undefined;
}

/** What is missing for the page to be of use, and what to do about it. At most one of these at a time. */
export function Notices({ history, access, late }: NoticesProps): ReactNode {
  const status = useConnection((snapshot) => snapshot.status);
  const reason = useConnection((snapshot) => snapshot.reason);
  const degraded = useConnection((snapshot) => snapshot.degraded);
  if (asksForToken({ status, reason })) return <Token access={access} />;
  if (status !== "live") return null;
  if (degraded !== undefined) {
    return (
      <Notice tone="watch" title="The service has suspended its broadcast.">
        Figures come again when its source answers; <code>/readyz</code> says what is wrong.
      </Notice>
    );
  }
  if (late !== undefined) return <NoFigures history={history} late={late} />;
  const domain = latest(history)?.domain;
  if (domain && domain.clients <= 1 && domain.opened <= 1) return <Empty />;
  return null;
}

function NoFigures({ history, late }: { readonly history: History; readonly late: number }): ReactNode {
  if (history.length === 0) {
    return (
      <Notice tone="watch" title="The service publishes no live figures.">
        Set <code>PULSETRAIL_LIVE_FIGURES_INTERVAL=1</code> and start it again.
      </Notice>
    );
  }
  return (
    <Notice tone="watch" title={`No figures of the connections for ${age(late)}.`}>
      They are folded from the log: is its database there, and does a projector run (
      <code>pulsetrail projections lag</code>)?
    </Notice>
  );
}

function Empty(): ReactNode {
  const at = new URL("ws/updates", document.baseURI).href.replace(/^http/, "ws");
  return (
    <Notice tone="calm" title="Only this page is connected so far.">
      Point a client at <code>{at}</code>, or stop the service and run <code>pulsetrail demo</code> for a dozen
      simulated ones.
    </Notice>
  );
}

function Token({ access }: { readonly access: Credentials }): ReactNode {
  const client = useClient();
  const [token, setToken] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    access.give(token.trim());
    setToken("");
    client.retryNow();
  };
  return (
    <Notice tone="alarm" title="This service asks for a bearer token.">
      It runs with <code>PULSETRAIL_AUTH_MODE={access.mode}</code>; the token has to be signed with its{" "}
      <code>PULSETRAIL_JWT_KEY</code>, and is kept in this tab only.
      <form onSubmit={submit}>
        <label>
          Bearer token{" "}
          <input
            type="password"
            autoComplete="off"
            required
            value={token}
            onChange={(event) => setToken(event.target.value)}
          />
        </label>
        <button type="submit">Connect</button>
      </form>
    </Notice>
  );
}

function Notice({
  tone,
  title,
  children,
}: {
  readonly tone: "calm" | "watch" | "alarm";
  readonly title: string;
  readonly children: ReactNode;
}): ReactNode {
  return (
    <section className="notice" data-tone={tone} aria-label={title}>
      <h2>{title}</h2>
      <div>{children}</div>
    </section>
  );
}
