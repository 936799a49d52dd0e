import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { classOf } from "../src/telemetry/events.ts";
import { SDK, startTelemetry, type Telemetry } from "../src/telemetry/index.ts";
import { bytesOf, type Entry, firstOf, fitting } from "../src/telemetry/queue.ts";
import { FakeEnv, FakeStorage } from "../src/testing/index.ts";
import { sampleFrom } from "./clock-sample.ts";
import { type World, world } from "./world.ts";

interface Batch {
  readonly page_id: string;
  readonly client_id: string;
  readonly batch_id: string;
  readonly batch_seq: number;
  readonly sent_wall: number;
  readonly clock: { readonly offset_ms: number; readonly error_ms: number; readonly samples: number };
  readonly ctx: Record<string, string>;
  readonly dropped: Record<string, number>;
  readonly events: ReadonlyArray<{ readonly seq: number; readonly type: string; readonly [field: string]: unknown }>;
}

const ACCEPTED = () => Response.json({ accepted: 1, rejected: [] }, { status: 202 });

interface Told extends World {
  readonly telemetry: Telemetry;
  readonly batches: () => Batch[];
  readonly events: () => Batch["events"][number][];
  readonly types: () => string[];
}

/** A page with telemetry; its collector takes everything unless told otherwise. */
function page(env = new FakeEnv(), options = {}): Told {
  env.answer = ACCEPTED;
  const made = world(options, env);
  const telemetry = startTelemetry(made.client);
  const batches = () =>
    env.requests.filter(({ url }) => url.includes("telemetry")).map(({ init }) => JSON.parse(init?.body as string));
  const events = () => batches().flatMap((batch) => batch.events);
  return { ...made, telemetry, batches, events, types: () => events().map(({ type }) => type) };
}

function livePage(env?: FakeEnv, options = {}): Told {
  const made = page(env, options);
  made.client.connect();
  made.server.accept();
  return made;
}

/** Makes many events of a class. */
function produce({ client, env }: World, count: number, kind: "detail" | "account" = "detail"): void {
  for (let n = 0; n < count; n++) {
    if (kind === "detail") client.tell({ type: "banner", shown: true, ms: n });
    else env.page({ type: n % 2 ? "online" : "offline" });
  }
}

