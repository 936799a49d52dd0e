import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SDK } from "../../src/telemetry/index.ts";
import { FakeEnv } from "../../src/testing/index.ts";
import { sampleFrom } from "../clock-sample.ts";
import { livePage, page } from "./page.ts";

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
    client.tell("banner", [true, 5_000]);
    client.tell("banner", [false, 1_000]);
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

  it("has the time at which something happened, not the time at which a slow handler was done with it", async () => {
    const made = page();
    const { wall, mono } = made.env;
    made.client.on("welcome", () => {
      made.env.wall += 700;
      made.env.mono += 700;
    });
    made.client.connect();
    made.server.accept();
    await made.env.settle();
    expect(made.events().map((event) => [event.type, event.wall, event.mono])).toEqual([
      ["attempt.started", wall, mono],
      ["socket.opened", wall, mono],
    ]);
  });

  it("does not give the wait for a new token the backoff's base: jitter is never more than the jitter", async () => {
    const made = page(new FakeEnv(), { auth: "jwt", getToken: () => "token" });
    made.client.connect();
    await made.env.settle();
    made.server.accept();
    made.env.socket.end(4204);
    made.env.advance(500);
    await made.env.settle();
    made.server.accept();
    await made.env.settle();
    const [backoff] = made.events().filter(({ type }) => type === "backoff.scheduled");
    expect(backoff).toMatchObject({ base_ms: 0, jitter_ms: 250, delay_ms: 250, attempt: 1 });
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
