/** What the client goes through is in the log, once, also after the bad days: offline, reloaded, closed, crowded, refused. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Client } from "../../src/index.ts";
import { startTelemetry, type Telemetry } from "../../src/telemetry/index.ts";
import { FakeStorage } from "../../src/testing/index.ts";
import {
  BEGIN,
  type Chaos,
  chaos,
  client,
  expectWhole,
  is,
  logOf,
  type Page,
  page,
  service,
  there,
  toldBy,
  typesOf,
  until,
} from "./lab.ts";

interface Tab extends Page {
  readonly client: Client;
  readonly telemetry: Telemetry;
}

/** A page with a client and telemetry, not connected yet. */
function tab(host: string, world: Parameters<typeof page>[0] = {}): Tab {
  const told = page(world);
  const made = client({ env: told.env }, host);
  return { ...told, client: made, telemetry: startTelemetry(made) };
}

const taken = ({ telemetry }: Tab) => until(() => telemetry.pending === 0, "all of it is taken", 20_000);

/** How often the log has a type of event. */
const count = (type: string, times: number) => (rows: Parameters<typeof typesOf>[0]) =>
  typesOf(rows).filter((each) => each === type).length >= times;

/** Takes the network away: nobody listens any more, and what is open is reset. */
async function away({ apply }: Chaos): Promise<void> {
  await apply({ fault: "refuse" });
  await apply({ fault: "reset" });
}

