/** The client and the real gateway. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { SocketConstructor } from "../../src/index.ts";
import { chaos, client, is, page, publish, statusesOf, there, token, until } from "./lab.ts";

describe.skipIf(!there)("with the real gateway", () => {
  it("connects with a ticket, stays through heartbeats, gets updates and knows the clock", async () => {
    const made = client();
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await is(made, "live");
    await publish("hello");
    await until(() => seen.includes("hello"), "the update");
    await sleep(2_000);
    expect(made.getSnapshot()).toMatchObject({ status: "live", attempt: 0 });
    expect(made.clock.samples).toBeGreaterThan(1);
    expect(Math.abs(made.clock.offsetMs)).toBeLessThanOrEqual(made.clock.errorMs + 5);
  });

  it("gets after a cut exactly what it missed, and is fresh only then", async () => {
    const told = page();
    const made = client({ env: told.env });
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await is(made, "live");
    const { epoch, position } = made.stream as { epoch: string; position: number };
    told.socket().terminate();
    await is(made, "waiting");
    expect(made.getSnapshot().stale).toBe(true);
    await publish("missed 1");
    await publish("missed 2");
    await is(made, "live");
    await until(() => seen.includes("missed 2"), "the replay");
    expect(seen.filter((data) => String(data).startsWith("missed"))).toEqual(["missed 1", "missed 2"]);
    expect(made.stream?.epoch).toBe(epoch);
    expect(made.stream?.position).toBeGreaterThanOrEqual(position + 2);
    expect(made.getSnapshot().stale).toBe(false);
  });

  it("renews its token over the open socket and keeps the connection", async () => {
    const made = client({ getToken: ({ force }) => token(force ? 600 : 3) });
    made.connect();
    await is(made, "live");
    const { connectionId } = made.getSnapshot();
    await sleep(4_500);
    expect(made.getSnapshot()).toMatchObject({ status: "live", connectionId });
  });

  it("comes back with a new token when the old one ran out, once it could not be renewed in time", async () => {
    const forced: boolean[] = [];
    const made = client({
      getToken: ({ force }) => {
        forced.push(force);
        if (force && made.getSnapshot().status === "live") throw new Error("nobody signs tokens just now");
        return token(force ? 600 : 2);
      },
    });
    made.connect();
    await is(made, "live");
    const { connectionId } = made.getSnapshot();
    const statuses = statusesOf(made);
    await until(() => statuses.join().includes("waiting,connecting,live"), "the token runs out, and there is another");
    expect(made.getSnapshot().connectionId).not.toBe(connectionId);
    expect(forced.at(-1)).toBe(true);
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

  it("polls behind a proxy that knows no WebSockets, and goes on over the socket without a hole when it learns", async () => {
    const { host, apply, lift } = await chaos();
    await apply({ fault: "http", status: 502, upgrades_only: true });
    const made = client({ pollMs: 200, backoffCapMs: 400 }, host);
    const seen: number[] = [];
    made.on("update", ({ data }) => seen.push((data as { n: number }).n));
    made.connect();
    await until(() => made.getSnapshot().transport === "polling" && made.stream, "polling");
    const count = async (from: number, to: number) => {
      for (let n = from; n <= to; n++) await publish({ n });
    };
    await count(1, 5);
    await until(() => seen.includes(5), "updates by polling");
    expect(made.getSnapshot()).toMatchObject({ transport: "polling", stale: false });
    const more = count(6, 30);
    await lift();
    await more;
    await is(made, "live");
    await count(31, 32);
    await until(() => seen.includes(32), "updates over the socket");
    const numbers = seen.filter((n) => n !== undefined);
    expect(numbers).toEqual([...numbers.keys()].map((index) => index + 1));
  });

  it("polls where the WebSocket of the runtime cannot connect at all", async () => {
    class Blocked extends WebSocket {
      constructor() {
        super("ws://127.0.0.1:9/");
      }
    }
    const made = client({ WebSocket: Blocked as unknown as SocketConstructor, pollMs: 200 });
    const seen: unknown[] = [];
    made.on("update", ({ data }) => seen.push(data));
    made.connect();
    await until(() => made.getSnapshot().transport === "polling" && made.stream, "polling");
    await publish("by polling");
    await until(() => seen.includes("by polling"), "the update");
  });
});
