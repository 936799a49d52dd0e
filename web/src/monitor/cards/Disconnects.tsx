import { type ReactNode, useCallback, useMemo } from "react";
import { Chart } from "../../charts/Chart.tsx";
import { barsOption } from "../../charts/options.ts";
import type { Palette } from "../../design/theme.ts";
import { type Sample, sum } from "../../live/figures.ts";
import { count, plural, shortClock, words } from "../../live/format.ts";
import { byMinute, type History, latest, spanOf, tableGrowth } from "../../live/history.ts";
import { byInitiator, stacksOf } from "../../live/reasons.ts";
import { Card, Fact, Headline } from "../Card.tsx";

const ended = (sample: Sample) => sample.domain?.ended;

/** Opacities of one initiator's reasons, from the most frequent on; each can still be told from its neighbours. */
const SHADES = [1, 0.66, 0.42, 0.3];

/** How many connections ended, why, and by whose doing. */
export function Disconnects({ history }: { readonly history: History }): ReactNode {
  const minutes = useMemo(() => byMinute(history, ended), [history]);
  const stacks = useMemo(() => stacksOf(minutes.map(({ counts }) => counts)), [minutes]);
  const lately = useMemo(() => tableGrowth(history, ended), [history]);
  const option = useCallback(
    (palette: Palette) =>
      barsOption(
        {
          categories: minutes.map(({ start }) => shortClock(start)),
          stacks: stacks.map(({ reason, initiator, place, values }) => ({
            name: `${words(reason)} (${initiator})`,
            color: initiator,
            shade: SHADES[place] ?? 0.3,
            values,
          })),
          atLeast: 4,
          format: count,
        },
        palette,
      ),
    [minutes, stacks],
  );
  const known = latest(history) !== undefined;
  const totals = minutes.map(({ counts }) => sum(counts));
  const all = totals.reduce((one, other) => one + other, 0);
  const covered = Math.round(spanOf(history) / 1_000);
  return (
    <Card
      name="disconnects"
      title="Disconnects per minute"
      aside={`in the last ${known && covered < 57 ? `${covered} s` : "minute"}`}
    >
      <Headline value={count(known ? sum(lately) : undefined)}>
        {byInitiator(lately).map(([initiator, value]) => (
          <Fact key={initiator} name={`By ${initiator}`} value={count(value)} initiator={initiator} />
        ))}
      </Headline>
      {stacks.length > 0 && (
        <ul className="legend" aria-label="Reasons in the last 10 minutes">
          {stacks.map(({ reason, initiator, place, values }) => (
            <li key={`${reason}/${initiator}`} data-initiator={initiator} data-shade={Math.min(place, 3)}>
              {words(reason)} <b>{count(values.reduce((one, other) => one + other, 0))}</b>
            </li>
          ))}
        </ul>
      )}
      <Chart
        label="Disconnects by minute and reason, last 10 minutes"
        summary={`${plural(all, "disconnect")} in all, at most ${count(Math.max(...totals))} in a minute.`}
        empty={!known}
        option={option}
        table={() => ({
          columns: ["Minute", "All", ...stacks.map(({ reason, initiator }) => `${words(reason)} (${initiator})`)],
          rows: minutes
            .map(({ start }, place) => [
              shortClock(start),
              count(totals[place]),
              ...stacks.map(({ values }) => count(values[place])),
            ])
            .reverse(),
        })}
      />
    </Card>
  );
}
