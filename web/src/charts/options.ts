import type { BarSeriesOption, LineSeriesOption } from "echarts/charts";
import type { GridComponentOption, TooltipComponentOption } from "echarts/components";
import type { ComposeOption } from "echarts/core";
import type { Palette } from "../design/theme.ts";
import { clock, shortClock } from "../live/format.ts";
import type { Point } from "../live/history.ts";
import { WINDOW_MS } from "../live/history.ts";

export type ChartOption = ComposeOption<
  BarSeriesOption | LineSeriesOption | GridComponentOption | TooltipComponentOption
>;

const GRID = { left: 0, right: 0, top: 12, bottom: 22, outerBoundsMode: "none" } as const;

function text(palette: Palette) {
  return { color: palette.muted, fontFamily: palette.font, fontSize: 11 };
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
    textStyle: { color: palette.text, fontFamily: palette.font, fontSize: 12 },
    axisPointer: { type: "line", lineStyle: { color: palette.muted, type: "solid", width: 1, opacity: 0.5 } },
    transitionDuration: 0,
  };
}

function valueAxis(
  palette: Palette,
  format: (value: number) => string,
  atLeast: number,
): NonNullable<ChartOption["yAxis"]> {
  return {
    type: "value",
    min: 0,
    max: ({ max }: { max: number }) => niceCeiling(Math.max(max, atLeast)),
    splitNumber: 2,
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
    z: 3,
  };
}

/** The least of 1, 2, 4, 6, 10, 20, 40, … that is not below: halves of it are whole, so that two grid lines do. */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 4, 6, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function timeAxis(palette: Palette, now: number): NonNullable<ChartOption["xAxis"]> {
  const minute = 60_000;
  return {
    type: "time",
    min: now - WINDOW_MS,
    max: now,
    minInterval: 2 * minute,
    maxInterval: 5 * minute,
    axisLabel: { ...text(palette), hideOverlap: true, formatter: (value: number) => shortClock(value) },
    axisTick: { show: false },
    axisLine: { lineStyle: { color: palette.line } },
    splitLine: { show: false },
    axisPointer: { label: { show: false } },
  };
}

export interface LineChart {
  readonly points: readonly Point[];
  readonly now: number;
  readonly unit: string;
  readonly color: keyof Palette;
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
    grid: { ...GRID },
    tooltip: {
      ...tooltip(palette),
      formatter: (parameters) => {
        const [first] = Array.isArray(parameters) ? parameters : [parameters];
        const [time, value] = (first?.value ?? [0, null]) as Point;
        return `${clock(time)}   ${value === null ? "no figures" : `${chart.format(value)} ${chart.unit}`}`;
      },
    },
    xAxis: timeAxis(palette, chart.now),
    yAxis: valueAxis(palette, chart.format, chart.atLeast),
    series: [
      {
        type: "line",
        data: chart.points.map(([time, value]) => [time, value]),
        showSymbol: false,
        step: chart.steps ? "end" : false,
        lineStyle: { color, width: 2 },
        itemStyle: { color },
        areaStyle: { color, opacity: 0.14 },
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
    readonly color: keyof Palette;
    readonly shade: number;
    readonly values: readonly number[];
  }[];
  readonly atLeast: number;
  readonly format: (value: number) => string;
}

/** Stacked bars; the last one is not over yet and paler. */
export function barsOption(chart: StackedBars, palette: Palette): ChartOption {
  const last = chart.categories.length - 1;
  return {
    animation: false,
    grid: { ...GRID },
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
    yAxis: valueAxis(palette, chart.format, chart.atLeast),
    series: chart.stacks.map(({ name, color, shade, values }) => ({
      type: "bar",
      name,
      stack: "all",
      barCategoryGap: "28%",
      itemStyle: { color: palette[color], opacity: shade, borderColor: palette.surface, borderWidth: 1 },
      emphasis: { disabled: true },
      data: values.map((value, place) => (place === last ? { value, itemStyle: { opacity: shade * 0.55 } } : value)),
    })),
  };
}

export interface Distribution {
  readonly labels: readonly string[];
  readonly counts: readonly number[];
  readonly color: keyof Palette;
  readonly format: (value: number) => string;
}

/** The buckets of a histogram, side by side. */
export function distributionOption(chart: Distribution, palette: Palette): ChartOption {
  return {
    animation: false,
    grid: { ...GRID },
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
    yAxis: { type: "value", min: 0, splitNumber: 2, axisLabel: { show: false }, splitLine: { show: false } },
    series: [
      {
        type: "bar",
        data: [...chart.counts],
        barCategoryGap: "18%",
        itemStyle: { color: palette[chart.color], borderRadius: [3, 3, 0, 0] },
        emphasis: { disabled: true },
      },
    ],
  };
}
