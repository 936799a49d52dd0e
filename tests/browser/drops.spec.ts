/** Connections that end, and come back before anybody has to know. */

import { bothAccounts, figure, history, moment, named } from "./lab/log.ts";
import { expect, test } from "./lab/scenario.ts";

test("a reset is over before a banner is due, nothing is missed, and both sides tell the same", async ({
  service,
  chaos,
  monitor,
}) => {
  const before = await monitor.connectionId();
  await monitor.noteBanner();
  await chaos.apply({ fault: "reset" });
  await expect(monitor.state).toHaveAttribute("data-connection-state", /waiting|connecting/);
  const after = await monitor.liveAgain(before);
  await expect(monitor.fact("Resumed")).toContainText("yes");
  expect(await monitor.bannerNotes()).toEqual(["hidden"]);

  const { row, closed, events } = await bothAccounts(service, before);
  expect(row.reason).toBe("peer_reset");
  expect(closed.payload).toMatchObject({ clean: false });
  expect(closed.close_code).toBe(1006);
  expect(Math.abs(moment(row.ended_at) - moment(closed.occurred_at))).toBeLessThan(500);
  expect(await chaos.faultsIn(events)).toEqual(["reset"]);

  const next = await history(service, after, ({ events: told }) => named(told, "socket.opened").length > 0);
  const [opened] = named(next.events, "connection.opened");
  expect(opened?.payload.previous, "the next handshake says what the client saw").toMatchObject({
    connection: before,
    code: 1006,
    attempt: 1,
  });
  const [reconnected] = named(next.events, "socket.opened");
  const gap = next.connections[0]?.gap_ms ?? Number.NaN;
  expect(Math.abs(figure(reconnected, "downtime_ms") - gap)).toBeLessThan(500);
  expect(gap).toBeGreaterThan(1_400);
  expect(gap).toBeLessThan(4_000);
});
