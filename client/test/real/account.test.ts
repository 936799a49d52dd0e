/** What the client goes through is in the log: each row of the catalogue, once, at the time at which it happened. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { startTelemetry } from "../../src/telemetry/index.ts";
import { chaos, client, expectWhole, is, logOf, page, statusesOf, there, toldBy, typesOf, until } from "./lab.ts";

/** The rows of the catalogue that are the client's. */
const CATALOGUE = [
  "attempt.failed",
  "attempt.started",
  "backoff.scheduled",
  "banner.hidden",
  "banner.shown",
  "clock.jumped",
  "heartbeat.overdue",
  "heartbeat.summarised",
  "network.changed",
  "page.frozen",
  "page.hidden",
  "page.resumed",
  "page.visible",
  "polling.started",
  "polling.stopped",
  "probe.answered",
  "probe.failed",
  "retries.exhausted",
  "socket.closed",
  "socket.opened",
  "telemetry.dropped",
];

describe.skipIf(!there)("the account in the log", () => {
  it("has each row of the catalogue, once, in the order in which it happened, with the gateway's connections", async () => {
    const { host, apply, lift } = await chaos();
    let ahead = 0;
    const told = page({ clock: () => Date.now() + ahead });
    const options = {
      env: told.env,
      maxAttempts: 8,
      pollAfter: 2,
      pollMs: 300,
      probeTimeoutMs: 300,
      backoffCapMs: 300,
    };
    const made = client(options, host);
    const telemetry = startTelemetry(made);
    made.connect();
    await is(made, "live");
    // Heartbeats, a doubt that is answered and one that is not.
    await sleep(700);
    told.happen({ type: "offline" });
    expect(made.getSnapshot().status).toBe("verifying");
    await is(made, "live");
    await apply({ fault: "blackhole", direction: "down" });
    told.happen({ type: "offline" });
    await is(made, "waiting");
    await lift();
    await is(made, "live");
    // Heartbeats that stop.
    await apply({ fault: "drop-heartbeats" });
    await is(made, "waiting");
    await lift();
    await is(made, "live");
    // A page that is hidden, frozen and there again, a way that changes, and a clock that is set.
    told.happen({ type: "hidden" });
    told.happen({ type: "freeze" });
    await sleep(50);
    told.happen({ type: "resume" });
    told.happen({ type: "visible" });
    await is(made, "live");
    told.happen({ type: "network", network: "wifi", effectiveType: "4g" });
    const statuses = statusesOf(made);
    ahead = 60_000;
    await until(() => statuses.join().includes("verifying,live"), "the jump is noticed");
    // A network that forbids WebSockets, and more to tell than there is room for.
    await apply({ fault: "http", status: 502, upgrades_only: true });
    told.socket().terminate();
    await until(() => made.getSnapshot().transport === "polling", "polling");
    made.tell("banner", [true, 5_000]);
    made.tell("banner", [false, 1_000]);
    await apply({ fault: "http", status: 503 });
    for (let n = 0; n < 600; n++) made.tell("banner", [n % 2 === 0, n]);
    await is(made, "failed");
    expect(telemetry.pending).toBe(500);
    await lift();
    made.retryNow();
    await is(made, "live");
    await until(() => telemetry.pending === 0, "all of it is taken", 20_000);
    await telemetry.flush();
    made.close();
    await until(() => telemetry.pending === 0, "the end is taken");

    const closed = (rows: readonly { event_type: string }[]) =>
      rows.filter(({ event_type }) => event_type === "socket.closed").length === 5;
    const rows = await logOf(made.clientId, closed);
    const account = toldBy(rows, made.pageId);
    expect([...new Set(typesOf(account))].sort()).toEqual(CATALOGUE);
    expect(told.replies.flatMap(({ rejected }) => rejected)).toEqual([]);
    // Numbers are missing for nothing but what was dropped, and that is told.
    const seqs = account.map(({ payload }) => payload.seq);
    expect(new Set(seqs).size).toBe(seqs.length);
    const missing = Math.max(...seqs) + 1 - seqs.length;
    const dropped = account.filter(({ event_type }) => event_type === "telemetry.dropped");
    expect(dropped.reduce((sum, { payload }) => sum + Number(payload.count), 0)).toBe(missing);
    expect(missing).toBeGreaterThan(100);
    // The two accounts are of the same connections, and agree on who ended them.
    const of = (source: string, type: string) =>
      rows.filter((row) => row.source === source && row.event_type === type).map(({ connection_id }) => connection_id);
    expect(of("client", "socket.opened")).toEqual(of("gateway", "connection.opened"));
    const ends = rows.filter(({ event_type }) => event_type === "socket.closed").map(({ payload }) => payload.cause);
    expect(ends).toEqual([
      "client_probe_timeout",
      "client_heartbeat_timeout",
      "client_asleep",
      "network_offline",
      "normal",
    ]);
  }, 60_000);

  it("has the times of the server's clock, whatever the page's clock says", async () => {
    for (const ahead of [-300_000, 3_600_000]) {
      const told = page({ clock: () => Date.now() + ahead });
      const made = client({ env: told.env });
      const telemetry = startTelemetry(made);
      made.connect();
      await is(made, "live");
      await sleep(1_200);
      told.socket().terminate();
      await is(made, "waiting");
      await is(made, "live");
      await until(() => telemetry.pending === 0, "all of it is taken");
      expect(made.clock.offsetMs + ahead).toBeCloseTo(0, -2);
      const rows = await logOf(
        made.clientId,
        (all) => typesOf(all).filter((type) => type === "socket.opened").length === 2,
      );
      for (const row of rows.filter(({ event_type }) => event_type === "socket.opened")) {
        const server = rows.find(
          ({ event_type, connection_id }) => event_type === "connection.opened" && connection_id === row.connection_id,
        );
        expect(row.payload.wall - ahead).toBeGreaterThan(Date.now() - 60_000);
        const apart = Date.parse(row.occurred_at) - Date.parse(server?.occurred_at ?? "");
        expect(Math.abs(apart)).toBeLessThan(250);
      }
    }
  });

  it("has an event once when the collector's answer was lost and the batch was sent again", async () => {
    const told = page();
    const made = client({ env: told.env });
    const telemetry = startTelemetry(made);
    told.lost = 1;
    made.connect();
    await until(() => told.lost < 0, "a second try");
    await until(() => telemetry.pending === 0, "it is taken");
    const seqs = told.sent.flatMap((body) => JSON.parse(body).events.map(({ seq }: { seq: number }) => seq));
    expect(seqs.length).toBeGreaterThan(new Set(seqs).size);
    const account = toldBy(await logOf(made.clientId, (rows) => typesOf(rows).includes("socket.opened")), made.pageId);
    expectWhole(account);
    expect(typesOf(account).slice(0, 2)).toEqual(["attempt.started", "socket.opened"]);
  });
});
