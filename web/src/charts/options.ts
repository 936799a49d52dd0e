import type { BarSeriesOption, LineSeriesOption } from "echarts/charts";
import type { GridComponentOption, TooltipComponentOption } from "echarts/components";
import type { ComposeOption, LinearGradientObject } from "echarts/core";
import type { Color, Palette } from "../design/theme.ts";
import { clock, shortClock } from "../live/format.ts";
import type { Point } from "../live/history.ts";
import { WINDOW_MS } from "../live/history.ts";

export type ChartOption = ComposeOption<
  BarSeriesOption | LineSeriesOption | GridComponentOption | TooltipComponentOption
>;

function grid({ rem }: Palette) {
  return { left: 0, right: 0.3 * rem, top: 1.1 * rem, bottom: 1.4 * rem, outerBoundsMode: "none" } as const;
}

function text(palette: Palette) {
  return { color: palette.muted, fontFamily: palette.font, fontSize: 0.72 * palette.rem };
}

function tooltip(palette: Palette): TooltipComponentOption {
  return {
    trigger: "axis",
    // Drawn into the canvas: an element with a style attribute would be refused by the Content-Security-Policy.
    renderMode: "richText",
    backgroundColor: palette.raised,
    borderColor: palette.line,
    borderWidth: 1,
    padding: [8, 12],
    textStyle: { color: palette.text, fontFamily: palette.font, fontSize: 0.8 * palette.rem },
    axisPointer: { type: "line", lineStyle: { color: palette.muted, type: "solid", width: 1, opacity: 0.5 } },
    transitionDuration: 0,
  };
}

/** From zero to a round number, with a line there and one half way; the labels stand on the lines. */
function valueAxis(
  palette: Palette,
  format: (value: number) => string,
  highest: number,
): NonNullable<ChartOption["yAxis"]> {
  const max = niceCeiling(highest);
  return {
    type: "value",
    min: 0,
    max,
    interval: max / 2,
    axisLabel: {
      ...text(palette),
      inside: true,
      verticalAlign: "bottom",
      margin: 0,
      padding: [0, 0, 3, 0],
      formatter: (value: number) => (value === 0 ? "" : format(value)),
    },
    axisTick: { show: false },
    axisLine: { show: false },
    splitLine: { lineStyle: { color: palette.line } },
  };
}

/** The least number that is not below and whose half, where there is a grid line too, is a short one. */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  const steps = power < 10 ? [1, 2, 4, 6, 8, 10] : [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];
  return (steps.find((step) => step * power >= value) ?? 10) * power;
}

function timeAxis(palette: Palette, now: number): NonNullable<ChartOption["xAxis"]> {
  const minute = 60_000;
  return {
    type: "time",
    min: now - WINDOW_MS,
    max: now,
    splitNumber: 5,
    minInterval: 2 * minute,
    axisLabel: {
      ...text(palette),
      hideOverlap: true,
      // None where the edge would cut it.
      formatter: (value: number) => (Math.abs(now - WINDOW_MS / 2 - value) > 0.44 * WINDOW_MS ? "" : shortClock(value)),
    },
    axisTick: { show: false },
    axisLine: { lineStyle: { color: palette.line } },
    splitLine: { show: false },
    axisPointer: { label: { show: false } },
  };
}

/** From a third of a colour at the top of an area to next to nothing at its foot. */
function fading(color: string): LinearGradientObject {
  const [red, green, blue] = color.match(/[\d.]+/g) ?? [];
  const stop = (offset: number, opacity: number) => ({ offset, color: `rgba(${red}, ${green}, ${blue}, ${opacity})` });
  return { type: "linear", x: 0, y: 0, x2: 0, y2: 1, colorStops: [stop(0, 0.32), stop(1, 0.03)] };
}

export interface LineChart {
  readonly points: readonly Point[];
  readonly now: number;
  readonly unit: string;
  readonly color: Color;
  readonly format: (value: number) => string;
  readonly atLeast: number;
  readonly steps: boolean;
}

/** One figure over the last minutes, as a line with its area. */
export function lineOption(chart: LineChart, palette: Palette): ChartOption {
  const color = palette[chart.color];
  const newest = chart.points.at(-1);
  return {
    animation: false,
    grid: grid(palette),
    tooltip: {
      ...tooltip(palette),
      formatter: (parameters) => {
        const [first] = Array.isArray(parameters) ? parameters : [parameters];
        const [time, value] = (first?.value ?? [0, null]) as Point;
        return `${clock(time)}   ${value === null ? "no figures" : `${chart.format(value)} ${chart.unit}`}`;
      },
    },
    xAxis: timeAxis(palette, chart.now),
    yAxis: valueAxis(palette, chart.format, Math.max(chart.atLeast, ...chart.points.map(([, value]) => value ?? 0))),
    series: [
      {
        type: "line",
        data: chart.points.map(([time, value]) => [time, value]),
        showSymbol: false,
        step: chart.steps ? "end" : false,
        lineStyle: { color, width: 2 },
        itemStyle: { color },
        areaStyle: { color: fading(color) },
        emphasis: { disabled: true },
        connectNulls: false,
      },
      {
        type: "line",
        silent: true,
        tooltip: { show: false },
        data: newest && newest[1] !== null ? [[newest[0], newest[1]]] : [],
        symbol: "circle",
        symbolSize: 7,
        itemStyle: { color },
      },
    ],
  };
}

