import { describe, expect, it, vi } from "vitest";
import { createClient } from "../src/index.ts";
import { FakeEnv, type FakeSocket } from "../src/testing/index.ts";
import { jwt, live, URL_, type World, world } from "./world.ts";

const pongs = (socket: FakeSocket) => socket.sent.filter(({ type }) => type === "pong");
const probes = (socket: FakeSocket) => socket.sent.filter(({ type }) => type === "probe");

/** Drops the newest socket and lets the wait pass. */
function dropAndRetry({ env, snapshot }: World): void {
  env.socket.end();
  env.advance((snapshot().retryAt as number) - env.mono);
}

describe("rule 1, backoff", () => {
  it("a server's hint wins over the backoff, so that a restart does not become a storm", () => {
    const { env, server, status } = live();
    server.goAway(1012, 7_000);
    env.advance(6_999);
    expect(status()).toBe("waiting");
    env.advance(1);
    expect(status()).toBe("connecting");
  });

  it("a hint without a number, or out of all proportion, does no harm", () => {
    const { env, server, snapshot } = live();
    server.socket.receive({ type: "go_away", reason: "deploy" });
    server.socket.end(1012);
    expect(snapshot().retryAt).toBe(env.mono + 2_000);
    env.advance(2_000);
    server.accept();
    server.goAway(1012, 1e15);
    expect(snapshot().retryAt).toBe(env.mono + 3_600_000);
  });

  it("a connection that opens and dies at once does not start the waits anew", () => {
    const { env, server, snapshot } = live();
    for (const wait of [2_000, 3_000, 4_500]) {
      env.socket.end();
      expect(snapshot().retryAt).toBe(env.mono + wait);
      env.advance(wait);
      server.accept();
      env.advance(1_000);
    }
  });

  it("after two stable minutes the waits start anew", () => {
    const made = live();
    const { env, server, snapshot } = made;
    env.socket.end();
    env.advance(2_000);
    server.accept();
    for (let beat = 0; beat < 4; beat++) {
      env.advance(30_000);
      server.heartbeat();
    }
    env.socket.end();
    expect(snapshot().attempt).toBe(1);
    expect(snapshot().retryAt).toBe(env.mono + 2_000);
  });

  it("a server that is gone for good is not tried for ever: failed after 30 retries", () => {
    const made = live();
    for (let retry = 0; retry < 30; retry++) dropAndRetry(made);
    expect(made.status()).toBe("connecting");
    made.env.socket.end();
    expect(made.snapshot()).toMatchObject({ status: "failed", reason: "retries_exhausted" });
    made.env.advance(3_600_000);
    expect(made.env.sockets).toHaveLength(31);
    expect(made.env.pending).toBe(0);
  });
});

describe("rule 2, retry now", () => {
  it("Retry does something: it cuts a running wait short, and the wait does not fire later", () => {
    const { env, client, status } = live();
    env.socket.end();
    expect(client.retryNow()).toBe(true);
    expect(status()).toBe("connecting");
    env.advance(2_500);
    expect(env.sockets).toHaveLength(2);
  });

  it("a nervous finger does not become an attack: at most once a second", () => {
    const { env, client } = live();
    env.socket.end();
    client.retryNow();
    env.socket.end();
    expect(client.retryNow()).toBe(false);
    env.advance(1_000);
    expect(client.retryNow()).toBe(true);
  });

  it("leads out of failed, and does nothing while live, closed or idle", () => {
    const { env, client, server, status } = world();
    expect(client.retryNow()).toBe(false);
    client.connect();
    server.accept();
    expect(client.retryNow()).toBe(false);
    env.socket.end(4501);
    expect(status()).toBe("failed");
    expect(client.retryNow()).toBe(true);
    client.close();
    env.advance(2_000);
    expect(client.retryNow()).toBe(false);
  });
});

