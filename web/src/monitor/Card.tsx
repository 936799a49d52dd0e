import { Stale } from "pulsetrail/react";
import { Children, createContext, type ReactNode, useContext, useId } from "react";
import { age, NONE } from "../live/format.ts";
import type { Tone } from "../live/health.ts";

/** Milliseconds for which the page has got none of the figures that a card shows, although it is connected. */
export const FiguresAge = createContext<number | undefined>(undefined);

export interface CardProps {
  /** Stable name, for styles and tests. */
  readonly name: string;
  readonly title: string;
  /** Beside the title: what the figure covers, or a state. */
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
        {aside && <span className="aside">{aside}</span>}
      </header>
      {children}
    </>
  );
  return (
    <article className="card" data-card={name} aria-labelledby={id}>
      {local ? <div>{body}</div> : <Ageing>{body}</Ageing>}
    </article>
  );
}

function Ageing({ children }: { readonly children: ReactNode }): ReactNode {
  const old = useContext(FiguresAge);
  if (old === undefined) return <Stale className="badge">{children}</Stale>;
  return (
    <div data-stale="true">
      <span className="badge">Stale, {age(old)} old</span>
      {children}
    </div>
  );
}

/** A state as a word with its colour. */
export function Verdict({ tone, children }: { readonly tone: Tone; readonly children: ReactNode }): ReactNode {
  return (
    <span className="verdict" data-tone={tone}>
      {children}
    </span>
  );
}

export interface HeadlineProps {
  readonly value: string;
  readonly unit?: string;
  /** The facts beside it. */
  readonly children?: ReactNode;
}

/** The figure that is read from across the room, and what explains it to those who stand nearer. */
export function Headline({ value, unit, children }: HeadlineProps): ReactNode {
  return (
    <div className="headline">
      <p className="figure" data-known={value !== NONE}>
        <span className="value">{value}</span>
        {unit && (
          <>
            {" "}
            <span className="unit">{unit}</span>
          </>
        )}
      </p>
      {Children.toArray(children).length > 0 && <dl>{children}</dl>}
    </div>
  );
}

export interface FactProps {
  readonly name: string;
  readonly value: ReactNode;
  /** A few words below it. */
  readonly note?: ReactNode;
  readonly tone?: Tone;
  /** Whose colour it has. */
  readonly initiator?: string;
}

/** A figure with its name, in a list of them. */
export function Fact({ name, value, note, tone, initiator }: FactProps): ReactNode {
  return (
    <div data-initiator={initiator}>
      <dt>{name}</dt>
      <dd data-tone={tone}>
        {value}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}
