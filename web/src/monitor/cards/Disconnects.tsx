import { type ReactNode, useCallback, useMemo } from "react";
import { Chart } from "../../charts/Chart.tsx";
import { barsOption } from "../../charts/options.ts";
import type { Palette } from "../../design/theme.ts";
import { type Sample, sum } from "../../live/figures.ts";
import { count, durationText, NONE, plural, shortClock, words } from "../../live/format.ts";
import { byMinute, growth, type History, MINUTE_MS, tableGrowth } from "../../live/history.ts";
import { endingOf, stacksOf } from "../../live/reasons.ts";
import { Card, Figure } from "../Card.tsx";

const ended = (sample: Sample) => sample.domain?.ended;
const endedInAll = (sample: Sample) => sample.domain && sum(sample.domain.ended);

/** Opacities of one initiator's reasons, from the most frequent on; each can still be told from its neighbours. */
const SHADES = [1, 0.66, 0.42, 0.3];

/** How many connections ended, why, and by whose doing. */
export function Disconnects({ history }: { readonly history: History }): ReactNode {
  const minutes = useMemo(() => byMinute(history, ended), [history]);
  const stacks = useMemo(() => stacksOf(minutes.map(({ counts }) => counts)), [minutes]);
  const grown = growth(history, endedInAll);
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
  const totals = minutes.map(({ counts }) => sum(counts));
  const most = [...lately].sort(([, one], [, other]) => other - one)[0];
  return (
    <Card name="disconnects" title="Disconnects per minute">
      <Figure value={count(grown?.count)} />
      <p className="note">
        {grown === undefined
          ? NONE
          : `in the last ${grown.ms < 0.95 * MINUTE_MS ? durationText(Math.round(grown.ms / 1_000)) : "minute"}` +
            (most ? `, most often ${words(endingOf(most[0]).reason)}` : ", none of them lost")}
      </p>
      <ul className="legend" aria-label="Reasons, last 10 minutes">
        {stacks.map(({ reason, initiator, place, values }) => (
          <li key={`${reason}/${initiator}`} data-initiator={initiator} data-shade={Math.min(place, 3)}>
            {words(reason)} <b>{count(values.reduce((one, other) => one + other, 0))}</b>
          </li>
        ))}
      </ul>
      <Chart
        label="Disconnects by minute and reason, last 10 minutes"
        summary={
          minutes.length === 0
            ? "No figures yet."
            : `${plural(
                totals.reduce((one, other) => one + other, 0),
                "disconnect",
              )} since ${shortClock(minutes[0]?.start ?? 0)}, at most ${count(Math.max(...totals))} in a minute.`
        }
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
