/** Whatever happens, in whatever order: what holds in every state of the client. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { startTelemetry } from "../../src/telemetry/index.ts";
import { FakeEnv } from "../../src/testing/index.ts";
import { type World, world } from "../world.ts";

const state = ({ env }: World) => env.sockets.at(-1)?.readyState;
/** A server accepts a socket once, and says something to one that it has accepted. */
const waits = (made: World) => state(made) === 0;
const up = (made: World) => state(made) === 1;

/** What a browser, a server and a user can do to a client. */
const HAPPENINGS: Readonly<Record<string, (made: World) => unknown>> = {
  ...Object.fromEntries([1, 400, 3_000, 40_000, 200_000].map((ms) => [`${ms} ms pass`, ({ env }) => env.advance(ms)])),
  "the machine sleeps": ({ env }) => env.sleep(3_600_000),
  "the tab is throttled": ({ env }) => env.sleep(61_000, { monotonic: true }),
  connect: ({ client }) => client.connect(),
  close: ({ client }) => client.close(),
  retry: ({ client }) => void client.retryNow(),
  send: ({ client }) => void client.send({ type: "hello" }),
  accepted: (made) => waits(made) && made.server.accept(),
  "accepted anew": (made) => waits(made) && made.server.accept({ resumable: false }),
  heartbeat: (made) => up(made) && made.server.heartbeat(),
  update: (made) => made.server.update(1, { deliver: up(made) }),
  "lost update": ({ server }) => server.update(1, { deliver: false }),
  "probe answered": (made) => up(made) && made.server.answerProbe(),
  "a new stream": ({ server }) => {
    server.epoch += "'";
    server.position = 0;
    server.ring.length = 0;
  },
  ...Object.fromEntries(
    [1000, 1001, 1006, 1012, 4204, 4500, 4501].map((code) => [
      `closed ${code}`,
      (made) => (waits(made) || up(made)) && made.env.socket.end(code),
    ]),
  ),
  "sent away": (made) => up(made) && made.server.goAway(1013, 5_000),
  ...Object.fromEntries(
    (["hidden", "visible", "freeze", "resume", "pageshow", "online", "offline"] as const).map((type) => [
      type,
      ({ env }) => env.page({ type }),
    ]),
  ),
  "pagehide for now": ({ env }) => env.page({ type: "pagehide", persisted: true }),
  "pagehide for good": ({ env }) => env.page({ type: "pagehide", persisted: false }),
};

const story = fc.array(fc.constantFrom(...Object.keys(HAPPENINGS)), { maxLength: 40 });

/** Sockets that the client has neither closed nor seen closed, and still listens to. */
const held = ({ env }: World) =>
  env.sockets.filter(
    ({ onmessage, closedWith, readyState }) => onmessage && closedWith === undefined && readyState < 2,
  );

function told(names: readonly string[], check: (made: World, name: string) => void): void {
  const env = new FakeEnv();
  env.answer = () => Promise.reject(new TypeError("nothing is there"));
  const made = world({ pollAfter: 2, maxAttempts: 5 }, env);
  for (const name of names) {
    HAPPENINGS[name]?.(made);
    check(made, name);
  }
}

describe("whatever happens, in whatever order", () => {
  it("there is one socket at most, none at rest, and no timer that could wake a client that rests", () => {
    fc.assert(
      fc.property(story, (names) => {
        told(names, (made) => {
          const status = made.status();
          expect(held(made).length).toBeLessThanOrEqual(1);
          if (status === "live" || status === "verifying") expect(held(made)).toHaveLength(1);
          if (["idle", "closed", "failed", "suspended", "waiting"].includes(status)) expect(held(made)).toHaveLength(0);
          if (["idle", "closed", "failed", "suspended"].includes(status)) expect(made.env.pending).toBe(0);
          else expect(made.env.pending).toBeGreaterThan(0);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("what the page shows fits together", () => {
    fc.assert(
      fc.property(story, (names) => {
        told(names, ({ snapshot, env }) => {
          const { status, transport, stale, staleSince, retryAt, reason, downSince, seenSince } = snapshot();
          const open = status === "live" || status === "verifying";
          expect(transport === "websocket").toBe(open);
          expect(stale).toBe(staleSince !== undefined);
          expect(retryAt !== undefined).toBe(status === "waiting");
          expect(reason !== undefined).toBe(status === "failed");
          expect(downSince === undefined).toBe(open || status === "idle" || status === "closed");
          expect(seenSince === undefined).toBe(downSince === undefined);
          expect(seenSince ?? 0).toBeLessThanOrEqual(env.mono);
          expect(seenSince ?? 0).toBeGreaterThanOrEqual(downSince ?? 0);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("an update is delivered once, in order, and none is passed over without a word", () => {
    fc.assert(
      fc.property(story, (names) => {
        const seen: string[] = [];
        let gaps = 0;
        const env = new FakeEnv();
        const made = world({}, env);
        made.client.on("update", ({ stream_position }) => {
          const { epoch } = made.client.stream as { epoch: string };
          seen.push(`${epoch} ${stream_position}`);
        });
        made.client.onGap(() => void gaps++);
        for (const name of names) HAPPENINGS[name]?.(made);
        expect(new Set(seen).size).toBe(seen.length);
        const places = seen.map((place) => place.split(" ") as [string, string]);
        const breaks = places.filter(([epoch, position], index) => {
          const [before, last] = places[index - 1] ?? [epoch, position];
          return index > 0 && (before !== epoch || Number(position) !== Number(last) + 1);
        });
        expect(breaks.length).toBeLessThanOrEqual(gaps);
      }),
      { numRuns: 300 },
    );
  });

  it("the account has each opening once, each with its end before the next, and numbers without holes", async () => {
    await fc.assert(
      fc.asyncProperty(story, async (names) => {
        const env = new FakeEnv();
        env.answer = () => Response.json({ accepted: 1, rejected: [] }, { status: 202 });
        const made = world({ pollAfter: 2, maxAttempts: 5 }, env);
        const telemetry = startTelemetry(made.client);
        for (const name of names) HAPPENINGS[name]?.(made);
        made.client.close();
        await env.settle();
        await telemetry.flush();
        const events = env.requests
          .filter(({ url }) => url.endsWith("/telemetry"))
          .flatMap(({ init }) => JSON.parse(init?.body as string).events)
          .sort((one, other) => one.seq - other.seq);
        expect(events.map(({ seq }) => seq)).toEqual([...events.keys()]);
        const lives = events.filter(({ type }) => type === "socket.opened" || type === "socket.closed");
        lives.forEach(({ type, connection_id }, index) => {
          expect(type).toBe(index % 2 ? "socket.closed" : "socket.opened");
          if (index % 2) expect(connection_id).toBe(lives[index - 1].connection_id);
        });
        expect(lives.length % 2).toBe(0);
        const attempts = events.filter(({ type }) => /^(attempt\.|socket\.opened)/.test(type)).map(({ type }) => type);
        for (const [index, type] of attempts.entries()) expect(type === "attempt.started").toBe(index % 2 === 0);
        for (const event of events) {
          for (const [field, value] of Object.entries(event)) {
            if (typeof value === "number" && field !== "jitter_ms" && field !== "jump_ms") {
              expect(value, `${event.type} ${field}`).toBeGreaterThanOrEqual(0);
            }
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});
