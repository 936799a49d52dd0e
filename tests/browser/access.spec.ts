/** Tokens that expire, and pages that may not do what others may. */

import { createHmac } from "node:crypto";
import { Chaos } from "./lab/chaos.ts";
import { bothAccounts, history, named } from "./lab/log.ts";
import { Monitor } from "./lab/monitor.ts";
import { expect, test } from "./lab/scenario.ts";

const KEY = "a key of the tests that is long enough";

/** A bearer token (RFC 7519) that is good for so many seconds. */
function token(seconds: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "ada", exp: Math.floor(Date.now() / 1_000) + seconds })}`;
  return `${signed}.${createHmac("sha256", KEY).update(signed).digest("base64url")}`;
}

test("an expired token ends the connection, the page asks for another, and goes on with it", async ({
  context,
  ownService,
}) => {
  const service = await ownService({ PULSETRAIL_AUTH_MODE: "jwt", PULSETRAIL_JWT_KEY: KEY });
  const chaos = await Chaos.inFrontOf(service);
  try {
    const monitor = await Monitor.open(context, chaos.origin);
    const field = monitor.page.getByRole("textbox", { name: "Bearer token" });
    await expect(monitor.state).toHaveAttribute("data-connection-state", "failed", { timeout: 20_000 });
    await field.fill(token(6));
    await monitor.page.getByRole("button", { name: "Connect" }).click();
    const before = await monitor.connected();
    await expect(monitor.state, "the token's end is the connection's").toHaveAttribute(
      "data-connection-state",
      "failed",
      { timeout: 20_000 },
    );
    await expect(monitor.banner).toHaveAttribute("data-state", "failed");
    await expect(monitor.banner).toContainText("Live updates stopped.");
    await field.fill(token(600));
    await monitor.page.getByRole("button", { name: "Connect" }).click();
    await monitor.connectedAgain(before);
    await expect(monitor.banner).toHaveAttribute("data-state", "hidden");

    const { row, closed } = await bothAccounts(service, before);
    expect([row.reason, row.initiator, row.wire_code]).toEqual(["token_expired", "server", 4204]);
    expect(closed.close_code).toBe(4204);
    const all = await history(service, row.client_id, (found) => named(found.events, "connection.opened").length === 2);
    const lifetime = Date.parse(row.ended_at ?? "") - Date.parse(row.opened_at);
    expect(lifetime, "not a second longer than the token").toBeLessThan(7_000);
    expect(all.connections).toHaveLength(2);
  } finally {
    await chaos.stop();
  }
});

test("no page can give the chaos proxy orders", async ({ context, chaos, service }) => {
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${service.port}/healthz`);
  const order = '{"do":"apply","fault":{"fault":"refuse"}}\n';
  const outcomes = await page.evaluate(
    async ([port, body]) => {
      const url = `http://127.0.0.1:${port}/`;
      const tries = [
        fetch(url, { method: "POST", mode: "no-cors", body }),
        fetch(url, { method: "POST", mode: "no-cors", body, headers: { "Content-Type": "text/plain" } }),
        fetch(url, { method: body, mode: "no-cors" }),
        fetch(`${url}?${body}`),
        new Promise((resolve, reject) => {
          const socket = new WebSocket(url.replace("http", "ws"), "pulsetrail.v1");
          socket.onopen = resolve;
          socket.onerror = reject;
        }),
      ];
      return (await Promise.allSettled(tries)).map(({ status }) => status);
    },
    [chaos.controlPort, order] as const,
  );
  expect(outcomes).toEqual(["rejected", "rejected", "rejected", "rejected", "rejected"]);
  expect((await chaos.status()).faults).toEqual([]);
});