describe.skipIf(!there)("the account in the log", () => {
  it("is whole after an hour offline, spread over the hour, and nobody has to press Retry", async () => {
    const lab = await chaos();
    await away(lab);
    // An hour that is 600 times as fast as others, until it has caught up with them.
    const began = Date.now() - 3_600_000;
    const fast = { times: 600, until: BEGIN + (3_600_000 * 600) / 599 };
    const made = tab(lab.host, { clock: (mono) => began + mono - BEGIN, fast });
    made.client.connect();
    await until(() => made.client.getSnapshot().status === "failed", "attempts are used up");
    made.happen({ type: "hidden" });
    made.happen({ type: "visible" });
    await is(made.client, "failed");
    await until(() => made.env.now().mono >= fast.until, "the hour is over");
    await lab.lift();
    made.happen({ type: "online" });
    await is(made.client, "live");
    await taken(made);
    const account = toldBy(await logOf(made.client.clientId, count("socket.opened", 1)), made.client.pageId);
    expectWhole(account);
    const exhausted = account.findIndex(({ event_type }) => event_type === "retries.exhausted");
    expect(count("backoff.scheduled", 30)(account.slice(0, exhausted))).toBe(true);
    const times = account.map(({ occurred_at }) => Date.parse(occurred_at));
    // Each batch has the clock's estimate of its own: good to some milliseconds.
    for (const [index, time] of times.entries()) expect(time - (times[index - 1] ?? 0)).toBeGreaterThan(-1_000);
    expect(Math.abs((times[0] as number) - began)).toBeLessThan(60_000);
    const minutes = new Set(times.map((time) => Math.floor((time - began) / 60_000)));
    expect(minutes.size).toBeGreaterThan(20);
    expect((times.at(-1) as number) - began).toBeGreaterThan(3_600_000);
  }, 40_000);

  it("is whole after a reload while offline: the next page sends what the last one could not", async () => {
    const lab = await chaos();
    const [storage, session] = [new FakeStorage(), new FakeStorage()];
    const before = tab(lab.host, { storage, session });
    before.client.connect();
    await is(before.client, "live");
    await taken(before);
    await away(lab);
    await until(() => before.client.getSnapshot().attempt >= 2, "attempts in vain");
    before.happen({ type: "hidden" });
    before.happen({ type: "pagehide", persisted: false });
    before.die();
    const after = tab(lab.host, { storage, session });
    after.client.connect();
    await sleep(300);
    await lab.lift();
    await is(after.client, "live");
    await taken(after);
    await until(() => [...storage.items.keys()].join() === "pulsetrail.client", "nothing is left behind");
    expect(after.client.clientId).toBe(before.client.clientId);
    const rows = await logOf(after.client.clientId, count("socket.opened", 2));
    const accounts = [before, after].map(({ client: { pageId } }) => toldBy(rows, pageId));
    accounts.forEach(expectWhole);
    expect(typesOf(accounts[0] ?? [])).toEqual(
      expect.arrayContaining(["socket.closed", "attempt.failed", "page.hidden"]),
    );
    expect(new Set(accounts.flat().map(({ payload }) => payload.session_id)).size).toBe(1);
  });

  it("is whole after a tab was closed: its last words are sent past its end, and both sides say the same", async () => {
    const made = tab(service().host);
    made.client.connect();
    await is(made.client, "live");
    await taken(made);
    made.happen({ type: "hidden" });
    made.happen({ type: "pagehide", persisted: false });
    made.die();
    // What the browser does when the page is gone.
    made.socket().close(1001);
    const rows = await logOf(
      made.client.clientId,
      (all) => count("socket.closed", 1)(all) && count("connection.closed", 1)(all),
    );
    expectWhole(toldBy(rows, made.client.pageId));
    const [ours] = rows.filter(({ event_type }) => event_type === "socket.closed");
    const [theirs] = rows.filter(({ event_type }) => event_type === "connection.closed");
    expect([ours?.payload.cause, ours?.close_code]).toEqual(["page_closed", 1001]);
    expect([theirs?.reason, theirs?.close_code]).toEqual(["page_closed", 1001]);
    expect(ours?.connection_id).toBe(theirs?.connection_id);
  });

  it("is whole with two tabs open: one of them sends what a third left behind, once", async () => {
    const lab = await chaos();
    const storage = new FakeStorage();
    await away(lab);
    const third = tab(lab.host, { storage });
    third.client.connect();
    await until(() => third.client.getSnapshot().attempt >= 2, "attempts in vain");
    third.happen({ type: "pagehide", persisted: false });
    third.die();
    await lab.lift();
    const tabs = [tab(lab.host, { storage }), tab(lab.host, { storage })] as const;
    for (const { client } of tabs) client.connect();
    for (const { client } of tabs) await is(client, "live");
    for (const each of tabs) await taken(each);
    await until(() => [...storage.items.keys()].join() === "pulsetrail.client", "nothing is left behind");
    const senders = tabs.map(
      ({ sent }) => sent.filter((body) => JSON.parse(body).page_id === third.client.pageId).length,
    );
    expect(senders.sort()).toEqual([0, 1]);
    const rows = await logOf(third.client.clientId, count("socket.opened", 2));
    for (const each of [third, ...tabs]) expectWhole(toldBy(rows, each.client.pageId));
    expect(typesOf(toldBy(rows, third.client.pageId))).toContain("attempt.failed");
  });

  it("is whole when the collector is asked too often: its 429 says when to come again", async () => {
    const made = tab(service().host);
    const refused: Promise<Response>[] = [];
    for (let n = 0; n < 30; n++) {
      refused.push(fetch(`http://${service().host}/v1/telemetry`, { method: "POST", body: "{}" }));
    }
    const statuses = (await Promise.all(refused)).map(({ status }) => status);
    expect(statuses).toContain(429);
    made.client.connect();
    await is(made.client, "live");
    await taken(made);
    expect(made.statuses).toContain(429);
    expect(made.statuses.at(-1)).toBe(202);
    expectWhole(toldBy(await logOf(made.client.clientId, count("socket.opened", 1)), made.client.pageId));
  });

  it.each([
    ["answers 503", { fault: "http", status: 503 }],
    ["is gone", { fault: "refuse" }],
  ])("is whole when the collector %s for a while", async (_, fault) => {
    const lab = await chaos();
    const told = page();
    // The socket goes to the gateway itself: only the collector is broken.
    const made = client({ env: told.env });
    const telemetry = startTelemetry(made, { url: `http://${lab.host}/v1/telemetry` });
    await lab.apply(fault);
    made.connect();
    await is(made, "live");
    await until(() => told.sent.length >= 2, "two tries");
    expect(telemetry.pending).toBeGreaterThan(0);
    await lab.lift();
    await until(() => telemetry.pending === 0, "all of it is taken", 20_000);
    expectWhole(toldBy(await logOf(made.clientId, count("socket.opened", 1)), made.pageId));
  });
});
