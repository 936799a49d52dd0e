import { type ReactNode, useCallback } from "react";
import type { Color, Palette } from "../design/theme.ts";
import { shortClock } from "../live/format.ts";
import { minuteOf, type Point } from "../live/history.ts";
import { Chart, type ChartTable } from "./Chart.tsx";
import { lineOption } from "./options.ts";

export interface LineProps {
  /** What it is of, such as "Events per second". */
  readonly label: string;
  readonly points: readonly Point[];
  /** The right edge. */
  readonly now: number;
  readonly color: Color;
  /** A value as text; the axis uses it too. */
  readonly format: (value: number) => string;
  /** What the values are, after a number. */
  readonly unit: string;
  /** The axis reaches at least so far, so that noise about nothing does not fill the card. */
  readonly atLeast: number;
  readonly steps?: boolean;
  /** Say what it is of above it, where the card's title does not. */
  readonly caption?: boolean;
}

/** One figure over the last ten minutes. */
export function Line({
  label,
  points,
  now,
  color,
  format,
  unit,
  atLeast,
  steps = false,
  caption = false,
}: LineProps): ReactNode {
  const option = useCallback(
    (palette: Palette) => lineOption({ points, now, unit, color, format, atLeast, steps }, palette),
    [points, now, unit, color, format, atLeast, steps],
  );
  return (
    <Chart
      label={`${label}, last 10 minutes`}
      summary={summaryOf(points, format)}
      option={option}
      table={() => tableOf(points, label, format)}
      empty={points.length === 0}
      caption={caption ? label : undefined}
    />
  );
}

/** What a line shows, in a sentence. */
export function summaryOf(points: readonly Point[], format: (value: number) => string): string {
  const known = points.flatMap(([time, value]) => (value === null ? [] : [{ time, value }]));
  const [first] = known;
  const last = known.at(-1);
  if (first === undefined || last === undefined) return "";
  const values = known.map(({ value }) => value);
  return (
    `From ${shortClock(first.time)} to ${shortClock(last.time)}: lowest ${format(Math.min(...values))}, ` +
    `highest ${format(Math.max(...values))}, last ${format(last.value)}.`
  );
}

/** The last value of each minute, newest first. */
export function tableOf(points: readonly Point[], label: string, format: (value: number) => string): ChartTable {
  const byMinute = new Map<number, string>();
  for (const [time, value] of points) {
    if (value !== null) byMinute.set(minuteOf(time), format(value));
  }
  return { columns: ["Minute", label], rows: [...byMinute].map(([at, value]) => [shortClock(at), value]).reverse() };
}
