import { createContext, lazy, type ReactNode, Suspense, useContext, useId } from "react";
import type { Palette } from "../design/theme.ts";
import type { ChartOption } from "./options.ts";

/** The figures of a chart as a table, for those who do not see it, and for those who want the numbers. */
export interface ChartTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface ChartProps {
  /** What the chart is of. */
  readonly label: string;
  /** What it shows, in a sentence. */
  readonly summary: string;
  /** Drawn anew when this is another function. */
  readonly option: (palette: Palette) => ChartOption;
  readonly table: () => ChartTable;
  /** There is nothing to draw yet. */
  readonly empty: boolean;
  /** Shown above the picture, if the card does not say what it is. */
  readonly caption?: string | undefined;
}

// The library is larger than all the rest: figures are there before it is.
const Picture = lazy(() => import("./Picture.tsx"));

/** Whether tables are shown in place of pictures. */
export const AsTables = createContext(false);

/** A picture and a sentence that says the same, or a table. */
export function Chart({ label, summary, option, table, empty, caption }: ChartProps): ReactNode {
  if (useContext(AsTables)) return <Table label={label} {...table()} />;
  return (
    <div className="chart" role="img" aria-label={`${label}. ${empty ? "No figures yet." : summary}`}>
      {caption && <p className="caption">{caption}</p>}
      {!empty && (
        <Suspense>
          <Picture option={option} />
        </Suspense>
      )}
    </div>
  );
}

function Table({ label, columns, rows }: ChartTable & { readonly label: string }): ReactNode {
  const id = useId();
  return (
    // What scrolls has to be reachable with the keyboard.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
    <section className="chart table" aria-labelledby={id} tabIndex={0}>
      <table>
        <caption id={id}>{label}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([first, ...others]) => (
            <tr key={first}>
              <th scope="row">{first}</th>
              {others.map((cell, place) => (
                <td key={columns[place + 1]}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
