import { describe, expect, it } from "vitest";
import { live } from "../world.ts";

describe("rule 6, sleep", () => {
  it.each([{ type: "freeze" }, { type: "pagehide", persisted: true }] as const)(
    "$type closes with 4102 and leaves no timer that would fire in a frozen page",
    (event) => {
      const { env, status } = live();
      env.page(event);
      expect(status()).toBe("suspended");
      expect(env.socket.closedWith).toBe(4102);
      expect(env.pending).toBe(0);
    },
  );

  it("a page that goes away for good is not called asleep: its browser closes it with 1001", () => {
    const { env } = live();
    env.page({ type: "pagehide", persisted: false });
    expect(env.socket.closedWith).toBeUndefined();
    expect(env.socket.onclose).toBeNull();
  });

  it.each(["resume", "pageshow", "visible"] as const)("%s reconnects at once, with jitter", (type) => {
    const { env, status } = live();
    env.page({ type: "hidden" });
    env.page({ type: "freeze" });
    env.sleep(600_000);
    env.page({ type });
    env.advance(249);
    expect(status()).toBe("waiting");
    env.advance(1);
    expect(status()).toBe("connecting");
  });

  it("waking does not reset the attempts: a fleet of laptops at nine o'clock is no reason to hammer", () => {
    const { env, snapshot } = live();
    env.socket.end();
    env.advance(2_000);
    env.socket.end();
    expect(snapshot().attempt).toBe(2);
    env.page({ type: "freeze" });
    env.page({ type: "resume" });
    expect(snapshot().attempt).toBe(2);
  });

  it("a hint of the server's outlasts a nap", () => {
    const { env, server, status } = live();
    server.goAway(4206, 60_000);
    env.page({ type: "freeze" });
    env.page({ type: "resume" });
    env.advance(59_000);
    expect(status()).toBe("waiting");
  });

  it("data is stale while asleep, and an unfrozen page says so until it has caught up", () => {
    const { env, server, snapshot } = live();
    server.update(1);
    env.page({ type: "freeze" });
    expect(snapshot().stale).toBe(true);
    server.position++;
    server.ring.push({ type: "update", stream_position: 2, topic: "t", data: 2 });
    env.page({ type: "resume" });
    env.advance(500);
    expect(snapshot().stale).toBe(true);
    server.accept();
    expect(snapshot()).toMatchObject({ status: "live", stale: false });
  });

  it("who comes back to a tab does not sit out a long wait, unless the server asked for it", () => {
    const { env, server, snapshot } = live();
    for (let retry = 0; retry < 8; retry++) {
      env.socket.end();
      env.advance((snapshot().retryAt as number) - env.mono);
    }
    env.socket.end();
    env.page({ type: "hidden" });
    env.page({ type: "visible" });
    expect((snapshot().retryAt as number) - env.mono).toBe(250);
    env.advance(250);
    server.accept();
    server.goAway(1013, 30_000);
    env.page({ type: "online" });
    expect((snapshot().retryAt as number) - env.mono).toBe(30_000);
  });
});
