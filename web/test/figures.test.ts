import { describe, expect, it } from "vitest";
import { sampleOf } from "../src/live/figures.ts";
import { published, sample, T0 } from "./samples.ts";

describe("an update's data", () => {
  it("becomes the figures that the cards show", () => {
    const { time, domain, pipeline, processes } = sample(
      T0,
      {
        ws_updates_clients: { "otter-0": 3, "otter-1": 2 },
        ws_updates_connections_opened: 12,
        ws_updates_disconnections: { "normal/client": 4, "peer_reset/unknown": 2 },
        ws_updates_reconnects: { peer_reset: 2, unknown: 1 },
        ws_updates_stale_clients: 1,
        ws_updates_heartbeat_rtt_seconds: { "+Inf": 10, "0.1": 9, "1.0": 10, count: 10, sum: 1.5 },
        pulsetrail_log_events: { "connection.opened": 12, "connection.closed": 6 },
      },
      { pulsetrail_journal_rows: 7, pulsetrail_journal_oldest_seconds: 0.5 },
    );
    expect(time).toBe(T0);
    expect(domain).toMatchObject({ clients: 5, nodes: 2, opened: 12, reconnects: 3, events: 18, silent: 1 });
    expect([...(domain?.ended ?? [])]).toEqual([
      ["normal/client", 4],
      ["peer_reset/unknown", 2],
    ]);
    expect(domain?.roundTrips).toEqual({ bounds: [0.1, 1, Infinity], counts: [9, 10, 10] });
    expect(pipeline).toMatchObject({ journalEvents: 7, journalSeconds: 0.5, lagSeconds: undefined });
    expect(processes).toEqual(["gateway-0", "projector"]);
  });

  it("does not make a zero of flaps that nobody counts", () => {
    expect(sample(T0).domain?.flapping).toBeUndefined();
    expect(sample(T0, { ws_updates_flapping_clients: 0 }).domain?.flapping).toBe(0);
  });

  it("has no figures of the connections while no projector exports any", () => {
    expect(sampleOf({ ...published(T0), current: false })?.domain).toBeUndefined();
  });

  it.each([undefined, null, 7, "text", [], {}, { time: "now" }, { time: Number.NaN }])(
    "is passed over when it is none: %j",
    (data) => expect(sampleOf(data)).toBeUndefined(),
  );

  it("of another version does not break the page", () => {
    const odd = sampleOf({
      time: T0,
      current: true,
      figures: { ws_updates_clients: "many", ws_updates_disconnections: { normal: "x", reset: null } },
      pipeline: [1, 2],
      processes: { a: 1 },
    });
    expect(odd?.domain).toMatchObject({ clients: 0, opened: 0 });
    expect(odd?.domain?.ended.size).toBe(0);
    expect(odd?.processes).toEqual([]);
  });
});
