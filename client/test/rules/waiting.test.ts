import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dropAndRetry, live, type World, world } from "../world.ts";

describe("rule 1, backoff", () => {
  it("a server's hint wins over the backoff, so that a restart does not become a storm", () => {
    const { env, server, status } = live();
    server.goAway(1012, 7_000);
    env.advance(6_999);
    expect(status()).toBe("waiting");
    env.advance(1);
    expect(status()).toBe("connecting");
  });

  it("a hint without a number, or out of all proportion, does no harm", () => {
    const { env, server, snapshot } = live();
    server.socket.receive({ type: "go_away", reason: "deploy" });
    server.socket.end(1012);
    expect(snapshot().retryAt).toBe(env.mono + 2_000);
    env.advance(2_000);
    server.accept();
    server.goAway(1012, 1e15);
    expect(snapshot().retryAt).toBe(env.mono + 3_600_000);
  });

  it("a connection that opens and dies at once does not start the waits anew", () => {
    const { env, server, snapshot } = live();
    for (const wait of [2_000, 3_000, 4_500]) {
      env.socket.end();
      expect(snapshot().retryAt).toBe(env.mono + wait);
      env.advance(wait);
      server.accept();
      env.advance(1_000);
    }
  });

  it("a hint wins whatever it is and however often it was tried: nobody comes before or after", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3_600_000 }),
        fc.nat(29),
        fc.double({ max: 0.999, min: 0, noNaN: true }),
        (hint, n, chance) => {
          const made = live();
          made.env.chance = chance;
          for (let retry = 0; retry < n; retry++) dropAndRetry(made);
          made.server.accept();
          made.server.goAway(1013, hint);
          expect(made.snapshot().retryAt).toBe(made.env.mono + hint);
        },
      ),
    );
  });

  it("after two stable minutes the waits start anew, and the page does not count old attempts any more", () => {
    const made = live();
    const { env, server, snapshot } = made;
    env.socket.end();
    env.advance(2_000);
    server.accept();
    for (let beat = 0; beat < 4; beat++) {
      env.advance(30_000);
      server.heartbeat();
    }
    expect(snapshot().attempt).toBe(0);
    env.socket.end();
    expect(snapshot().attempt).toBe(1);
    expect(snapshot().retryAt).toBe(env.mono + 2_000);
  });

  it("two minutes of silence are not a stable connection", () => {
    const made = live();
    dropAndRetry(made);
    made.server.accept();
    made.env.sleep(600_000, { monotonic: true });
    made.env.socket.end();
    expect(made.snapshot().attempt).toBe(2);
  });

  it("a server that is gone for good is not tried for ever: failed after 30 retries", () => {
    const made = live();
    for (let retry = 0; retry < 30; retry++) dropAndRetry(made);
    expect(made.status()).toBe("connecting");
    made.env.socket.end();
    expect(made.snapshot()).toMatchObject({ status: "failed", reason: "retries_exhausted" });
    made.env.advance(3_600_000);
    expect(made.env.sockets).toHaveLength(31);
    expect(made.env.pending).toBe(0);
  });
});

describe("when the attempts are used up", () => {
  function exhausted(): World {
    const made = live({ maxAttempts: 3 });
    for (let retry = 0; retry < 3; retry++) dropAndRetry(made);
    made.env.socket.end();
    expect(made.snapshot().reason).toBe("retries_exhausted");
    return made;
  }

  it.each(["online", "visible", "resume", "pageshow"] as const)(
    "nobody has to press Retry after an hour without a network: %s begins anew, with jitter",
    (type) => {
      const { env, snapshot } = exhausted();
      env.advance(3_600_000);
      env.page({ type });
      expect(snapshot()).toMatchObject({ status: "waiting", attempt: 0, retryAt: env.mono + 250 });
    },
  );

  it("a close that forbids to come back is not undone by looking at the page", () => {
    const { env, status } = live();
    env.socket.end(4501);
    env.page({ type: "online" });
    env.page({ type: "visible" });
    expect(status()).toBe("failed");
  });

  it("connect begins anew as well, from whatever it failed", () => {
    const { env, client, status } = live();
    env.socket.end(4501);
    client.connect();
    expect(status()).toBe("connecting");
  });
});

describe("rule 2, retry now", () => {
  it("Retry does something: it cuts a running wait short, and the wait does not fire later", () => {
    const { env, client, status } = live();
    env.socket.end();
    expect(client.retryNow()).toBe(true);
    expect(status()).toBe("connecting");
    env.advance(2_500);
    expect(env.sockets).toHaveLength(2);
  });

  it("a nervous finger does not become an attack: at most once a second", () => {
    const { env, client } = live();
    env.socket.end();
    client.retryNow();
    env.socket.end();
    expect(client.retryNow()).toBe(false);
    env.advance(1_000);
    expect(client.retryNow()).toBe(true);
  });

  it("leads out of failed, and does nothing while live, closed or idle", () => {
    const { env, client, server, status } = world();
    expect(client.retryNow()).toBe(false);
    client.connect();
    server.accept();
    expect(client.retryNow()).toBe(false);
    env.socket.end(4501);
    expect(status()).toBe("failed");
    expect(client.retryNow()).toBe(true);
    client.close();
    env.advance(2_000);
    expect(client.retryNow()).toBe(false);
  });
});

describe("rule 10, close codes", () => {
  it("a proxy that goes away with 1001, as a browser does, does not stop a client for good, and is not called a closed page", () => {
    const { env, status, server, query } = live();
    env.socket.end(1001);
    expect(status()).toBe("waiting");
    env.advance(2_000);
    server.accept();
    expect([query("prev_code")[1], query("cause")[1]]).toEqual(["1001", "unknown"]);
  });

  it.each([1006, 1011, 1012, 1013, 1015, 4000, 4200, 4201, 4202, 4203, 4205, 4206, 4321])("%i: come back", (code) => {
    const { env, status } = live();
    env.socket.end(code);
    expect(status()).toBe("waiting");
  });

  it.each([1000, 1002, 1003, 1007, 1009, 4501, 4502, 4777])("%i: stay away, and say why", (code) => {
    const { env, snapshot } = live();
    env.socket.end(code);
    expect(snapshot().status).toBe("failed");
    expect(snapshot().reason).toBeTruthy();
  });
});
