import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { classOf } from "../../src/telemetry/events.ts";
import { bytesOf, type Entry, firstOf, fitting } from "../../src/telemetry/queue.ts";
import { ACCEPTED, type Batch, page, produce } from "./page.ts";

describe("the queue", () => {
  const entries = fc.array(
    fc
      .record({ type: fc.constantFrom("page.hidden", "socket.closed"), json: fc.string({ unit: "grapheme" }) })
      .map(({ type, json }): Entry => ({ type, json, bytes: bytesOf(json) })),
    { maxLength: 60 },
  );

  it("counts bytes, not characters", () => {
    expect(bytesOf("äöü€😀")).toBe(13);
    const wide: Entry = { type: "page.hidden", json: "€".repeat(100), bytes: bytesOf("€".repeat(100)) };
    expect(fitting([wide], 1, 301).kept).toHaveLength(1);
    expect(fitting([wide], 1, 300).kept).toHaveLength(0);
  });

  it("drops the lowest class first, of a class the oldest, no more than it must, and counts each", () => {
    fc.assert(
      fc.property(entries, fc.nat(60), fc.nat(500), (all, maxCount, maxBytes) => {
        const { kept, dropped } = fitting(all, maxCount, maxBytes);
        const size = (some: readonly Entry[]) => some.reduce((sum, { bytes }) => sum + bytes + 1, 0);
        expect(kept.length).toBeLessThanOrEqual(maxCount);
        expect(size(kept)).toBeLessThanOrEqual(maxBytes);
        expect(all.length - kept.length).toBe((dropped.account ?? 0) + (dropped.detail ?? 0));
        const gone = all.filter((entry) => !kept.includes(entry));
        for (const name of ["detail", "account"] as const) {
          const of = (some: readonly Entry[]) => some.filter(({ type }) => classOf(type) === name);
          expect(of(all)).toEqual([...of(gone), ...of(kept)]);
        }
        if (dropped.account) expect(kept.every(({ type }) => classOf(type) === "account")).toBe(true);
        const last = gone.filter(({ type }) => classOf(type) === (dropped.account ? "account" : "detail")).at(-1);
        if (last) expect(kept.length + 1 > maxCount || size([...kept, last]) > maxBytes).toBe(true);
      }),
    );
  });

  it("makes batches that fit, and always goes on", () => {
    fc.assert(
      fc.property(entries, fc.integer({ min: 1, max: 300 }), (all, maxBytes) => {
        const first = firstOf(all, 50, maxBytes);
        expect(first).toEqual(all.slice(0, first.length));
        if (all.length) expect(first.length).toBeGreaterThan(0);
      }),
    );
  });

  it("of 500 events reports what it had to drop, by class, in the batch and as an event", async () => {
    const made = page();
    const { env } = made;
    env.answer = () => new Response(null, { status: 503 });
    made.client.connect();
    made.server.accept();
    produce(made, 600);
    await env.settle();
    expect(made.telemetry.pending).toBe(500);
    env.answer = ACCEPTED;
    const { length } = env.requests;
    env.advance(60_000);
    for (let turn = 0; turn < 20; turn++) await env.settle();
    const sent = env.requests.slice(length).map(({ init }) => JSON.parse(init?.body as string) as Batch);
    const told = sent.flatMap(({ events }) => events).filter(({ type }) => type === "telemetry.dropped");
    expect(told.map(({ event_class, count }) => [event_class, count])).toContainEqual(["detail", expect.any(Number)]);
    expect(sent.some(({ dropped }) => (dropped.detail ?? 0) > 0)).toBe(true);
    expect(sent.flatMap(({ events }) => events).map(({ type }) => type)).toContain("socket.opened");
  });
});
