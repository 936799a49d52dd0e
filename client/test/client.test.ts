import { describe, expect, it, vi } from "vitest";
import { createClient, type Transition } from "../src/index.ts";
import { FakeEnv } from "../src/testing/index.ts";
import { live, URL_, world } from "./world.ts";

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
    expect(env.mono - (snapshot().seenSince as number)).toBe(2_000);
  });

  it("keeps its snapshot while nothing that a page shows has changed", () => {
    const { client, server } = live();
    const before = client.getSnapshot();
    server.update(1);
    expect(client.getSnapshot()).toBe(before);
    expect(client.stream?.position).toBe(1);
  });

  it("says in the log why something ended where it ended, and not in every line after that", () => {
    const lines: Transition[] = [];
    const { env, server } = live({ logger: (line) => lines.push(line) });
    lines.length = 0;
    env.socket.end(1012);
    env.advance(2_000);
    server.accept();
    expect(lines.map(({ to, code, cause }) => [to, code, cause])).toEqual([
      ["waiting", 1012, "server_shutdown"],
      ["connecting.socket", undefined, undefined],
      ["connecting.welcome", undefined, undefined],
      ["live", undefined, undefined],
    ]);
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
