import { describe, expect, it, vi } from "vitest";
import { dropAndRetry, live, world } from "../world.ts";

describe("rule 8, resume", () => {
  it("resuming works before the first update: the position is known from welcome", () => {
    const made = world();
    made.server.position = 41;
    made.client.connect();
    made.server.accept();
    dropAndRetry(made);
    expect(made.query("since")).toEqual([null, "41"]);
    expect(made.query("since_epoch")).toEqual([null, "epoch-1"]);
  });

  it("stale clears when the replay has been applied, not on open", () => {
    const made = live();
    const { env, server, client, snapshot } = made;
    const seen: [unknown, boolean][] = [];
    client.on("update", ({ data }) => seen.push([data, client.getSnapshot().stale]));
    server.update("a");
    env.socket.end();
    server.update("b", { deliver: false });
    server.update("c", { deliver: false });
    env.advance(2_000);
    const ring = server.ring.splice(1);
    server.accept();
    expect(snapshot()).toMatchObject({ status: "live", stale: true });
    for (const update of ring) env.socket.receive(update);
    expect(seen).toEqual([
      ["a", false],
      ["b", true],
      ["c", true],
    ]);
    expect(snapshot().stale).toBe(false);
  });

  it("what cannot be resumed stays stale until the application has loaded it anew", async () => {
    const made = live();
    let loaded: () => void = () => {};
    made.client.onGap(
      () =>
        new Promise((resolve) => {
          loaded = resolve;
        }),
    );
    made.env.socket.end();
    made.env.advance(2_000);
    made.server.epoch = "epoch-2";
    made.server.accept();
    await made.env.settle();
    expect(made.snapshot()).toMatchObject({ status: "live", stale: true });
    loaded();
    await made.env.settle();
    expect(made.snapshot().stale).toBe(false);
  });

  it("what could not be loaded anew is asked for again after the next connect", async () => {
    const made = live();
    const reload = vi.fn().mockRejectedValueOnce(new Error("offline")).mockResolvedValue(undefined);
    made.client.onGap(reload);
    dropAndRetry(made);
    made.server.epoch = "epoch-2";
    made.server.accept();
    await made.env.settle();
    expect(made.snapshot().stale).toBe(true);
    dropAndRetry(made);
    made.server.accept();
    await made.env.settle();
    expect(reload).toHaveBeenCalledTimes(2);
    expect(made.snapshot().stale).toBe(false);
  });

  it("a hole in the stream is not passed over: reconnect from the last good position with 4103", () => {
    const made = live();
    const { env, server } = made;
    server.update("a");
    server.update("lost", { deliver: false });
    server.update("c");
    expect(env.socket.closedWith).toBe(4103);
    env.advance(2_000);
    expect(made.query("since").at(-1)).toBe("1");
  });

  it("a heartbeat that is ahead of the updates shows a hole at the end of the stream", () => {
    const { env, server } = live();
    server.update("lost", { deliver: false });
    server.heartbeat();
    expect(env.socket.closedWith).toBe(4103);
  });
});

describe("rule 8, another stream", () => {
  it("a stream that begins anew under an open connection is noticed, not taken for updates that are known", () => {
    const { env, server } = live();
    for (const data of [1, 2, 3]) server.update(data);
    server.position = 1;
    server.heartbeat();
    expect(env.socket.closedWith).toBe(4103);
  });

  it("what polling brought while the socket was on its way comes again with the replay, and is delivered once", async () => {
    const { env, server, client } = live({ pollAfter: 1 });
    const seen: unknown[] = [];
    client.on("update", ({ data }) => seen.push(data));
    env.socket.end();
    env.advance(2_000);
    env.answer = () =>
      Response.json({
        stream_epoch: server.epoch,
        stream_position: 2,
        resumed: true,
        updates: server.ring.slice(0, 2),
      });
    env.socket.end();
    env.advance(3_000);
    for (const data of ["a", "b", "c"]) server.update(data, { deliver: false });
    await env.settle();
    server.accept();
    expect(seen).toEqual(["a", "b", "c"]);
    expect(env.socket.closedWith).toBeUndefined();
  });
});

