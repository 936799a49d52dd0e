/**
 * Against the real gateway and collector: those at PULSETRAIL_URL, or ones that this file starts from the checkout's
 * virtual environment. Skipped where there is neither.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { browserEnv } from "../src/env/browser.ts";
import { type Client, type ClientOptions, createClient, type Env, type SocketConstructor } from "../src/index.ts";
import { startTelemetry } from "../src/telemetry/index.ts";

const python = fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
const KEY = "a secret of the tests that is long enough for HS256";
const given = process.env.PULSETRAIL_URL;

let service: ChildProcess | undefined;
let folder: string | undefined;
let base = given ?? "";
const undo: Array<() => void> = [];

beforeAll(async () => {
  if (given || !existsSync(python)) return;
  folder = mkdtempSync(join(tmpdir(), "pulsetrail-client-"));
  service = spawn(python, ["-m", "pulsetrail.cli", "serve", "--port", "0", "--data-dir", join(folder, "data")], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PULSETRAIL_AUTH_MODE: "ticket",
      PULSETRAIL_JWT_KEY: KEY,
      PULSETRAIL_HEARTBEAT_INTERVAL: "0.5",
      PULSETRAIL_DRAIN_SECONDS: "0.2",
      PULSETRAIL_LIVE_FIGURES_INTERVAL: "0",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  service.stdout?.on("data", (data) => {
    output += data;
  });
  service.stderr?.on("data", (data) => {
    output += data;
  });
  for (const end = Date.now() + 60_000; !base; await sleep(50)) {
    base = /ws:\/\/(127\.0\.0\.1:\d+)/.exec(output)?.[1] ?? "";
    if (Date.now() > end || service.exitCode !== null) throw new Error(`the service did not start:\n${output}`);
  }
}, 70_000);

afterEach(() => {
  for (const each of undo.splice(0)) each();
});

afterAll(async () => {
  if (!service) return;
  const gone = new Promise((resolve) => service?.once("exit", resolve));
  service.kill("SIGTERM");
  await gone;
  if (folder) rmSync(folder, { recursive: true, force: true });
}, 30_000);

/** A bearer token that is good for so long. */
function token(seconds: number, key = KEY): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "tester", exp: Date.now() / 1000 + seconds })}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

const host = () => base.replace(/^\w+:\/\//, "");

function client(options: ClientOptions = {}): Client {
  const made = createClient(`ws://${host()}/ws/updates`, {
    WebSocket: WebSocket as unknown as SocketConstructor,
    getToken: () => token(600),
    backoffBaseMs: 100,
    backoffJitterMs: 50,
    logger: null,
    ...options,
  });
  undo.push(() => made.close());
  return made;
}

async function publish(data: unknown): Promise<void> {
  const response = await fetch(`http://${host()}/v1/updates`, {
    method: "POST",
    body: JSON.stringify({ topic: "test", data }),
  });
  expect(response.status).toBe(202);
}

async function until(condition: () => boolean, what: string, ms = 8_000): Promise<void> {
  for (const end = performance.now() + ms; !condition(); await sleep(10)) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
  }
}

const is = (made: Client, status: string) => until(() => made.getSnapshot().status === status, status);

/** An environment whose newest socket can be cut, and which keeps the collector's answers. */
function watched(): Env & { cut(): void; readonly answers: Array<{ accepted: number; rejected: unknown[] }> } {
  const env = browserEnv(WebSocket as unknown as SocketConstructor);
  let socket: WebSocket | undefined;
  const answers: Array<{ accepted: number; rejected: unknown[] }> = [];
  return {
    ...env,
    answers,
    cut: () => socket?.terminate(),
    openSocket: (url, protocols) => {
      const opened = env.openSocket(url, protocols);
      socket = opened as unknown as WebSocket;
      return opened;
    },
    fetch: async (url, init) => {
      const response = await env.fetch(url, init);
      if (url.includes("telemetry")) answers.push(await response.clone().json());
      return response;
    },
  };
}

describe.skipIf(!given && !existsSync(python))("with the real gateway and collector", () => {
  it("connects with a ticket, stays through heartbeats and gets updates", async () => {
    const made = client();
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await is(made, "live");
    await publish("hello");
    await until(() => seen.length === 1, "the update");
    await sleep(2_000);
    expect(made.getSnapshot()).toMatchObject({ status: "live", attempt: 0 });
    expect(made.clock.samples).toBeGreaterThan(1);
  });

  it("gets after a cut exactly what it missed, and has told the collector all of it", async () => {
    const env = watched();
    const made = client({ env });
    const telemetry = startTelemetry(made);
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await is(made, "live");
    env.cut();
    await is(made, "waiting");
    await publish(1);
    await publish(2);
    await is(made, "live");
    await until(() => seen.length === 2, "the replay");
    expect(seen).toEqual([1, 2]);
    expect(made.getSnapshot().stale).toBe(false);
    await telemetry.flush();
    await until(() => telemetry.pending === 0, "all telemetry taken");
    expect(env.answers.flatMap(({ rejected }) => rejected)).toEqual([]);
    expect(env.answers.reduce((sum, { accepted }) => sum + accepted, 0)).toBeGreaterThanOrEqual(6);
    telemetry.stop();
  });

  it("the collector takes each type of the account", async () => {
    const env = watched();
    let page: Parameters<Env["listen"]>[0] = () => {};
    const made = client({
      env: {
        ...env,
        listen: (listener) => {
          page = listener;
          return () => {};
        },
      },
    });
    const telemetry = startTelemetry(made);
    made.connect();
    await is(made, "live");
    made.tell("banner", [true, 1]);
    made.tell("banner", [false, 1]);
    page({ type: "network", network: "wifi", effectiveType: "4g" });
    page({ type: "offline" });
    await is(made, "live");
    page({ type: "freeze" });
    page({ type: "resume" });
    await is(made, "live");
    await telemetry.flush();
    await until(() => telemetry.pending === 0, "all telemetry taken");
    expect(env.answers.flatMap(({ rejected }) => rejected)).toEqual([]);
    telemetry.stop();
  });

  it("renews its token over the open socket and keeps the connection", async () => {
    const made = client({ getToken: ({ force }) => token(force ? 600 : 3) });
    made.connect();
    await is(made, "live");
    const { connectionId } = made.getSnapshot();
    await sleep(4_500);
    expect(made.getSnapshot()).toMatchObject({ status: "live", connectionId });
  });

  it("tries once with a forced token when the first is no good, and fails with a second", async () => {
    const forced: boolean[] = [];
    const made = client({
      getToken: ({ force }) => {
        forced.push(force);
        return token(60, "another key that is long enough for HS256 too");
      },
    });
    made.connect();
    await is(made, "failed");
    expect(forced).toEqual([false, true]);
    expect(made.getSnapshot().reason).toBe("unauthorized");
  });

  it("falls back to polling where no WebSocket gets through", async () => {
    class Blocked extends WebSocket {
      constructor() {
        super("ws://127.0.0.1:9/");
      }
    }
    const made = client({ WebSocket: Blocked as unknown as SocketConstructor, pollMs: 200 });
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await until(() => made.getSnapshot().transport === "polling" && made.stream !== undefined, "polling");
    await publish("by polling");
    await until(() => seen.length === 1, "the update");
  });
});
