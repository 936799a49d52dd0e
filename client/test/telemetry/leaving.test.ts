import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { startTelemetry } from "../../src/telemetry/index.ts";
import { bytesOf } from "../../src/telemetry/queue.ts";
import { FakeEnv, FakeStorage } from "../../src/testing/index.ts";
import { world } from "../world.ts";
import { ACCEPTED, livePage, page, produce } from "./page.ts";

describe("the end of a page", () => {
  it("sends the rest with keepalive, and like all before it without a preflight, for which there is no time", async () => {
    const env = new FakeEnv();
    env.answer = ACCEPTED;
    const made = world({}, env);
    startTelemetry(made.client, { key: "k" });
    made.client.connect();
    made.server.accept();
    await env.settle();
    env.page({ type: "pagehide", persisted: false });
    expect(env.requests.map(({ init }) => init?.keepalive)).toEqual([false, true]);
    for (const { url, init } of env.requests) {
      expect(url).toBe("https://live.example/v1/telemetry?key=k");
      // A body of text makes the request a simple one (Fetch, section 2.2.2); a header of ours would not.
      expect(init?.body).toBeTypeOf("string");
      expect(init?.headers).toBeUndefined();
    }
  });

  it("never sends 60,000 bytes with keepalive, however wide the characters", async () => {
    const made = livePage();
    const { env } = made;
    await env.settle();
    env.answer = () => new Response(null, { status: 503 });
    env.socket.end(1012, "€".repeat(100));
    for (let n = 0; n < 480; n++) {
      env.page({ type: "network", network: "€".repeat(100) });
      if (n % 100 === 0) await env.settle();
    }
    env.advance(60_000);
    await env.settle();
    env.page({ type: "hidden" });
    env.page({ type: "pagehide", persisted: true });
    await env.settle();
    const kept = env.requests.filter(({ init }) => init?.keepalive);
    const bytes = kept.reduce((sum, { init }) => sum + bytesOf(init?.body as string), 0);
    expect(bytes).toBeLessThan(60_000);
  });

  it("falls back to a beacon when fetch fails", async () => {
    const made = livePage();
    await made.env.settle();
    made.env.answer = () => Promise.reject(new TypeError("no budget"));
    made.env.page({ type: "pagehide", persisted: false });
    await made.env.settle();
    expect(made.env.beacons).toHaveLength(1);
  });

  it("unsent events are sent by the next page, once, as the page they happened on", async () => {
    const shared = new FakeStorage();
    const env = new FakeEnv("one", shared);
    const one = page(env);
    env.answer = () => Promise.reject(new TypeError("offline"));
    one.client.connect();
    one.server.accept();
    await env.settle();
    env.page({ type: "pagehide", persisted: false });
    await env.settle();
    const two = livePage(new FakeEnv("two", shared));
    for (let turn = 0; turn < 5; turn++) await two.env.settle();
    const three = livePage(new FakeEnv("three", shared));
    for (let turn = 0; turn < 5; turn++) await three.env.settle();
    const inherited = [...two.batches(), ...three.batches()].filter(({ page_id }) => page_id === one.client.pageId);
    expect(inherited).toHaveLength(1);
    expect(inherited[0]?.events.map(({ type }) => type)).toEqual(["attempt.started", "socket.opened", "socket.closed"]);
    expect(inherited[0]?.client_id).toBe(two.client.clientId);
    expect([...shared.items.keys()]).toEqual(["pulsetrail.client"]);
  });

  it("with two tabs open at once exactly one of them sends what a third left behind", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 1, max: 120 }), async (tabs, count) => {
        const shared = new FakeStorage();
        const env = new FakeEnv("gone", shared);
        const gone = page(env);
        env.answer = () => Promise.reject(new TypeError("offline"));
        gone.client.connect();
        produce(gone, count);
        env.page({ type: "pagehide", persisted: false });
        await env.settle();
        const open = Array.from({ length: tabs }, (_, tab) => livePage(new FakeEnv(`tab${tab}`, shared)));
        for (let turn = 0; turn < 8; turn++) for (const tab of open) await tab.env.settle();
        const inherited = open
          .flatMap((tab) => tab.batches())
          .filter(({ page_id }) => page_id === gone.client.pageId)
          .flatMap(({ events }) => events.map(({ seq }) => seq));
        expect(inherited.length).toBeGreaterThan(count);
        expect(new Set(inherited).size).toBe(inherited.length);
      }),
      { numRuns: 10 },
    );
  });

  it("a page that was only hidden does not send again what another page sent for it", async () => {
    const shared = new FakeStorage();
    const env = new FakeEnv("hidden", shared);
    const hidden = page(env);
    env.answer = () => Promise.reject(new TypeError("offline"));
    hidden.client.connect();
    env.page({ type: "hidden" });
    await env.settle();
    const other = livePage(new FakeEnv("other", shared));
    for (let turn = 0; turn < 5; turn++) await other.env.settle();
    expect(other.batches().filter(({ page_id }) => page_id === hidden.client.pageId)).toHaveLength(1);
    env.answer = ACCEPTED;
    env.requests.length = 0;
    env.page({ type: "visible" });
    await hidden.telemetry.flush();
    await env.settle();
    expect(hidden.types()).not.toContain("attempt.started");
    expect(hidden.types()).toContain("page.visible");
  });

  it("nothing older than a day, and no more than 128 KiB, is kept", async () => {
    const shared = new FakeStorage();
    const env = new FakeEnv("one", shared);
    const one = page(env);
    env.answer = () => Promise.reject(new TypeError("offline"));
    one.client.connect();
    for (let n = 0; n < 450; n++) env.page({ type: "network", network: "€".repeat(150) });
    env.page({ type: "pagehide", persisted: false });
    await env.settle();
    const sizes = [...shared.items.values()].map(bytesOf);
    expect(Math.max(...sizes)).toBeGreaterThan(64 * 1024);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(128 * 1024);
    const late = new FakeEnv("late", shared);
    late.wall += 25 * 3_600_000;
    const next = livePage(late);
    for (let turn = 0; turn < 5; turn++) await late.settle();
    expect(next.batches().every(({ page_id }) => page_id === next.client.pageId)).toBe(true);
    expect([...shared.items.keys()]).toEqual(["pulsetrail.client"]);
  });

  it("does without storage, and with a full one", async () => {
    for (const quota of [undefined, 0]) {
      const env = new FakeEnv();
      if (quota === undefined) env.storage = undefined;
      else if (env.storage instanceof FakeStorage) env.storage.quota = quota;
      const made = livePage(env);
      env.page({ type: "hidden" });
      await env.settle();
      env.page({ type: "visible" });
      await made.telemetry.flush();
      expect(made.types()).toContain("page.visible");
    }
  });

  it("loses nothing of a page that lives on when there was no room to put it aside", async () => {
    const small = new FakeStorage();
    const env = new FakeEnv("crowded", small);
    const made = page(env);
    env.answer = () => Promise.reject(new TypeError("offline"));
    made.client.connect();
    made.server.accept();
    small.quota = 0;
    env.page({ type: "hidden" });
    await env.settle();
    env.page({ type: "visible" });
    env.answer = ACCEPTED;
    env.requests.length = 0;
    await made.telemetry.flush();
    for (let second = 0; second < 90; second++) {
      env.advance(1_000);
      await env.settle();
    }
    const seqs = made.events().map(({ seq }) => seq);
    expect(seqs).toEqual([...seqs.keys()]);
    expect(made.types().slice(0, 4)).toEqual(["attempt.started", "socket.opened", "page.hidden", "page.visible"]);
  });

  it("loses nothing of what did not fit when another page takes what did", async () => {
    const shared = new FakeStorage();
    const env = new FakeEnv("large", shared);
    const large = page(env);
    env.answer = () => Promise.reject(new TypeError("offline"));
    large.client.connect();
    for (let n = 0; n < 450; n++) env.page({ type: "network", network: "€".repeat(150) });
    env.page({ type: "hidden" });
    await env.settle();
    const other = livePage(new FakeEnv("other", shared));
    for (let turn = 0; turn < 40; turn++) await other.env.settle();
    env.answer = ACCEPTED;
    env.requests.length = 0;
    env.advance(600_000);
    for (let turn = 0; turn < 40; turn++) await env.settle();
    // What was under way when the other page took over may come twice; the log takes it once.
    const seqs = new Set(
      [...large.batches(), ...other.batches()]
        .filter(({ page_id }) => page_id === large.client.pageId)
        .flatMap(({ events }) => events.map(({ seq }) => seq)),
    );
    expect(seqs.size).toBeGreaterThan(452);
    expect(Math.max(...seqs)).toBe(seqs.size - 1);
  });

  it("stops: no timer, and nothing more is observed", async () => {
    const made = livePage();
    await made.env.settle();
    made.client.close();
    made.telemetry.stop();
    await made.env.settle();
    const { length } = made.env.requests;
    made.client.connect();
    made.env.advance(60_000);
    await made.env.settle();
    expect(made.env.requests).toHaveLength(length);
    vi.restoreAllMocks();
  });
});