describe("the account", () => {
  it("of an outage is complete, in order, with its connections", async () => {
    const made = livePage();
    const { env, server, snapshot } = made;
    const first = snapshot().connectionId;
    await env.settle();
    env.advance(30_000);
    server.heartbeat();
    env.advance(20);
    server.answerProbe();
    env.socket.end();
    env.advance(2_000);
    env.socket.end();
    env.advance(3_000);
    env.advance(100);
    server.accept();
    await env.settle();
    expect(made.types()).toEqual([
      "attempt.started",
      "socket.opened",
      "heartbeat.summarised",
      "socket.closed",
      "backoff.scheduled",
      "attempt.started",
      "attempt.failed",
      "backoff.scheduled",
      "attempt.started",
      "socket.opened",
    ]);
    const [, , summary, closed, backoff, , failed, , , opened] = made.events();
    expect(summary).toMatchObject({ count: 1, missed: 0, min_ms: 20, max_ms: 20, sum_ms: 20 });
    expect(closed).toMatchObject({
      code: 1006,
      clean: false,
      cause: "unknown",
      connection_id: first,
      uptime_ms: 30_020,
    });
    expect(backoff).toMatchObject({ base_ms: 2_000, jitter_ms: 0, delay_ms: 2_000, attempt: 1, connection_id: first });
    expect(failed).toMatchObject({ phase: "socket", cause: "attempt_failed", code: 1006, elapsed_ms: 0 });
    expect(opened).toMatchObject({ downtime_ms: 5_100, elapsed_ms: 100, resumed: true, attempt: 2 });
    expect(opened?.connection_id).not.toBe(first);
    expect(made.events().map(({ seq }) => seq)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("has every row of the catalogue", async () => {
    const made = livePage(new FakeEnv(), { maxAttempts: 2, pollAfter: 1 });
    const { env, server, client } = made;
    server.heartbeat();
    server.answerProbe();
    client.tell({ type: "banner", shown: true, ms: 5_000 });
    client.tell({ type: "banner", shown: false, ms: 1_000 });
    env.page({ type: "network", network: "wifi", effectiveType: "4g" });
    env.page({ type: "hidden" });
    env.page({ type: "freeze" });
    env.sleep(600_000);
    env.page({ type: "resume" });
    env.page({ type: "visible" });
    env.advance(500);
    server.accept();
    env.page({ type: "offline" });
    server.answerProbe();
    env.sleep(100_000, { monotonic: true });
    env.advance(5_000);
    env.advance(5_000);
    for (let retry = 0; retry < 3; retry++) {
      env.socket.end();
      env.advance(5_000);
    }
    client.retryNow();
    server.accept();
    await env.settle();
    await made.telemetry.flush();
    expect(new Set(made.types())).toEqual(
      new Set([
        "attempt.started",
        "attempt.failed",
        "socket.opened",
        "socket.closed",
        "backoff.scheduled",
        "retries.exhausted",
        "heartbeat.overdue",
        "probe.answered",
        "probe.failed",
        "heartbeat.summarised",
        "page.hidden",
        "page.visible",
        "page.frozen",
        "page.resumed",
        "network.changed",
        "clock.jumped",
        "banner.shown",
        "banner.hidden",
        "polling.started",
        "polling.stopped",
      ]),
    );
  });

  it("calls the fields of a batch what the collector calls them", async () => {
    const made = livePage(new FakeEnv(), { app: "board", release: "1.2" });
    await made.env.settle();
    const { env, client } = made;
    expect(made.batches()[0]).toEqual({
      schema: 1,
      batch_id: expect.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,63}$/),
      batch_seq: 0,
      client_id: client.clientId,
      page_id: client.pageId,
      session_id: expect.any(String),
      app: "board",
      release: "1.2",
      clock: { offset_ms: 0, error_ms: 0, samples: 1 },
      sdk: SDK,
      sent_wall: env.wall,
      sent_mono: env.mono,
      ctx: { visibility: "visible", network: "online", effective_type: "4g" },
      dropped: {},
      events: expect.any(Array),
    });
  });
});

describe("the clock", () => {
  it("offset is server minus client: positive when the server is ahead", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e9, max: 1e9 }), fc.integer({ min: 0, max: 10_000 }), (ahead, rtt) => {
        expect(sampleFrom(ahead, rtt)).toBeCloseTo(ahead, 3);
      }),
    );
  });

  it("believes the sample with the smallest round trip of the last eight", () => {
    const { env, server, client } = livePage();
    server.offsetMs = 5_000;
    for (const rtt of [400, 20, 900, 300, 300, 300, 300, 300, 300]) {
      env.advance(1_000);
      const socket = env.socket;
      socket.receive({ type: "heartbeat", seq: 1, time: server.time - rtt / 2, stream_position: 0 });
      env.advance(rtt);
      server.answerProbe();
    }
    expect(client.clock).toEqual({ offsetMs: 5_000, errorMs: 10, samples: 8 });
    env.advance(1_000);
    server.heartbeat();
    env.advance(100);
    server.answerProbe();
    env.advance(1_000);
    server.heartbeat();
    env.advance(600);
    server.answerProbe();
    expect(client.clock.errorMs).toBe(50);
  });

  it("takes no sample across a jump", () => {
    const { env, server, client } = livePage();
    server.heartbeat();
    env.sleep(100_000);
    server.answerProbe();
    expect(client.clock.samples).toBe(0);
  });
});

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

