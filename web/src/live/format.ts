/** Figures as people read them. English, like the page. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const SHORT_CLOCK = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Stands for a figure that there is not. */
export const NONE = "–";

/** A number of things; from 100,000 on in thousands, so that it stays readable from afar. */
export function count(value: number | undefined): string {
  if (value === undefined) return NONE;
  return value < 100_000 ? WHOLE.format(value) : COMPACT.format(value);
}

/** A rate: with a decimal while it is small. */
export function perSecond(value: number | undefined): string {
  if (value === undefined) return NONE;
  return value > 0 && value < 9.95 ? value.toFixed(1) : count(Math.round(value));
}

/** A duration in seconds, in the unit that suits it, to two or three digits: `["250", "ms"]`. */
export function duration(seconds: number | undefined): readonly [figure: string, unit: string] {
  if (seconds === undefined) return [NONE, ""];
  if (seconds === 0) return ["0", "s"];
  if (seconds < 0.0995) return [digits(seconds * 1_000), "ms"];
  if (seconds < 0.9995) return [WHOLE.format(seconds * 1_000), "ms"];
  if (seconds < 99.5) return [digits(seconds), "s"];
  if (seconds < 5_970) return [WHOLE.format(seconds / 60), "min"];
  if (seconds < 172_800) return [WHOLE.format(seconds / 3_600), "h"];
  return [WHOLE.format(seconds / 86_400), "d"];
}

function digits(value: number): string {
  return value >= 9.95 ? WHOLE.format(value) : value.toFixed(1);
}

/** A duration in seconds as one piece of text. */
export function durationText(seconds: number | undefined): string {
  return duration(seconds).join(" ").trim();
}

/** How old something is, in whole units. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  return seconds < 100 ? `${seconds} s` : durationText(seconds);
}

/** A duration that may be above the highest bound of a histogram: `["> 30", "s"]`. */
export function bounded(seconds: number | undefined, bounds: readonly number[]): readonly [string, string] {
  if (seconds !== Infinity) return duration(seconds);
  const [figure, unit] = duration(bounds.at(-2));
  return [`> ${figure}`, unit];
}

/** The upper bounds of a histogram, with the unit where it is another than before: `5 ms`, `10`, `1 s`, `> 1 s`. */
export function bucketLabels(bounds: readonly number[]): readonly string[] {
  let before = "";
  return bounds.map((bound, place) => {
    if (bound === Infinity) return `> ${short(duration(bounds[place - 1]))[0]}`;
    const [figure, unit] = short(duration(bound));
    const label = unit === before ? figure : `${figure} ${unit}`;
    before = unit;
    return label;
  });
}

function short([figure, unit]: readonly [string, string]): readonly [string, string] {
  return [figure.replace(/\.0$/, ""), unit];
}

/** A size in bytes, in powers of 1,024. */
export function bytes(value: number | undefined): string {
  if (value === undefined) return NONE;
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${power > 0 && scaled < 9.95 ? scaled.toFixed(1) : WHOLE.format(scaled)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** Hours, minutes and seconds. */
export function clock(time: number): string {
  return CLOCK.format(time);
}

/** Hours and minutes. */
export function shortClock(time: number): string {
  return SHORT_CLOCK.format(time);
}

/** A word of the protocol as words. */
export function words(term: string): string {
  return term.replaceAll("_", " ");
}

/** One or several. */
export function plural(value: number, one: string, several = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : several}`;
}
