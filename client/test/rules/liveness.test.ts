import { describe, expect, it, vi } from "vitest";
import type { FakeSocket } from "../../src/testing/index.ts";
import { live, world } from "../world.ts";

const pongs = (socket: FakeSocket) => socket.sent.filter(({ type }) => type === "pong");
const probes = (socket: FakeSocket) => socket.sent.filter(({ type }) => type === "probe");

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

describe("rule 4, doubt in doubt", () => {
  it("a sleep during the doubt makes its answer worthless: frames from before it prove nothing", () => {
    const { env, status } = live();
    env.page({ type: "offline" });
    const [old] = probes(env.socket);
    env.sleep(600_000);
    env.socket.receive({ type: "probe_ok", id: old?.id });
    expect(status()).toBe("verifying");
    expect(probes(env.socket)).toHaveLength(2);
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
