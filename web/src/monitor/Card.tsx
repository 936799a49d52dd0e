import { Stale } from "pulsetrail/react";
import { createContext, type ReactNode, useContext, useId } from "react";
import { durationText } from "../live/format.ts";

/** Since when the service has sent no figures of the connections, although it is connected; milliseconds. */
export const FiguresAge = createContext<number | undefined>(undefined);

export interface CardProps {
  /** Stable name, for styles and tests. */
  readonly name: string;
  readonly title: string;
  /** Beside the title: a unit or a state in a few words. */
  readonly aside?: ReactNode;
  readonly children: ReactNode;
  /** What it shows is known without the connection, and does not grow stale. */
  readonly local?: boolean;
}

/** One thing to look at, grey and with its age while it may be out of date. */
export function Card({ name, title, aside, children, local = false }: CardProps): ReactNode {
  const id = useId();
  const body = (
    <>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      {children}
    </>
  );
  return (
    <article className="card" data-card={name} aria-labelledby={id}>
      {local ? <div className="card-body">{body}</div> : <Ageing>{body}</Ageing>}
    </article>
  );
}

function Ageing({ children }: { readonly children: ReactNode }): ReactNode {
  const age = useContext(FiguresAge);
  if (age === undefined) return <Stale className="badge">{children}</Stale>;
  return (
    <div data-stale="true">
      <span className="badge">Stale, {durationText(Math.floor(age / 1_000))} old</span>
      {children}
    </div>
  );
}

/** The figure that is read from across the room. */
export function Figure({
  value,
  unit,
  tone,
}: {
  readonly value: string;
  readonly unit?: string;
  readonly tone?: "calm" | "watch" | "alarm";
}): ReactNode {
  return (
    <p className="figure" data-tone={tone}>
      <span className="value">{value}</span>
      {unit && (
        <>
          {" "}
          <span className="unit">{unit}</span>
        </>
      )}
    </p>
  );
}
