/** The service is away, or the way to it: what the page says meanwhile, and what the log says afterwards. */

import { setTimeout as sleep } from "node:timers/promises";
import { bothAccounts, figure, history, moment, named } from "./lab/log.ts";
import { expect, test } from "./lab/scenario.ts";

test("a blip of 3 s shows no banner", async ({ service, chaos, monitor }) => {
  const before = await monitor.connectionId();
  await monitor.noteBanner();
  await chaos.apply({ fault: "blackhole" }, 3);
  await chaos.apply({ fault: "reset" });
  const after = await monitor.liveAgain(before);
  expect(await monitor.bannerNotes()).toEqual(["hidden"]);

  const { row, events } = await bothAccounts(service, before);
  expect(row.reason).toBe("peer_reset");
  expect(await chaos.faultsIn(events)).toEqual(["blackhole", "reset"]);
  const next = await history(service, after, (found) => named(found.events, "socket.opened").length > 0);
  const downtime = figure(named(next.events, "socket.opened")[0], "downtime_ms");
  expect(downtime).toBeGreaterThan(2_400);
  expect(downtime).toBeLessThan(5_000);
  expect(Math.abs(downtime - (next.connections[0]?.gap_ms ?? Number.NaN))).toBeLessThan(500);
  const all = await history(service, row.client_id, () => true);
  expect(named(all.events, "banner.shown")).toEqual([]);
});

test("an outage of 20 s: a banner with a countdown, grey cards, and everything fresh when it is over", async ({
  service,
  chaos,
  monitor,
}) => {
  const before = await monitor.connectionId();
  await monitor.noteBanner();
  await chaos.apply({ fault: "refuse" }, 20);
  await chaos.apply({ fault: "reset" });
  await sleep(4_000);
  expect(await monitor.bannerNotes(), "it is not due for five seconds").toEqual(["hidden"]);
  await expect(monitor.banner).toHaveAttribute("data-state", "paused", { timeout: 3_000 });
  await expect(monitor.banner.getByRole("status")).toHaveText("Live updates paused, attempting to reconnect…");
  await expect(monitor.countdown).toHaveText(/^Next attempt in \d+ s$/);
  const first = await monitor.countdown.textContent();
  await expect(monitor.countdown).not.toHaveText(first ?? "");
  for (const card of await monitor.cards.all()) {
    await expect(card.getByText(/^Stale, \d+ s old$/)).toBeVisible();
    expect(await card.locator("[data-stale=true]").evaluate(greyed), "grey, and not by the badge alone").toBe(true);
  }
  const after = await monitor.liveAgain(before, 40_000);
  await expect(monitor.banner).toHaveAttribute("data-state", "hidden");
  await expect(monitor.page.getByText(/^Stale/)).toHaveCount(0);
  expect(await monitor.bannerNotes(), "failed attempts neither put it off nor make it blink").toEqual([
    "hidden",
    "paused",
    "hidden",
  ]);

  const { row, closed } = await bothAccounts(service, before);
  expect([row.reason, closed.close_code]).toEqual(["peer_reset", 1006]);
  const all = await history(service, row.client_id, (found) => named(found.events, "banner.hidden").length > 0);
  expect(Math.abs(figure(named(all.events, "banner.shown")[0], "downtime_ms") - 5_000)).toBeLessThan(700);
  const waits = named(all.events, "backoff.scheduled").map((event) => figure(event, "delay_ms"));
  for (const [attempt, wait] of waits.entries()) {
    expect(Math.abs(wait - 2_000 * 1.5 ** attempt), `wait ${attempt + 1} of ${waits}`).toBeLessThanOrEqual(500);
  }
  expect(named(all.events, "attempt.failed").length, "each wait but the last ended in a refusal").toBe(
    waits.length - 1,
  );
  const next = all.connections.find(({ connection_id }) => connection_id === after);
  const downtime = figure(named(all.events, "socket.opened").at(-1), "downtime_ms");
  expect(downtime).toBeGreaterThan(20_000);
  expect(Math.abs(downtime - (next?.gap_ms ?? Number.NaN))).toBeLessThan(500);
});

function greyed(element: Element): boolean {
  for (let at: Element | null = element; at; at = at.parentElement) {
    if (/grayscale|saturate/.test(getComputedStyle(at).filter)) return true;
  }
  return [...element.querySelectorAll("*")].some((child) => /grayscale|saturate/.test(getComputedStyle(child).filter));
}

