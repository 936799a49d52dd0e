/** Pages that do not run: hidden behind another tab, frozen by the browser, stopped without a word. */

import { setTimeout as sleep } from "node:timers/promises";
import { bothAccounts, figure, history, type LogEvent, moment, named } from "./lab/log.ts";
import { expect, test } from "./lab/scenario.ts";
import { Browser } from "./lab/tabs.ts";

const STATUS = "document.querySelector('[data-connection-state]')?.dataset.connectionState";
const IS_LIVE = `${STATUS} === 'live' && document.querySelector('[data-card=connection] code').textContent`;

test("a hidden tab stays connected; a frozen one says good-bye and comes back when it runs again", async ({
  service,
  chaos,
}) => {
  const browser = new Browser();
  try {
    const tab = await browser.open(`${chaos.origin}/monitor`);
    const before = await tab.until<string>(IS_LIVE);
    const other = await browser.open("about:blank");
    expect(await tab.evaluate("document.visibilityState")).toBe("hidden");
    await sleep(6_000);
    expect(await tab.evaluate(IS_LIVE), "three heartbeats later").toBe(before);

    await tab.freeze();
    await sleep(3_000);
    await tab.thaw();
    const after = await tab.until<string>(`${STATUS} === 'live' && ${IS_LIVE} !== '${before}' && ${IS_LIVE}`);
    expect(await tab.evaluate("document.visibilityState"), "it came back while still hidden").toBe("hidden");
    await tab.show();
    expect(other).toBeDefined();

    const { row, closed, events } = await bothAccounts(service, before);
    expect([row.reason, row.initiator, row.wire_code]).toEqual(["client_asleep", "client", 4102]);
    expect(closed.close_code).toBe(4102);
    expect(named(events, "connection.stale"), "it answered while it was hidden").toEqual([]);

    const told = await history(
      service,
      row.client_id,
      (found) => named(found.events, "socket.opened").length === 2 && named(found.events, "page.resumed").length > 0,
    );
    expect(named(told.events, "page.hidden")).not.toEqual([]);
    expect(named(told.events, "page.frozen")).toHaveLength(1);
    const away = figure(named(told.events, "page.resumed")[0], "away_ms");
    expect(away).toBeGreaterThan(2_500);
    expect(away).toBeLessThan(5_000);
    const next = told.connections.find(({ connection_id }) => connection_id === after);
    const downtime = figure(named(told.events, "socket.opened")[1], "downtime_ms");
    expect(Math.abs(downtime - (next?.gap_ms ?? Number.NaN))).toBeLessThan(1_000);
  } finally {
    await browser.close();
  }
});

test("a page that stops without a word is told apart from a dead path, and finds out when it runs again", async ({
  service,
  context,
  monitor,
}) => {
  const before = await monitor.connectionId();
  const devtools = await context.newCDPSession(monitor.page);
  await devtools.send("Debugger.enable");
  await devtools.send("Debugger.pause");
  await sleep(12_000);
  await devtools.send("Debugger.disable");
  const after = await monitor.liveAgain(before);
  expect(after).not.toBe(before);

  const { row, closed, events } = await bothAccounts(service, before);
  expect([row.reason, row.initiator, row.wire_code]).toEqual(["idle_timeout", "server", 4201]);
  expect(row.evidence.layers, "kernel and browser answered, the page did not").toEqual({ kernel: true, ping: true });
  const missed = named(events, "heartbeat.missed");
  expect(missed.length).toBeGreaterThanOrEqual(2);
  expect(missed.map(layersOf)).toContainEqual({ kernel: true, ping: true });
  expect(moment(closed.occurred_at), "the page learns of it when it runs again").toBeGreaterThan(moment(row.ended_at));
});

function layersOf(event: LogEvent): unknown {
  return event.payload.layers;
}
