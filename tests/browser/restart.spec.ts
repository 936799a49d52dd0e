/** Thirty pages and a restart: nobody comes before the time it was told, and they do not come together. */

import { Chaos } from "./lab/chaos.ts";
import { figure, history, moment, named } from "./lab/log.ts";
import { Monitor } from "./lab/monitor.ts";
import { expect, test } from "./lab/scenario.ts";

const PAGES = 30;
const SPREAD_SECONDS = 8;

test("after a restart thirty pages come back spread, each at its own time", async ({ context, ownService }) => {
  // Without figures to draw: what thirty pages draw is no part of this.
  const service = await ownService({
    PULSETRAIL_LIVE_FIGURES_INTERVAL: "0",
    PULSETRAIL_RECONNECT_SPREAD: String(SPREAD_SECONDS),
    PULSETRAIL_HEARTBEAT_INTERVAL: "10",
    PULSETRAIL_IDLE_TIMEOUT: "60",
  });
  const chaos = await Chaos.inFrontOf(service);
  try {
    // One first: pages that are opened together would each think of a client id of their own.
    const first = await Monitor.open(context, chaos.origin);
    await first.connected();
    const others = Array.from({ length: PAGES - 1 }, () => Monitor.open(context, chaos.origin));
    const monitors = [first, ...(await Promise.all(others))];
    const before = await Promise.all(monitors.map((monitor) => monitor.connected(60_000)));
    await service.stop();
    await service.start();
    const after = await Promise.all(
      monitors.map((monitor, place) => monitor.connectedAgain(before[place] ?? "", 60_000)),
    );
    expect(new Set(after).size).toBe(PAGES);

    const client = await first.page.evaluate(() => localStorage.getItem("pulsetrail.client"));
    const told = await history(
      service,
      client ?? "no client",
      ({ events }) =>
        named(events, "socket.opened").length === 2 * PAGES && named(events, "socket.closed").length === PAGES,
    );
    const ended = told.connections.filter(({ connection_id }) => before.includes(connection_id));
    expect(ended.map(({ reason, wire_code }) => [reason, wire_code])).toEqual(
      Array.from({ length: PAGES }, () => ["server_shutdown", 1012]),
    );
    expect(named(told.events, "socket.closed").map(({ close_code }) => close_code)).toEqual(
      Array.from({ length: PAGES }, () => 1012),
    );

    const hints: number[] = [];
    const firstAttempts: number[] = [];
    for (const { page_id } of ended) {
      const own = told.events.filter((event) => event.page_id === page_id && event.source === "client");
      const [closed] = named(own, "socket.closed");
      const then = own.filter((event) => figure(event, "seq") > figure(closed, "seq"));
      const hint = figure(named(then, "backoff.scheduled")[0], "hint_ms");
      const [attempt] = named(then, "attempt.started");
      const waited = figure(attempt, "mono") - figure(closed, "mono");
      expect(waited, `page ${page_id} was told ${hint} ms`).toBeGreaterThanOrEqual(hint - 20);
      hints.push(hint);
      firstAttempts.push(moment(attempt?.occurred_at));
    }
    expect(Math.max(...hints) - Math.min(...hints)).toBeGreaterThan((SPREAD_SECONDS * 1_000) / 2);

    firstAttempts.sort((one, other) => one - other);
    expect((firstAttempts.at(-1) ?? Number.NaN) - (firstAttempts[0] ?? Number.NaN)).toBeGreaterThan(
      (SPREAD_SECONDS * 1_000) / 2,
    );
    const busiest = Math.max(
      ...firstAttempts.map((from) => firstAttempts.filter((at) => at >= from && at < from + 1_000).length),
    );
    expect(busiest, "in any second").toBeLessThanOrEqual(PAGES / 2.5);
  } finally {
    await chaos.stop();
  }
});
