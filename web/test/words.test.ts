import { describe, expect, it } from "vitest";
import { niceCeiling } from "../src/charts/options.ts";
import {
  age,
  bounded,
  bucketLabels,
  bytes,
  count,
  duration,
  durationText,
  NONE,
  perSecond,
  plural,
  words,
} from "../src/live/format.ts";
import { toneOf, toneOfAll, vitalsOf } from "../src/live/health.ts";
import { byInitiator, endingOf, stacksOf } from "../src/live/reasons.ts";
import { sample, T0 } from "./samples.ts";

describe("a figure in words", () => {
  it("stays short enough to be read from afar", () => {
    expect([0, 7, 1_234, 99_999, 123_456, 2_500_000].map(count)).toEqual([
      "0",
      "7",
      "1,234",
      "99,999",
      "123.5K",
      "2.5M",
    ]);
    expect(count(undefined)).toBe(NONE);
  });

  it("of a rate has a decimal only while that says something", () => {
    expect([0, 0.04, 0.25, 9.94, 9.96, 1_234.5].map(perSecond)).toEqual(["0", "0.0", "0.3", "9.9", "10", "1,235"]);
  });

  it("of a duration is in the unit that suits it", () => {
    expect(
      [0, 0.0004, 0.0123, 0.25, 0.9996, 1, 12.5, 90, 100, 3_600, 7_200, 200_000].map((each) => durationText(each)),
    ).toEqual(["0 s", "0.4 ms", "12 ms", "250 ms", "1.0 s", "1.0 s", "13 s", "90 s", "2 min", "60 min", "2 h", "2 d"]);
    expect(duration(undefined)).toEqual([NONE, ""]);
    expect(durationText(undefined)).toBe(NONE);
  });

  it("of an age is in whole units", () => {
    expect([-5, 8_400, 99_900, 150_000].map(age)).toEqual(["0 s", "8 s", "99 s", "3 min"]);
  });

  it("of a duration above all bounds says so", () => {
    expect(bounded(Infinity, [0.1, 30, Infinity])).toEqual(["> 30", "s"]);
    expect(bounded(0.05, [0.1, 30, Infinity])).toEqual(["50", "ms"]);
    expect(bucketLabels([0.005, 0.01, 0.25, 1, 2.5, Infinity])).toEqual(["5 ms", "10", "250", "1 s", "2.5", "> 2.5"]);
  });

  it("of a size is in powers of 1,024", () => {
    expect([0, 512, 4_096, 1 << 20, 3.5 * 2 ** 30].map(bytes)).toEqual([
      "0 B",
      "512 B",
      "4.0 KiB",
      "1.0 MiB",
      "3.5 GiB",
    ]);
  });

  it("agrees with its noun", () => {
    expect([plural(1, "node"), plural(2, "node"), plural(0, "match", "matches")]).toEqual([
      "1 node",
      "2 nodes",
      "0 matches",
    ]);
    expect(words("client_heartbeat_timeout")).toBe("client heartbeat timeout");
  });
});

describe("an axis", () => {
  it("ends at a number that can be halved", () => {
    expect([1, 3, 5, 7, 9, 11, 13, 99, 100, 101, 0.3].map(niceCeiling)).toEqual([
      1, 4, 6, 8, 10, 12, 16, 100, 100, 120, 0.4,
    ]);
  });
});

describe("the reasons of disconnects", () => {
  it("have the initiator beside them, and an unknown one is unknown", () => {
    expect(endingOf("normal/client")).toEqual({ reason: "normal", initiator: "client" });
    expect(endingOf("normal/martian")).toEqual({ reason: "normal", initiator: "unknown" });
    expect(endingOf("normal")).toEqual({ reason: "normal", initiator: "unknown" });
  });

  it("are summed by initiator, in a fixed order", () => {
    const table = new Map(Object.entries({ "reset/unknown": 2, "normal/client": 3, "page_closed/client": 4 }));
    expect(byInitiator(table)).toEqual([
      ["client", 7],
      ["unknown", 2],
    ]);
  });

  it("are stacked by initiator, the most frequent first, and no end is lost among the rare ones", () => {
    const names = ["a/client", "b/server", "c/client", "d/network", "e/unknown", "f/server", "g/client", "h/client"];
    const tables = [1, 2].map((minute) => new Map(names.map((name, place) => [name, minute * (20 - place)])));
    const stacks = stacksOf(tables);
    expect(stacks.map(({ reason }) => reason)).toEqual(["a", "c", "b", "f", "d", "e", "others"]);
    expect(stacks.map(({ place }) => place).slice(0, 4)).toEqual([0, 1, 0, 1]);
    for (const [place, table] of tables.entries()) {
      const all = [...table.values()].reduce((one, other) => one + other, 0);
      expect(stacks.reduce((sum, { values }) => sum + (values[place] ?? 0), 0)).toBe(all);
    }
  });
});

describe("the pipeline", () => {
  const healthy = {
    pulsetrail_journal_rows: 3,
    pulsetrail_journal_oldest_seconds: 0.2,
    pulsetrail_projection_lag_seconds: 0.3,
    pulsetrail_events_dropped: 0,
  };
  const tone = (pipeline: Record<string, number>) => {
    const vitals = vitalsOf([sample(T0, {}, { ...healthy, ...pipeline })]);
    return vitals && toneOfAll(vitals);
  };

  it("is well, to be watched or in trouble, by the worst of its figures", () => {
    expect(tone({})).toBe("calm");
    expect(tone({ pulsetrail_projection_lag_seconds: 8 })).toBe("watch");
    expect(tone({ pulsetrail_projection_lag_seconds: 8, pulsetrail_journal_oldest_seconds: 90 })).toBe("alarm");
    expect(tone({ pulsetrail_events_dropped: 1 })).toBe("alarm");
    expect(tone({ pulsetrail_projection_dead_letters: 3 })).toBe("watch");
  });

  it("is not well while nothing folds the log, whatever the figures are", () => {
    const nobody = vitalsOf([{ ...sample(T0, {}, healthy), domain: undefined }]);
    expect(nobody && toneOfAll(nobody)).toBe("watch");
  });

  it("is not judged by what is not known", () => {
    expect(toneOf("commitSeconds", undefined)).toBe("calm");
    expect(vitalsOf([])).toBeUndefined();
  });

  it("has the percentiles of the last minute only", () => {
    const at = (second: number, counts: readonly [number, number]) =>
      sample(T0 + second * 1_000, {}, { pulsetrail_journal_commit_seconds: { "0.001": counts[0], "+Inf": counts[1] } });
    const long = vitalsOf([at(0, [0, 50]), at(60, [0, 50]), at(120, [100, 150])]);
    expect(long?.commitSeconds).toBeLessThanOrEqual(0.001);
  });
});
