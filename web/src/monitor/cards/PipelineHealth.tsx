import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { bytes, count, durationText, plural } from "../../live/format.ts";
import { type Judged, type Tone, toneOf, toneOfAll, type Vitals, vitalsOf } from "../../live/health.ts";
import { type History, line } from "../../live/history.ts";
import { Card, Fact, Verdict } from "../Card.tsx";

const WORDS: Readonly<Record<Tone, string>> = { calm: "Healthy", watch: "Worth watching", alarm: "In trouble" };

/** How late the figures are: what waits in the journal, and then for the projections. */
const delay = ({ pipeline: { journalSeconds, lagSeconds } }: Sample) =>
  journalSeconds === undefined && lagSeconds === undefined ? undefined : (journalSeconds ?? 0) + (lagSeconds ?? 0);

/** Whether what happens on the sockets reaches the log and these figures, and how late. */
export function PipelineHealth({ history }: { readonly history: History }): ReactNode {
  const vitals = useMemo(() => vitalsOf(history), [history]);
  const points = useMemo(() => line(history, delay), [history]);
  const tone = vitals && toneOfAll(vitals);
  return (
    <Card name="pipeline" title="Pipeline health" aside={tone && <Verdict tone={tone}>{WORDS[tone]}</Verdict>}>
      <div className="split">
        <Facts vitals={vitals} />
        <Line
          label="Delay from socket to figures"
          caption
          points={points}
          now={history.at(-1)?.time ?? 0}
          color="flow"
          format={durationText}
          unit="behind"
          atLeast={1}
        />
      </div>
    </Card>
  );
}

function Facts({ vitals }: { readonly vitals: Vitals | undefined }): ReactNode {
  const lately = "99th percentile, last minute";
  const tone = (figure: Judged) => toneOf(figure, vitals?.[figure]);
  return (
    <dl className="facts">
      <Fact
        name="Oldest in the journal"
        value={durationText(vitals?.journalSeconds)}
        tone={tone("journalSeconds")}
        note={vitals && `${plural(vitals.journalEvents ?? 0, "event")} waiting · ${bytes(vitals.journalBytes)}`}
      />
      <Fact
        name="Projections behind"
        value={durationText(vitals?.lagSeconds)}
        tone={tone("lagSeconds")}
        note={vitals && `${plural(vitals.lagEvents ?? 0, "event")} to fold`}
      />
      <Fact
        name="Journal commit"
        value={durationText(vitals?.commitSeconds)}
        tone={tone("commitSeconds")}
        note={lately}
      />
      <Fact
        name="Event loop late by"
        value={durationText(vitals?.loopSeconds)}
        tone={tone("loopSeconds")}
        note={lately}
      />
      <Fact name="Events dropped" value={count(vitals?.dropped)} tone={tone("dropped")} note="since the start" />
      <Fact name="Dead letters" value={count(vitals?.deadLetters)} tone={tone("deadLetters")} note="not folded" />
    </dl>
  );
}
