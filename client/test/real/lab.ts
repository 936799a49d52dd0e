/** Clients of the real service, the faults between them and it, and what the log says in the end. */
import { type ChildProcess, execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, expect, inject } from "vitest";
import { WebSocket } from "ws";
import { browserEnv } from "../../src/env/browser.ts";
import {
  type Client,
  type ClientOptions,
  createClient,
  type Env,
  type PageEvent,
  type SocketConstructor,
  type StorageLike,
} from "../../src/index.ts";
import { environment, JWT_KEY, type Service, started, stopped } from "./service.ts";

const undo: Array<() => unknown> = [];
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

export function service(): Service {
  return inject("service") as Service;
}

export const there = inject("service") !== undefined;

/** A bearer token that is good for so many seconds. */
export function token(seconds = 600, key = JWT_KEY): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "tester", exp: Date.now() / 1000 + seconds })}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

export async function until(condition: () => unknown, what: string, ms = 10_000): Promise<void> {
  for (const end = performance.now() + ms; !condition(); await sleep(10)) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
  }
}

export const is = (client: Client, status: string) => until(() => client.getSnapshot().status === status, status);

/** Broadcast an update. */
export async function publish(data: unknown): Promise<void> {
  const body = JSON.stringify({ topic: "test", data });
  const response = await fetch(`http://${service().host}/v1/updates`, { method: "POST", body });
  expect(response.status).toBe(202);
}

// --- pages ---

export interface Page {
  readonly env: Env;
  /** Something happens to the page. */
  happen(event: PageEvent): void;
  /** Nothing of the page runs any more: no timer, no request. */
  die(): void;
  /** The newest socket, as the browser below the page sees it. */
  socket(): WebSocket;
  /** Bodies that were sent to the collector, the statuses that it answered with, and its replies. */
  readonly sent: string[];
  readonly statuses: number[];
  readonly replies: Array<{ readonly accepted: number; readonly rejected: readonly unknown[] }>;
  /** How many of the collector's next answers do not reach the page. */
  lost: number;
}

/** What a page's monotonic clock says at first. */
export const BEGIN = 1_000;

/** A page with real sockets, requests and timers, whose life and clock are the test's. */
export function page({
  storage,
  session,
  clock = Date.now,
  fast = { times: 1, until: 0 },
}: {
  readonly storage?: StorageLike;
  readonly session?: StorageLike;
  /** The wall clock. */
  readonly clock?: (mono: number) => number;
  /** How many times faster than real its time passes, until which time of its monotonic clock. */
  readonly fast?: { readonly times: number; readonly until: number };
} = {}): Page {
  const real = browserEnv(WebSocket as unknown as SocketConstructor);
  let listener: (event: PageEvent) => void = () => {};
  let newest: WebSocket | undefined;
  let visibility: "visible" | "hidden" = "visible";
  let dead = false;
  let mono = BEGIN;
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    const passed = now - last;
    const hurried = Math.min(passed, Math.max(0, fast.until - mono) / fast.times);
    mono += hurried * fast.times + passed - hurried;
    last = now;
    return mono;
  };
  const made: Page = {
    env: {
      ...real,
      storage,
      session,
      development: false,
      // Waits are short then.
      random: () => 0.1,
      now: () => {
        const mono = tick();
        return { wall: clock(mono), mono };
      },
      setTimer: (callback, ms) => {
        return real.setTimer(() => dead || callback(), tick() < fast.until ? ms / fast.times : ms);
      },
      visibility: () => visibility,
      listen: (told) => {
        listener = told;
        return () => {
          listener = () => {};
        };
      },
      openSocket: (url, protocols) => {
        const socket = real.openSocket(url, protocols);
        newest = socket as unknown as WebSocket;
        return socket;
      },
      fetch: async (url, init) => {
        if (dead) return new Promise(() => {});
        const toCollector = url.includes("/telemetry");
        if (toCollector) made.sent.push(String(init?.body));
        const response = await real.fetch(url, init);
        if (!toCollector) return response;
        if (made.lost-- > 0) throw new TypeError("the answer was lost");
        made.statuses.push(response.status);
        if (response.ok) made.replies.push(await response.clone().json());
        return response;
      },
    },
    happen(event) {
      if (event.type === "hidden" || event.type === "visible") visibility = event.type;
      listener(event);
    },
    die() {
      dead = true;
    },
    socket: () => newest as WebSocket,
    sent: [],
    statuses: [],
    replies: [],
    lost: 0,
  };
  return made;
}