describe("rule 3, heartbeats", () => {
  it("a throttled background tab still answers: the pong is sent inside onmessage, before any timer", () => {
    const { env, server } = live();
    server.heartbeat();
    expect(pongs(env.socket)).toEqual([{ type: "pong", seq: 1, received: env.wall, sent: env.wall }]);
  });

  it("a plain heartbeat without any field gets a plain pong", () => {
    const { env } = live();
    env.socket.receive({ type: "heartbeat" });
    expect(pongs(env.socket)).toHaveLength(1);
    expect(probes(env.socket)).toHaveLength(0);
  });

  it("a half-open connection is noticed: reconnect when two heartbeats are overdue", () => {
    const { env, status } = live();
    const [socket] = env.sockets;
    env.advance(64_999);
    expect(status()).toBe("live");
    env.advance(1);
    expect(status()).toBe("waiting");
    expect(socket?.closedWith).toBe(4100);
  });

  it("any frame counts as a sign of life", () => {
    const { env, server, status } = live();
    for (let second = 0; second < 200; second++) {
      env.advance(1_000);
      if (second % 50 === 0) server.update(second);
    }
    expect(status()).toBe("live");
  });

  it("the server's interval and limit count, not the client's", () => {
    const made = world();
    made.server.heartbeatMs = 2_000;
    made.server.missLimit = 3;
    made.client.connect();
    made.server.accept();
    made.env.advance(6_499);
    expect(made.status()).toBe("live");
    made.env.advance(1);
    expect(made.status()).toBe("waiting");
  });
});

describe("rule 4, doubt", () => {
  it("a late timer is not a dead socket: a probe decides", () => {
    const { env, server, status } = live();
    env.sleep(100_000, { monotonic: true });
    env.advance(0);
    expect(status()).toBe("verifying");
    expect(probes(env.socket)).toHaveLength(1);
    server.answerProbe();
    expect(status()).toBe("live");
    expect(env.sockets).toHaveLength(1);
  });

  it("sleep is noticed when the clocks disagree, at the first sign of life", () => {
    const { env, server, status, snapshot } = live();
    env.sleep(3_600_000);
    server.update("buffered before the sleep");
    expect(status()).toBe("verifying");
    expect(snapshot().stale).toBe(true);
    server.answerProbe();
    expect(status()).toBe("live");
    expect(snapshot().stale).toBe(false);
  });

  it("frames that were buffered before the sleep prove nothing; without an answer it reconnects after 5 s", () => {
    const { env, server, status } = live();
    const [socket] = env.sockets;
    env.sleep(3_600_000);
    server.offsetMs = -3_600_000;
    server.heartbeat();
    server.update(1);
    env.socket.receive({ type: "probe_ok", id: "of another doubt" });
    expect(status()).toBe("verifying");
    env.advance(5_000);
    expect(status()).toBe("waiting");
    expect(socket?.closedWith).toBe(4101);
  });

  it("a heartbeat that the server sent after the doubt began clears it", () => {
    const { env, server, status } = live();
    env.page({ type: "offline" });
    expect(status()).toBe("verifying");
    env.advance(1_000);
    server.heartbeat();
    expect(status()).toBe("live");
  });

  it("a heartbeat that the server sent before the doubt began does not", () => {
    const { env, server, status } = live();
    env.page({ type: "offline" });
    server.offsetMs -= 1_000;
    server.heartbeat();
    expect(status()).toBe("verifying");
  });

  it("offline is a doubt, not a verdict: a connection over another way survives it", () => {
    const { env, server, status } = live();
    env.page({ type: "offline" });
    server.answerProbe();
    expect(status()).toBe("live");
    expect(env.sockets).toHaveLength(1);
  });

  it("a probe timer that is late itself asks once more, and only once", () => {
    const { env, status } = live();
    env.page({ type: "offline" });
    env.sleep(60_000, { monotonic: true });
    env.advance(0);
    expect(probes(env.socket)).toHaveLength(2);
    expect(status()).toBe("verifying");
    env.sleep(60_000, { monotonic: true });
    env.advance(0);
    expect(status()).toBe("waiting");
  });
});

