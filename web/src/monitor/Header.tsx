import { useConnection } from "pulsetrail/react";
import type { ReactNode } from "react";
import { chooseTheme, useTheme } from "../design/theme.ts";
import { clock, durationText } from "../live/format.ts";
import type { History } from "../live/history.ts";
import { STATES, toneOfStatus } from "./states.ts";

export interface HeaderProps {
  readonly history: History;
  readonly asTables: boolean;
  readonly setAsTables: (asTables: boolean) => void;
}

/** Where one is, whether it is live, and how it is shown. */
export function Header({ history, asTables, setAsTables }: HeaderProps): ReactNode {
  const status = useConnection((snapshot) => snapshot.status);
  const roundTripMs = useConnection((_, { clock: own }) => (own.samples > 0 ? 2 * own.errorMs : undefined));
  const theme = useTheme();
  const newest = history.at(-1)?.time;
  return (
    <header className="top">
      <div className="brand">
        <svg viewBox="0 0 40 24" width="40" height="24" aria-hidden="true">
          <path className="trail" d="M1 13h9l3.5-9 6 17 4-11 1.8 3H31" />
          <circle className="head" cx="35" cy="13" r="3.5" />
        </svg>
        <h1>
          Pulsetrail <span>Monitor</span>
        </h1>
      </div>
      <p className="link" data-tone={toneOfStatus(status)}>
        <span className="dot" aria-hidden="true" />
        {STATES[status]}
        {status === "live" && roundTripMs !== undefined && <small>{durationText(roundTripMs / 1_000)}</small>}
      </p>
      {newest !== undefined && (
        <p className="clock">
          <span className="unseen">Newest figures from </span>
          <time dateTime={new Date(newest).toISOString()}>{clock(newest)}</time>
        </p>
      )}
      <div className="controls">
        <button type="button" aria-pressed={asTables} onClick={() => setAsTables(!asTables)}>
          Tables
        </button>
        <button type="button" onClick={() => chooseTheme(theme === "dark" ? "light" : "dark")}>
          {theme === "dark" ? "Light" : "Dark"}
          <span className="unseen"> theme</span>
        </button>
      </div>
    </header>
  );
}