const QUICK: ClientOptions = { backoffBaseMs: 100, backoffJitterMs: 50, attemptTimeoutMs: 3_000, logger: null };

/** A client of the service at `host`, closed after the test. */
export function client(options: ClientOptions = {}, host = service().host): Client {
  const made = createClient(`ws://${host}/ws/updates`, {
    WebSocket: WebSocket as unknown as SocketConstructor,
    getToken: () => token(),
    ...QUICK,
    ...options,
  });
  undo.push(() => made.close());
  return made;
}

/** The statuses that a client goes through from now on, however briefly. */
export function statusesOf(made: Client): string[] {
  const statuses: string[] = [];
  made.observe((_before, _event, { at }) => {
    if (at.status !== statuses.at(-1)) statuses.push(at.status);
  });
  return statuses;
}

// --- faults ---

export interface Chaos {
  /** Where clients connect. */
  readonly host: string;
  apply(fault: object): Promise<void>;
  lift(): Promise<void>;
}

/** `pulsetrail chaos` in front of the service, for the test that calls. */
export async function chaos(): Promise<Chaos> {
  const { host, dataDir } = service();
  const says = /"listen":\s*"([\d.:]+)",\s*"control":\s*"([\d.]+):(\d+)"/;
  const { child, said } = await started(
    [
      "chaos",
      "serve",
      "--listen",
      "127.0.0.1:0",
      "--control",
      "127.0.0.1:0",
      "--target",
      host,
      "--no-record",
      "--json",
    ],
    says,
    environment({ PULSETRAIL_DATA_DIR: dataDir }),
    dataDir,
  );
  undo.push(() => stopped(child as ChildProcess));
  const order = (order: object) =>
    new Promise<void>((resolve, reject) => {
      const socket = createConnection(Number(said[3]), said[2]);
      let reply = "";
      socket.on("data", (data) => {
        reply += data;
      });
      socket.on("error", reject);
      socket.on("close", () => (reply.includes('"error":"') ? reject(new Error(reply)) : resolve()));
      socket.end(`${JSON.stringify(order)}\n`);
    });
  return {
    host: said[1] as string,
    apply: (fault) => order({ do: "apply", fault }),
    lift: () => order({ do: "lift" }),
  };
}

// --- the log ---

export interface Row {
  readonly event_type: string;
  readonly source: string;
  readonly occurred_at: string;
  readonly connection_id: string | null;
  readonly page_id: string | null;
  readonly reason: string | null;
  readonly close_code: number | null;
  readonly payload: {
    readonly seq: number;
    readonly wall: number;
    readonly mono: number;
    readonly cause?: string;
    readonly offset_ms?: number;
    readonly [field: string]: unknown;
  };
}

/** All that the log has of a client, as `pulsetrail tail` prints it, once it has `enough`. */
export async function logOf(clientId: string, enough: (rows: readonly Row[]) => boolean, ms = 10_000): Promise<Row[]> {
  const { python, dataDir } = service();
  const args = ["-m", "pulsetrail.cli", "tail", "--no-follow", "-n", "10000", "--json", "--client", clientId];
  for (const end = performance.now() + ms; ; ) {
    const { stdout } = await promisify(execFile)(python, args, {
      cwd: dataDir,
      env: environment({ PULSETRAIL_DATA_DIR: dataDir }),
      maxBuffer: 2 ** 26,
    });
    const rows = stdout
      .trim()
      .split("\n")
      .filter(Boolean)
      .map((line): Row => JSON.parse(line));
    if (enough(rows)) return rows;
    if (performance.now() > end)
      throw new Error(`the log has not enough:\n${rows.map((row) => row.event_type).join("\n")}`);
  }
}

/** What one page told, in the order in which it happened. */
export function toldBy(rows: readonly Row[], pageId: string): Row[] {
  return rows
    .filter(({ source, page_id }) => source === "client" && page_id === pageId)
    .sort((one, other) => one.payload.seq - other.payload.seq);
}

/** Each event that a page numbered is in the log, and once. */
export function expectWhole(told: readonly Row[]): void {
  expect(told.map(({ payload }) => payload.seq)).toEqual([...told.keys()]);
}

export const typesOf = (rows: readonly Row[]) => rows.map(({ event_type }) => event_type);