describe("rule 5, never wait for onclose", () => {
  it("iOS may never fire onclose: the client moves on, and what the old socket says later is ignored", () => {
    const { env, server, status, client } = live();
    const updates = vi.fn();
    client.on("update", updates);
    const [old] = env.sockets;
    const { onmessage, onclose } = old as FakeSocket;
    env.advance(65_000);
    env.advance(2_000);
    server.accept();
    expect(status()).toBe("live");
    onmessage?.({ data: '{"type":"update","stream_position":1,"topic":"t","data":1}' } as never);
    onclose?.({ code: 1006, reason: "", wasClean: false } as never);
    expect(status()).toBe("live");
    expect(updates).not.toHaveBeenCalled();
    expect(old).toMatchObject({ onopen: null, onmessage: null, onclose: null, closedWith: 4100 });
  });

  it("an attempt that never ends is given up", () => {
    const { env, client, status } = world();
    client.connect();
    env.socket.open();
    env.advance(15_000);
    expect(status()).toBe("waiting");
    expect(env.socket.closedWith).toBe(4100);
  });

  it("a constructor that throws is an attempt that failed", () => {
    const { env, client, status } = world();
    env.openSocket = () => {
      throw new SyntaxError("bad address");
    };
    client.connect();
    expect(status()).toBe("waiting");
  });
});

describe("rule 6, sleep", () => {
  it.each([{ type: "freeze" }, { type: "pagehide", persisted: true }] as const)(
    "$type closes with 4102 and leaves no timer that would fire in a frozen page",
    (event) => {
      const { env, status } = live();
      env.page(event);
      expect(status()).toBe("suspended");
      expect(env.socket.closedWith).toBe(4102);
      expect(env.pending).toBe(0);
    },
  );

  it("a page that goes away for good is not called asleep: its browser closes it with 1001", () => {
    const { env } = live();
    env.page({ type: "pagehide", persisted: false });
    expect(env.socket.closedWith).toBeUndefined();
    expect(env.socket.onclose).toBeNull();
  });

  it.each(["resume", "pageshow", "visible"] as const)("%s reconnects at once, with jitter", (type) => {
    const { env, status } = live();
    env.page({ type: "hidden" });
    env.page({ type: "freeze" });
    env.sleep(600_000);
    env.page({ type });
    env.advance(249);
    expect(status()).toBe("waiting");
    env.advance(1);
    expect(status()).toBe("connecting");
  });

  it("waking does not reset the attempts: a fleet of laptops at nine o'clock is no reason to hammer", () => {
    const { env, snapshot } = live();
    env.socket.end();
    env.advance(2_000);
    env.socket.end();
    expect(snapshot().attempt).toBe(2);
    env.page({ type: "freeze" });
    env.page({ type: "resume" });
    expect(snapshot().attempt).toBe(2);
  });

  it("a hint of the server's outlasts a nap", () => {
    const { env, server, status } = live();
    server.goAway(4206, 60_000);
    env.page({ type: "freeze" });
    env.page({ type: "resume" });
    env.advance(59_000);
    expect(status()).toBe("waiting");
  });

  it("data is stale while asleep, and an unfrozen page says so until it has caught up", () => {
    const { env, server, snapshot } = live();
    server.update(1);
    env.page({ type: "freeze" });
    expect(snapshot().stale).toBe(true);
    server.position++;
    server.ring.push({ type: "update", stream_position: 2, topic: "t", data: 2 });
    env.page({ type: "resume" });
    env.advance(500);
    expect(snapshot().stale).toBe(true);
    server.accept();
    expect(snapshot()).toMatchObject({ status: "live", stale: false });
  });

  it("who comes back to a tab does not sit out a long wait, unless the server asked for it", () => {
    const { env, server, snapshot } = live();
    for (let retry = 0; retry < 8; retry++) {
      env.socket.end();
      env.advance((snapshot().retryAt as number) - env.mono);
    }
    env.socket.end();
    env.page({ type: "hidden" });
    env.page({ type: "visible" });
    expect((snapshot().retryAt as number) - env.mono).toBe(250);
    env.advance(250);
    server.accept();
    server.goAway(1013, 30_000);
    env.page({ type: "online" });
    expect((snapshot().retryAt as number) - env.mono).toBe(30_000);
  });
});

