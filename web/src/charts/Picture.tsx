import { type ReactNode, useEffect, useRef } from "react";
import { usePalette } from "../design/theme.ts";
import type { ChartProps } from "./Chart.tsx";
import { type EChartsType, init } from "./echarts.ts";

/** What ECharts draws, in the size of the box that it stands in and in the colours of the theme. */
export default function Picture({ option }: Pick<ChartProps, "option">): ReactNode {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType>(undefined);
  const palette = usePalette();
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = init(element, null, { renderer: "canvas" });
    chart.current = made;
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.dispose();
    };
  }, []);
  useEffect(() => {
    // Series are replaced, the rest is kept: what the pointer shows stays when new figures come.
    chart.current?.setOption(option(palette), { replaceMerge: ["series"] });
  }, [option, palette]);
  return <div ref={box} className="picture" />;
}