export interface StackedBars {
  /** Labels of the bars, in order. */
  readonly categories: readonly string[];
  readonly stacks: readonly {
    readonly name: string;
    readonly color: Color;
    readonly shade: number;
    readonly values: readonly number[];
  }[];
  readonly atLeast: number;
  readonly format: (value: number) => string;
}

/** Stacked bars; the last one is not over yet and paler. */
export function barsOption(chart: StackedBars, palette: Palette): ChartOption {
  const last = chart.categories.length - 1;
  const heights = chart.categories.map((_, place) =>
    chart.stacks.reduce((height, { values }) => height + (values[place] ?? 0), 0),
  );
  return {
    animation: false,
    grid: grid(palette),
    tooltip: {
      ...tooltip(palette),
      axisPointer: { type: "shadow", shadowStyle: { color: palette.muted, opacity: 0.1 } },
      formatter: (parameters) => {
        const list = Array.isArray(parameters) ? parameters : [parameters];
        const rows = list.filter(({ value }) => Number(value) > 0).reverse();
        const head = `${list[0]?.name ?? ""}${list[0]?.dataIndex === last ? ", so far" : ""}`;
        return [
          head,
          ...(rows.length ? rows.map((row) => `${chart.format(Number(row.value))}  ${row.seriesName}`) : ["none"]),
        ].join("\n");
      },
    },
    xAxis: {
      type: "category",
      data: [...chart.categories],
      axisLabel: { ...text(palette), hideOverlap: true },
      axisTick: { show: false },
      axisLine: { lineStyle: { color: palette.line } },
    },
    yAxis: valueAxis(palette, chart.format, Math.max(chart.atLeast, ...heights)),
    series: chart.stacks.map(({ name, color, shade, values }) => ({
      type: "bar",
      name,
      stack: "all",
      barCategoryGap: "28%",
      itemStyle: { color: palette[color], borderColor: palette.surface, borderWidth: 1 },
      emphasis: { disabled: true },
      // A bar of no height would still have its border.
      data: values.map((value, place) => ({
        value: value || null,
        itemStyle: { opacity: place === last ? shade * 0.55 : shade },
      })),
    })),
  };
}

/** A count as its part of all; nothing for none. */
export function share(count: number, counts: readonly number[]): string {
  const part = (100 * count) / counts.reduce((one, other) => one + other, 0);
  return count === 0 ? "" : part < 1 ? "< 1 %" : `${Math.round(part)} %`;
}

export interface Distribution {
  readonly labels: readonly string[];
  readonly counts: readonly number[];
  readonly color: Color;
  readonly format: (value: number) => string;
}

/** The buckets of a histogram, side by side. */
export function distributionOption(chart: Distribution, palette: Palette): ChartOption {
  return {
    animation: false,
    grid: grid(palette),
    tooltip: {
      ...tooltip(palette),
      axisPointer: { type: "shadow", shadowStyle: { color: palette.muted, opacity: 0.1 } },
      formatter: (parameters) => {
        const [first] = Array.isArray(parameters) ? parameters : [parameters];
        return `${first?.name ?? ""}   ${chart.format(Number(first?.value ?? 0))}`;
      },
    },
    xAxis: {
      type: "category",
      data: [...chart.labels],
      axisLabel: { ...text(palette), hideOverlap: true, interval: 0 },
      axisTick: { show: false },
      axisLine: { lineStyle: { color: palette.line } },
    },
    // Room for the labels above the highest bar.
    yAxis: {
      type: "value",
      min: 0,
      max: ({ max }) => 1.2 * max || 1,
      splitNumber: 2,
      axisLabel: { show: false },
      splitLine: { show: false },
    },
    series: [
      {
        type: "bar",
        data: [...chart.counts],
        barCategoryGap: "18%",
        itemStyle: { color: palette[chart.color], borderRadius: [3, 3, 0, 0] },
        label: {
          ...text(palette),
          show: true,
          position: "top",
          distance: 3,
          formatter: ({ value }) => share(Number(value), chart.counts),
        },
        emphasis: { disabled: true },
      },
    ],
  };
}