test("a half-open connection is given up by both sides, each by its own clock", async ({ service, chaos, monitor }) => {
  const before = await monitor.connectionId();
  await chaos.apply({ fault: "blackhole" });
  const cut = Date.now();
  await expect(monitor.state).toHaveAttribute("data-connection-state", /waiting|connecting/, { timeout: 10_000 });
  expect(Date.now() - cut, "two heartbeats of 2 s are overdue").toBeGreaterThan(2_000);
  await expect(monitor.banner).toHaveAttribute("data-state", "paused", { timeout: 10_000 });
  await sleep(2_000);
  await chaos.lift();
  await monitor.liveAgain(before, 30_000);

  const { row, closed, events } = await bothAccounts(service, before);
  expect([row.reason, row.wire_code], "the server's account").toEqual(["idle_timeout", 4201]);
  expect(row.evidence.layers, "the proxy's kernel answers for a browser that hears nothing").toEqual({
    kernel: true,
    ping: false,
  });
  expect([closed.close_code, closed.payload.cause], "the client's account").toEqual([4100, "client_heartbeat_timeout"]);
  expect(moment(closed.occurred_at), "the client's patience is the shorter one").toBeLessThan(moment(row.ended_at));
  const [overdue] = named(events, "heartbeat.overdue");
  expect(figure(overdue, "misses")).toBeGreaterThanOrEqual(2);
  expect(figure(overdue, "timer_late_ms"), "the link was at fault, not a sleeping timer").toBeLessThan(1_000);
});

test("where WebSockets do not pass, the page polls, and Retry brings the socket back", async ({
  service,
  chaos,
  monitor,
}) => {
  const before = await monitor.connectionId();
  await chaos.apply({ fault: "http", status: 502, upgrades_only: true });
  await chaos.apply({ fault: "reset" });
  await expect(monitor.fact("Transport")).toHaveText("polling", { timeout: 40_000 });
  await expect(monitor.state).toHaveAttribute("data-stale", "false", { timeout: 25_000 });
  await expect(monitor.banner, "nothing is pushed any more").toHaveAttribute("data-state", "paused");
  await chaos.lift();
  await monitor.retry.click();
  await monitor.liveAgain(before);
  await expect(monitor.fact("Transport")).toHaveText("websocket");
  await expect(monitor.banner).toHaveAttribute("data-state", "hidden");

  const { row } = await bothAccounts(service, before);
  const all = await history(service, row.client_id, (found) => named(found.events, "polling.stopped").length > 0);
  expect(figure(named(all.events, "polling.started")[0], "failures")).toBe(4);
  expect(figure(named(all.events, "polling.stopped")[0], "polled_ms")).toBeGreaterThan(0);
  expect(named(all.events, "connection.opened"), "the server saw none of the attempts between").toHaveLength(2);
  const previous = named(all.events, "connection.opened")[1]?.payload.previous as { attempt: number };
  expect(previous.attempt, "but is told of them").toBe(named(all.events, "attempt.failed").length + 1);
});

test("what happened offline is on record once, also after a reload", async ({ service, context, chaos, monitor }) => {
  const before = await monitor.connectionId();
  await chaos.apply({ fault: "refuse" });
  await chaos.apply({ fault: "reset" });
  await context.setOffline(true);
  await sleep(4_000);
  await monitor.page.reload().catch(() => undefined);
  await sleep(500);
  await context.setOffline(false);
  await chaos.lift();
  await monitor.page.goto(`${chaos.origin}/monitor`);
  const after = await monitor.live();

  const { row, closed } = await bothAccounts(service, before);
  expect([row.reason, closed.close_code]).toEqual(["peer_reset", 1006]);
  const all = await history(service, row.client_id, (found) => named(found.events, "socket.opened").length === 2);
  const next = all.connections.find(({ connection_id }) => connection_id === after);
  expect(next?.page_id, "another page of the same client").not.toBe(row.page_id);
  const ofFirst = all.events.filter(({ source, page_id }) => source === "client" && page_id === row.page_id);
  expect(named(ofFirst, "backoff.scheduled").length).toBeGreaterThan(0);
  expect(named(ofFirst, "attempt.failed").length).toBeGreaterThan(0);
  expect(named(ofFirst, "network.changed").map(({ payload }) => payload.network)).toContain("offline");
  const numbers = ofFirst.map((event) => figure(event, "seq"));
  expect(new Set(numbers).size, "each event once").toBe(numbers.length);
  expect(
    [...numbers].sort((one, other) => one - other),
    "and all of them",
  ).toEqual(numbers.map((_, place) => place));
});