describe("rule 7, token", () => {
  it("each attempt has its token, and it is not in the address", async () => {
    const getToken = vi.fn(() => "secret");
    const made = world({ getToken, auth: "jwt" });
    made.client.connect();
    await made.env.settle();
    expect(made.env.socket.protocols).toEqual(["pulsetrail.v1", "bearer.secret"]);
    expect(made.env.socket.url.href).not.toContain("secret");
    made.env.socket.end();
    made.env.advance(2_000);
    await made.env.settle();
    expect(getToken).toHaveBeenCalledTimes(2);
    expect(getToken).toHaveBeenLastCalledWith({ force: false, signal: expect.any(AbortSignal) });
  });

  it("a ticket is fetched for the token and used in its place", async () => {
    const made = world({ getToken: () => "secret" });
    made.env.answer = () => Response.json({ ticket: "t1", expires_in: 30 });
    made.client.connect();
    await made.env.settle();
    expect(made.env.requests[0]?.url).toBe("https://live.example/v1/tickets");
    expect(made.env.requests[0]?.init?.headers).toEqual({ Authorization: "Bearer secret" });
    expect(made.env.socket.protocols).toEqual(["pulsetrail.v1", "ticket.t1"]);
  });

  it.each([4204, 4500])("%i: once with a forced token; the second in a row is final", async (code) => {
    const forced: boolean[] = [];
    const made = world({
      auth: "jwt",
      getToken: ({ force }) => {
        forced.push(force);
        return "token";
      },
    });
    made.client.connect();
    await made.env.settle();
    made.server.accept();
    made.env.socket.end(code);
    expect(made.status()).toBe("waiting");
    made.env.advance(500);
    await made.env.settle();
    expect(forced).toEqual([false, true]);
    made.env.socket.open();
    made.env.socket.end(code);
    expect(made.status()).toBe("failed");
  });

  it("an expiry each hour is not two in a row", async () => {
    const made = world({ auth: "jwt", getToken: () => "token" });
    made.client.connect();
    for (let hour = 0; hour < 3; hour++) {
      await made.env.settle();
      made.server.accept();
      made.env.advance(30_000);
      made.server.heartbeat();
      made.env.socket.end(4204);
      expect(made.status()).toBe("waiting");
      made.env.advance(500);
    }
  });

  it("a token that cannot be had is a failed attempt, not an uncaught error", async () => {
    const made = world({ getToken: () => Promise.reject(new Error("offline")) });
    made.client.connect();
    await made.env.settle();
    expect(made.status()).toBe("waiting");
  });

  it("a token source that hangs is told to stop, and its late answer is ignored", async () => {
    let give: (token: string) => void = () => {};
    let signal: AbortSignal | undefined;
    const made = world({
      auth: "jwt",
      getToken: (request) => {
        signal = request.signal;
        return new Promise((resolve) => {
          give = resolve;
        });
      },
    });
    made.client.connect();
    await made.env.settle();
    made.env.advance(15_000);
    expect(signal?.aborted).toBe(true);
    give("late");
    await made.env.settle();
    expect(made.env.sockets).toHaveLength(0);
    expect(made.status()).toBe("waiting");
  });

  it("a token is renewed over the open socket before it expires", async () => {
    const env = new FakeEnv();
    const made = world({ auth: "jwt", getToken: () => jwt(env.wall + 120_000) }, env);
    made.client.connect();
    await env.settle();
    made.server.accept();
    for (let beat = 0; beat < 4; beat++) {
      env.advance(30_000);
      made.server.heartbeat();
      await env.settle();
    }
    expect(env.socket.sent.filter(({ type }) => type === "token").length).toBeGreaterThanOrEqual(1);
    expect(env.sockets).toHaveLength(1);
  });
});

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

describe("rule 10, close codes", () => {
  it.each([1006, 1011, 1012, 1013, 1015, 4000, 4200, 4201, 4202, 4203, 4205, 4206, 4321])("%i: come back", (code) => {
    const { env, status } = live();
    env.socket.end(code);
    expect(status()).toBe("waiting");
  });

  it.each([1000, 1002, 1003, 1007, 1009, 4501, 4502, 4777])("%i: stay away, and say why", (code) => {
    const { env, snapshot } = live();
    env.socket.end(code);
    expect(snapshot().status).toBe("failed");
    expect(snapshot().reason).toBeTruthy();
  });
});