describe("rule 9, polling", () => {
  it("a network that lets no WebSocket through still gets updates, and the socket is still tried", async () => {
    const made = live();
    const { env, server, client, snapshot } = made;
    const seen: unknown[] = [];
    client.on("update", ({ data }) => seen.push(data));
    server.update("a");
    env.answer = (url) => {
      const since = Number(new URL(url).searchParams.get("since"));
      return Response.json({
        stream_epoch: server.epoch,
        stream_position: server.position,
        resumed: true,
        updates: server.ring.slice(since),
      });
    };
    for (let failure = 0; failure < 5; failure++) {
      expect(snapshot().transport).not.toBe("polling");
      env.socket.end();
      env.advance((snapshot().retryAt as number) - env.mono);
    }
    server.update("b", { deliver: false });
    await env.settle();
    expect(snapshot()).toMatchObject({ transport: "polling", stale: false });
    expect(env.requests[0]?.url).toBe("https://live.example/v1/updates?since=1&since_epoch=epoch-1");
    server.update("c", { deliver: false });
    env.advance(15_000);
    await env.settle();
    expect(seen).toEqual(["a", "b", "c"]);
    env.socket.end();
    env.advance(60_000);
    server.accept();
    expect(snapshot()).toMatchObject({ status: "live", transport: "websocket" });
    const { length } = env.requests;
    env.advance(30_000);
    expect(env.requests).toHaveLength(length);
    expect(seen).toEqual(["a", "b", "c"]);
  });

  it("an answer that makes no sense does not stop the polling", async () => {
    const made = live({ pollAfter: 1 });
    const answers = [
      null,
      {},
      { updates: "none" },
      { resumed: true, stream_epoch: "epoch-1", updates: [null] },
      "nonsense",
    ];
    made.env.answer = () => Response.json(answers.shift() ?? null);
    made.env.socket.end();
    made.env.advance(2_000);
    made.env.socket.end();
    for (let poll = 0; poll < 5; poll++) {
      await made.env.settle();
      made.env.advance(15_000);
    }
    await made.env.settle();
    expect(made.env.requests).toHaveLength(6);
    expect(made.client.stream).toEqual({ epoch: "epoch-1", position: 0 });
  });

  it("polls are spread by a fifth, so that a fleet without sockets does not poll in step", async () => {
    for (const [chance, ms] of [
      [0, 12_000],
      [0.999999, 18_000],
    ] as const) {
      const made = world({ pollAfter: 1 });
      made.env.chance = chance;
      made.client.connect();
      made.env.socket.end();
      await made.env.settle();
      made.env.advance(ms - 100);
      expect(made.env.requests).toHaveLength(1);
      made.env.advance(200);
      await made.env.settle();
      expect(made.env.requests).toHaveLength(2);
    }
  });

  it("a poll that hangs does not pass for fresh data, and does not stop the polling", async () => {
    const made = live({ pollAfter: 1 });
    made.env.answer = () => new Promise(() => {});
    made.env.socket.end();
    made.env.advance(2_000);
    made.env.socket.end();
    made.env.answer = () => Response.json({ stream_epoch: "epoch-1", stream_position: 0, resumed: true, updates: [] });
    made.env.advance(15_000);
    await made.env.settle();
    expect(made.snapshot()).toMatchObject({ transport: "polling", stale: false });
    made.env.answer = () => new Promise(() => {});
    made.env.advance(15_000);
    await made.env.settle();
    made.env.advance(15_000);
    await made.env.settle();
    expect(made.snapshot()).toMatchObject({ transport: "polling", stale: true });
    expect(made.env.requests).toHaveLength(4);
  });

  it("a network that forbids WebSockets for good does not end the polling after 30 attempts", async () => {
    const made = live({ maxAttempts: 6 });
    made.env.answer = () => Response.json({ stream_epoch: "epoch-1", stream_position: 0, resumed: true, updates: [] });
    for (let retry = 0; retry < 20; retry++) {
      dropAndRetry(made);
      await made.env.settle();
    }
    expect(made.snapshot()).toMatchObject({ transport: "polling", stale: false, attempt: 20 });
    made.env.answer = () => new Response(null, { status: 502 });
    made.env.advance(13_000);
    made.env.socket.end();
    made.env.advance(15_000);
    await made.env.settle();
    dropAndRetry(made);
    made.env.socket.end();
    expect(made.snapshot()).toMatchObject({ status: "failed", reason: "retries_exhausted" });
  });

  it("an overloaded service's Retry-After is honoured, and data is stale meanwhile", async () => {
    const made = live({ pollAfter: 1 });
    made.env.answer = () => new Response(null, { status: 503, headers: { "Retry-After": "100" } });
    made.env.socket.end();
    made.env.advance(2_000);
    made.env.socket.end();
    await made.env.settle();
    made.env.advance(99_000);
    expect(made.env.requests).toHaveLength(1);
    expect(made.snapshot().stale).toBe(true);
    made.env.advance(2_000);
    await made.env.settle();
    expect(made.env.requests).toHaveLength(2);
  });
});