describe("sending", () => {
  it("at once after socket.opened: that batch carries the outage", async () => {
    const made = livePage();
    await made.env.settle();
    expect(made.types()).toEqual(["attempt.started", "socket.opened"]);
  });

  it("at 50 events, and otherwise 15 s after the first", async () => {
    const made = livePage();
    const { env } = made;
    await env.settle();
    produce(made, 49);
    await env.settle();
    expect(made.batches()).toHaveLength(1);
    produce(made, 1);
    await env.settle();
    expect(made.batches()).toHaveLength(2);
    produce(made, 1);
    env.advance(14_999);
    await env.settle();
    expect(made.batches()).toHaveLength(2);
    env.advance(1);
    await env.settle();
    expect(made.batches()).toHaveLength(3);
  });

  it("one request at a time", async () => {
    const made = page();
    let answer: (response: Response) => void = () => {};
    made.env.answer = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    made.client.connect();
    made.server.accept();
    produce(made, 200);
    await made.env.settle();
    expect(made.batches()).toHaveLength(1);
    answer(ACCEPTED());
    await made.env.settle();
    expect(made.batches()).toHaveLength(2);
  });

  it("a retry has the same events with the same ids and times, and its own time of sending", async () => {
    const made = page();
    const { env } = made;
    const answers = [new Response(null, { status: 503 }), new Response(null, { status: 500 }), ACCEPTED()];
    env.answer = () => answers.shift() as Response;
    made.client.connect();
    made.server.accept();
    await env.settle();
    env.advance(3_000);
    await env.settle();
    env.advance(6_000);
    await env.settle();
    const [one, two, three] = made.batches();
    expect(two?.events).toEqual(one?.events);
    expect(three?.events).toEqual(one?.events);
    expect(two?.batch_id).toBe(one?.batch_id);
    expect(two?.batch_seq).toBe(one?.batch_seq);
    expect(two?.sent_wall).toBeGreaterThan(one?.sent_wall as number);
    expect(made.telemetry.pending).toBe(0);
  });

  it("Retry-After is honoured, also by what happens meanwhile", async () => {
    const made = page();
    const { env } = made;
    env.answer = () => new Response(null, { status: 429, headers: { "Retry-After": "30" } });
    made.client.connect();
    made.server.accept();
    await env.settle();
    produce(made, 100);
    env.page({ type: "hidden" });
    env.advance(29_000);
    await env.settle();
    expect(made.batches()).toHaveLength(1);
    env.advance(1_000);
    await env.settle();
    expect(made.batches()).toHaveLength(2);
  });

  it("three tries, then later: an offline hour loses nothing and costs a few requests", async () => {
    const made = page();
    const { env } = made;
    env.answer = () => Promise.reject(new TypeError("offline"));
    made.client.connect();
    made.server.accept();
    for (let minute = 0; minute < 60; minute++) {
      env.advance(60_000);
      await env.settle();
    }
    expect(made.batches().length).toBeLessThan(40);
    const before = made.batches().length;
    env.answer = ACCEPTED;
    for (let minute = 0; minute < 20; minute++) {
      env.advance(60_000);
      await env.settle();
    }
    const taken = made
      .batches()
      .slice(before)
      .flatMap(({ events }) => events);
    expect(taken.map(({ seq }) => seq)).toEqual([...taken.keys()]);
    expect(made.telemetry.pending).toBe(0);
  });

  it("what the collector refuses is not sent for ever, and is counted", async () => {
    const made = page();
    made.env.answer = () => new Response(null, { status: 400 });
    made.client.connect();
    made.server.accept();
    await made.env.settle();
    expect(made.env.requests).toHaveLength(1);
    expect(made.telemetry.pending).toBe(0);
    made.env.answer = ACCEPTED;
    produce(made, 1);
    await made.telemetry.flush();
    expect(made.batches().at(-1)?.dropped).toEqual({ account: 2 });
  });
});

describe("the end of a page", () => {
  it("sends the rest with keepalive, as text and with the key in the address: there is no time for a preflight", async () => {
    const env = new FakeEnv();
    env.answer = ACCEPTED;
    const made = world({}, env);
    startTelemetry(made.client, { key: "k" });
    made.client.connect();
    made.server.accept();
    await env.settle();
    expect(env.requests.at(-1)?.init).toMatchObject({ headers: { "X-Pulsetrail-Key": "k" } });
    expect(env.requests.at(-1)?.init?.keepalive).toBeUndefined();
    env.page({ type: "pagehide", persisted: false });
    expect(env.requests.at(-1)?.url).toBe("https://live.example/v1/telemetry?key=k");
    expect(env.requests.at(-1)?.init).toMatchObject({ keepalive: true, headers: { "Content-Type": "text/plain" } });
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
