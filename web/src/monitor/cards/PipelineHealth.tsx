import { type ReactNode, useMemo } from "react";
import { Line } from "../../charts/Line.tsx";
import type { Sample } from "../../live/figures.ts";
import { bytes, count, durationText, plural } from "../../live/format.ts";
import { type Judged, type Tone, toneOf, toneOfAll, vitalsOf } from "../../live/health.ts";
import { type History, line } from "../../live/history.ts";
import { Card } from "../Card.tsx";

const WORDS: Readonly<Record<Tone, string>> = { calm: "Healthy", watch: "Worth watching", alarm: "In trouble" };

const lag = ({ pipeline }: Sample) =>
  pipeline.lagSeconds === undefined && pipeline.journalSeconds === undefined
    ? undefined
    : (pipeline.lagSeconds ?? 0) + (pipeline.journalSeconds ?? 0);

/** Whether what happens on the sockets reaches the log and these figures, and how late. */
export function PipelineHealth({ history }: { readonly history: History }): ReactNode {
  const vitals = useMemo(() => vitalsOf(history), [history]);
  const points = useMemo(() => line(history, lag), [history]);
  const tone = vitals && toneOfAll(vitals);
  return (
    <Card
      name="pipeline"
      title="Pipeline health"
      aside={
        tone && (
          <span className="verdict" data-tone={tone}>
            {WORDS[tone]}
          </span>
        )
      }
    >
      <div className="split">
        <dl className="facts">
          <Fact name="Oldest in the journal" figure="journalSeconds" value={vitals?.journalSeconds}>
            {durationText(vitals?.journalSeconds)}
            <small>
              {plural(vitals?.journalEvents ?? 0, "event")} waiting · {bytes(vitals?.journalBytes)}
            </small>
          </Fact>
          <Fact name="Projections behind" figure="lagSeconds" value={vitals?.lagSeconds}>
            {durationText(vitals?.lagSeconds)}
            <small>{plural(vitals?.lagEvents ?? 0, "event")} to fold</small>
          </Fact>
          <Fact name="Journal commit" figure="commitSeconds" value={vitals?.commitSeconds}>
            {durationText(vitals?.commitSeconds)}
            <small>99th percentile, last minute</small>
          </Fact>
          <Fact name="Event loop late by" figure="loopSeconds" value={vitals?.loopSeconds}>
            {durationText(vitals?.loopSeconds)}
            <small>99th percentile, last minute</small>
          </Fact>
          <Fact name="Events dropped" figure="dropped" value={vitals?.dropped}>
            {count(vitals?.dropped)}
            <small>since the start</small>
          </Fact>
          <Fact name="Dead letters" figure="deadLetters" value={vitals?.deadLetters}>
            {count(vitals?.deadLetters)}
            <small>could not be folded</small>
          </Fact>
        </dl>
        <Line
          label="From socket to figures, delay"
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

function Fact({
  name,
  figure,
  value,
  children,
}: {
  readonly name: string;
  readonly figure: Judged;
  readonly value: number | undefined;
  readonly children: ReactNode;
}): ReactNode {
  return (
    <div data-fact={figure}>
      <dt>{name}</dt>
      <dd data-tone={toneOf(figure, value)}>{children}</dd>
    </div>
  );
}
