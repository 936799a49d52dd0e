import { describe, expect, it, vi } from "vitest";
import { ACCEPTED, livePage, page, produce } from "./page.ts";

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

  it("a collector that hangs is given up after half a minute, and asked again", async () => {
    const given = new AbortController();
    const timeout = vi.spyOn(AbortSignal, "timeout").mockReturnValue(given.signal);
    const made = page();
    made.env.answer = () => new Promise(() => {});
    made.client.connect();
    made.server.accept();
    await made.env.settle();
    expect(timeout).toHaveBeenCalledWith(30_000);
    timeout.mockRestore();
    made.env.answer = ACCEPTED;
    given.abort();
    await made.env.settle();
    made.env.advance(3_000);
    await made.env.settle();
    expect(made.batches()).toHaveLength(2);
    expect(made.telemetry.pending).toBe(0);
  });

  it.each([401, 403, 404, 408, 429, 502, 503])(
    "%i says nothing against the events: they wait until the key, the proxy or the service is right",
    async (status) => {
      const made = page();
      made.env.answer = () => new Response(null, { status });
      made.client.connect();
      made.server.accept();
      for (let second = 0; second < 30; second++) {
        await made.env.settle();
        made.env.advance(1_000);
      }
      expect(made.telemetry.pending).toBe(2);
      made.env.answer = ACCEPTED;
      made.env.advance(60_000);
      await made.env.settle();
      expect(made.telemetry.pending).toBe(0);
    },
  );

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