describe("the next handshake", () => {
  it("tells how the connection before ended, so that the log knows it also when telemetry is lost", () => {
    const made = world({ app: "board", release: "1.2" });
    made.client.connect();
    const first = made.server.accept();
    made.env.socket.end(1012);
    made.env.advance(2_000);
    made.env.socket.end();
    made.env.advance(3_000);
    expect(Object.fromEntries(made.env.socket.url.searchParams)).toEqual({
      client: made.client.clientId,
      page: made.client.pageId,
      app: "board",
      release: "1.2",
      since: "0",
      since_epoch: "epoch-1",
      prev: first,
      prev_code: "1012",
      prev_clean: "true",
      cause: "server_shutdown",
      attempt: "2",
      backoff_ms: "5000",
      downtime_ms: "5000",
    });
  });

  it("names the same client after a reload, and another page", () => {
    const env = new FakeEnv();
    const one = world({}, env).client;
    const two = world({}, env).client;
    expect(one.clientId).toBe(two.clientId);
    expect(one.pageId).not.toBe(two.pageId);
  });

  it("works where storage is forbidden", () => {
    const env = new FakeEnv();
    env.storage = undefined;
    expect(live({}, env).status()).toBe("live");
  });
});

describe("the client", () => {
  it("does nothing before connect: no socket, no timer, no listener", () => {
    const { env } = world();
    expect([env.sockets.length, env.pending, env.listening]).toEqual([0, 0, 0]);
  });

  it("leaves nothing behind after close, from any state", () => {
    for (const end of [undefined, 1006, 4501]) {
      const { env, client, status } = live();
      if (end) env.socket.end(end);
      client.close();
      expect([status(), env.pending, env.listening]).toEqual(["closed", 0, 0]);
    }
  });

  it("connects once, however often it is told to", () => {
    const { env, client } = world();
    client.connect();
    client.connect();
    expect(env.sockets).toHaveLength(1);
  });

  it("goes on when a handler throws", () => {
    const { env, client, server, status } = live();
    const good = vi.fn();
    client.on("update", () => {
      throw new Error("the application's mistake");
    });
    client.on("update", good);
    server.update(1);
    server.update(2);
    expect(good).toHaveBeenCalledTimes(2);
    expect(status()).toBe("live");
    expect(() => env.advance(0)).toThrow("the application's mistake");
  });

  it("goes on when the logger throws", () => {
    const { status } = live({
      logger: () => {
        throw new Error("the logger's mistake");
      },
    });
    expect(status()).toBe("live");
  });

  it("serves a server that has no positions", () => {
    const { env, client, status } = world();
    const updates = vi.fn();
    client.on("update", updates);
    client.connect();
    env.socket.open();
    env.socket.receive({ type: "welcome", connection: "c" });
    env.socket.receive({ type: "update", topic: "t", data: 1 });
    expect(updates).toHaveBeenCalledOnce();
    expect(status()).toBe("live");
  });

  it("ignores what is no message", () => {
    const { env, status } = live();
    for (const data of ["", "nonsense", "[]", "null", "1", '{"type":1}', '{"no":"type"}', new ArrayBuffer(1)]) {
      env.socket.onmessage?.({ data } as never);
    }
    expect(status()).toBe("live");
  });

  it("counts visible downtime from the first drop, and not what nobody could see", () => {
    const { env, snapshot } = live();
    env.socket.end();
    env.advance(2_000);
    env.socket.end();
    env.page({ type: "hidden" });
    env.advance(100_000);
    env.page({ type: "visible" });
    expect(snapshot().seenMs).toBe(2_000);
  });

  it("keeps its snapshot while nothing that a page shows has changed", () => {
    const { client, server } = live();
    const before = client.getSnapshot();
    server.update(1);
    expect(client.getSnapshot()).toBe(before);
    expect(client.stream?.position).toBe(1);
  });

  it("logs each transition in one structured line, in development or to a logger, and is silent otherwise", () => {
    const info = vi.spyOn(console, "info").mockImplementation(() => {});
    const env = new FakeEnv();
    createClient(URL_, { env }).connect();
    expect(info).not.toHaveBeenCalled();
    env.development = true;
    createClient(URL_, { env }).connect();
    expect(info).toHaveBeenCalledExactlyOnceWith(
      "pulsetrail",
      expect.objectContaining({ from: "idle", to: "connecting.socket", event: "connect", attempt: 0 }),
    );
  });
});
