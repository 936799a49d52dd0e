import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { type Client, type ClientOptions, createClient, type SocketConstructor } from "../src/index.ts";

const ws = WebSocket as unknown as SocketConstructor;
const QUICK: ClientOptions = { WebSocket: ws, backoffBaseMs: 50, backoffJitterMs: 10, logger: null };

const undo: Array<() => void> = [];
afterEach(() => {
  for (const each of undo.splice(0)) each();
});

interface Gateway {
  readonly url: string;
  readonly server: WebSocketServer;
  readonly seen: Array<{ readonly path: string; readonly messages: Array<{ readonly type: string }> }>;
}

/** A real server that speaks the protocol. */
async function gateway(heartbeatMs = 100): Promise<Gateway> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "pulsetrail.v1" });
  const seen: Gateway["seen"] = [];
  undo.push(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  server.on("connection", (socket, request) => {
    const messages: Array<{ type: string }> = [];
    seen.push({ path: request.url ?? "", messages });
    const say = (message: object) => socket.send(JSON.stringify(message));
    const where = { stream_epoch: "e", stream_position: 0 };
    say({
      type: "welcome",
      connection: `c${seen.length}`,
      ...where,
      resumed: true,
      heartbeat_ms: heartbeatMs,
      miss_limit: 2,
      time: Date.now(),
    });
    const beat = setInterval(() => say({ type: "heartbeat", seq: 1, time: Date.now(), ...where }), heartbeatMs);
    socket.on("close", () => clearInterval(beat));
    socket.on("message", (data) => {
      const message = JSON.parse(data.toString());
      messages.push(message);
      if (message.type === "probe") say({ type: "probe_ok", id: message.id });
    });
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  return { url: `ws://127.0.0.1:${port}/ws/updates`, server, seen };
}

function connect(url: string, options: ClientOptions = {}): Client {
  const client = createClient(url, { ...QUICK, ...options });
  undo.push(() => client.close());
  client.connect();
  return client;
}

async function until(condition: () => boolean, what: string, ms = 5_000): Promise<void> {
  for (const end = performance.now() + ms; !condition(); await sleep(5)) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
  }
}

const is = (client: Client, status: string) => until(() => client.getSnapshot().status === status, status);

describe("over a real socket of ws", () => {
  it("connects, answers heartbeats and knows the clock", async () => {
    const { url, seen } = await gateway();
    const client = connect(url);
    await is(client, "live");
    await until(() => client.clock.samples > 2, "three clock samples");
    expect(Math.abs(client.clock.offsetMs)).toBeLessThanOrEqual(client.clock.errorMs + 5);
    expect(seen[0]?.messages.map(({ type }) => type)).toEqual(expect.arrayContaining(["pong", "probe"]));
  });

  it("comes back after a reset, with the previous connection and the position in the handshake", async () => {
    const { url, server, seen } = await gateway();
    const client = connect(url);
    await is(client, "live");
    for (const socket of server.clients) socket.terminate();
    await until(() => seen.length === 2, "a second connection");
    await is(client, "live");
    const query = new URL(seen[1]?.path ?? "", url).searchParams;
    expect(Object.fromEntries(query)).toMatchObject({ prev: "c1", prev_code: "1006", attempt: "1", since: "0" });
  });

  it("gives up a server that says nothing any more, without waiting for its close", async () => {
    const { url, server } = await gateway(100);
    const client = connect(url);
    await is(client, "live");
    for (const socket of server.clients) {
      socket.pause();
      socket.send = () => {};
    }
    await until(() => client.getSnapshot().status !== "live", "given up");
  });

  it("survives a refused upgrade and a closed port", async () => {
    const client = connect("ws://127.0.0.1:9/ws/updates", { maxAttempts: 2 });
    await is(client, "failed");
    expect(client.getSnapshot().reason).toBe("retries_exhausted");
  });

  it("may be dropped while it connects: ws then throws an error event", async () => {
    const { url } = await gateway();
    const client = connect(url);
    client.close();
    await sleep(50);
    expect(client.getSnapshot().status).toBe("closed");
  });
});
