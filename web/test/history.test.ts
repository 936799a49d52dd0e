import { describe, expect, it } from "vitest";
import type { Sample } from "../src/live/figures.ts";
import {
  byMinute,
  extended,
  growth,
  type History,
  latest,
  line,
  observations,
  perBucket,
  quantile,
  rate,
  tableGrowth,
  WINDOW_MS,
} from "../src/live/history.ts";
import { sample, seconds, T0 } from "./samples.ts";

const clients = ({ domain }: Sample) => domain?.clients;
const opened = ({ domain }: Sample) => domain?.opened;
const ended = ({ domain }: Sample) => domain?.ended;
const times = (history: History) => history.map(({ time }) => (time - T0) / 1_000);

describe("the history", () => {
  it("forgets what is older than the charts are wide", () => {
    const history = extended(
      [],
      seconds(0, 700, () => ({})),
    );
    expect(times(history)[0]).toBe(700 - WINDOW_MS / 1_000);
    expect(history.at(-1)?.time).toBe(T0 + 700_000);
  });

  it("puts a past that comes late where it belongs, without doubles", () => {
    const live = extended(
      [],
      seconds(5, 7, () => ({})),
    );
    expect(
      times(
        extended(
          live,
          seconds(3, 6, () => ({})),
        ),
      ),
    ).toEqual([3, 4, 5, 6, 7]);
  });

  it("knows the newest figures of the connections also while there are none", () => {
    const gone = { ...sample(T0 + 2_000), domain: undefined };
    expect(latest([sample(T0), gone])?.time).toBe(T0);
    expect(latest([gone])).toBeUndefined();
  });
});

describe("a line", () => {
  it("has the last value of each step", () => {
    const history = seconds(0, 5, (second) => ({ ws_updates_clients: { a: second } }));
    expect(line(history, clients, 2_000).map(([, value]) => value)).toEqual([1, 3, 5]);
  });

  it("breaks where there were no figures, rather than pretend that nothing changed", () => {
    const before = seconds(0, 1, () => ({ ws_updates_clients: { a: 1 } }));
    const after = seconds(60, 61, () => ({ ws_updates_clients: { a: 9 } }));
    expect(line([...before, ...after], clients, 1_000).map(([, value]) => value)).toEqual([1, 1, null, 9, 9]);
    const gone = { ...sample(T0 + 2_000), domain: undefined };
    expect(line([...before, gone], clients, 1_000).at(-1)?.[1]).toBeNull();
  });
});

describe("a rate", () => {
  it("is what a total grew by a second", () => {
    const history = seconds(0, 20, (second) => ({ ws_updates_connections_opened: 100 + 3 * second }));
    const points = rate(history, opened, 5_000);
    expect(points.map(([, value]) => value)).toEqual([3, 3, 3, 3]);
  });

  it("is never below zero when a total begins anew", () => {
    const history = seconds(0, 20, (second) => ({
      ws_updates_connections_opened: second < 10 ? 500 + second : second,
    }));
    for (const [, value] of rate(history, opened, 5_000)) expect(value).toBeGreaterThanOrEqual(0);
  });

  it("does not smear what happened in a gap over it", () => {
    const history = [
      ...seconds(0, 5, () => ({ ws_updates_connections_opened: 0 })),
      ...seconds(120, 125, () => ({ ws_updates_connections_opened: 600 })),
    ];
    expect(rate(history, opened, 5_000).map(([, value]) => value)).toEqual([0, null, 0]);
  });
});

describe("the growth of a total", () => {
  it("is that of the last minute, and says when it is of less", () => {
    const history = seconds(0, 300, (second) => ({ ws_updates_connections_opened: second }));
    expect(growth(history, opened)).toEqual({ count: 60, ms: 60_000 });
    expect(growth(history.slice(0, 11), opened)).toEqual({ count: 10, ms: 10_000 });
    expect(growth([], opened)).toBeUndefined();
  });

  it("by reason leaves out what did not grow", () => {
    const history = seconds(0, 90, (second) => ({
      ws_updates_disconnections: { "normal/client": 5, "peer_reset/unknown": second },
    }));
    expect([...tableGrowth(history, ended)]).toEqual([["peer_reset/unknown", 60]]);
  });
});

describe("the minutes", () => {
  it("are those of the clock, each with what grew in it", () => {
    const history = seconds(-90, 90, (second) => ({ ws_updates_disconnections: { "normal/client": 1_000 + second } }));
    const minutes = byMinute(history, ended);
    expect(minutes.map(({ start }) => (start - T0) / 60_000)).toEqual([-8, -7, -6, -5, -4, -3, -2, -1, 0, 1]);
    expect(minutes.slice(5).map(({ counts }) => counts.get("normal/client"))).toEqual([undefined, 30, 60, 60, 30]);
  });

  it("count an end once, whichever minutes there are", () => {
    const history = seconds(0, 599, (second) => ({ ws_updates_disconnections: { "normal/client": second } }));
    const all = byMinute(history, ended).reduce((sum, { counts }) => sum + (counts.get("normal/client") ?? 0), 0);
    expect(all).toBe(599);
  });
});

describe("a histogram", () => {
  const of = (counts: number[]) => ({ bounds: [0.1, 0.5, Infinity], counts });

  it("gives the quantiles between its bounds", () => {
    expect(quantile(of([100, 100, 100]), 0.5)).toBeCloseTo(0.05);
    expect(quantile(of([50, 100, 100]), 0.75)).toBeCloseTo(0.3);
    expect(quantile(of([0, 0, 5]), 0.5)).toBe(Infinity);
    expect(quantile(of([0, 0, 0]), 0.5)).toBeUndefined();
  });

  it("is taken apart into its buckets", () => {
    expect(perBucket(of([3, 5, 6]))).toEqual([3, 2, 1]);
  });

  it("shows the last minutes, and all of it while there was nothing in them", () => {
    const at = (second: number, observed: number) =>
      sample(T0 + second * 1_000, { ws_updates_heartbeat_rtt_seconds: { "0.1": observed, "+Inf": observed } });
    const roundTrips = ({ domain }: Sample) => domain?.roundTrips;
    expect(observations([at(0, 7), at(1, 7)], roundTrips)).toMatchObject({
      recent: false,
      histogram: { counts: [7, 7] },
    });
    expect(observations([at(0, 7), at(1, 9)], roundTrips)).toMatchObject({
      recent: true,
      histogram: { counts: [2, 2] },
    });
    expect(observations([], roundTrips)).toBeUndefined();
  });
});
