import { describe, expect, it, vi } from "vitest";
import type { Transition } from "../../src/index.ts";
import { FakeEnv } from "../../src/testing/index.ts";
import { jwt, world } from "../world.ts";

describe("rule 7, token", () => {
  it("each attempt has its token, and it is not in the address", async () => {
    const getToken = vi.fn(() => "secret");
    const made = world({ getToken, auth: "jwt" });
    made.client.connect();
    await made.env.settle();
    expect(made.env.socket.protocols).toEqual(["pulsetrail.v1", "bearer.secret"]);
    expect(made.env.socket.url.href).not.toContain("secret");
    made.env.socket.end();
    made.env.advance(2_000);
    await made.env.settle();
    expect(getToken).toHaveBeenCalledTimes(2);
    expect(getToken).toHaveBeenLastCalledWith({ force: false, signal: expect.any(AbortSignal) });
  });

  it("a ticket is fetched for the token and used in its place", async () => {
    const made = world({ getToken: () => "secret" });
    made.env.answer = () => Response.json({ ticket: "t1", expires_in: 30 });
    made.client.connect();
    await made.env.settle();
    expect(made.env.requests[0]?.url).toBe("https://live.example/v1/tickets");
    expect(made.env.requests[0]?.init?.headers).toEqual({ Authorization: "Bearer secret" });
    expect(made.env.socket.protocols).toEqual(["pulsetrail.v1", "ticket.t1"]);
  });

  it.each([4204, 4500])("%i: once with a forced token; the second in a row is final", async (code) => {
    const forced: boolean[] = [];
    const made = world({
      auth: "jwt",
      getToken: ({ force }) => {
        forced.push(force);
        return "token";
      },
    });
    made.client.connect();
    await made.env.settle();
    made.server.accept();
    made.env.socket.end(code);
    expect(made.status()).toBe("waiting");
    made.env.advance(500);
    await made.env.settle();
    expect(forced).toEqual([false, true]);
    made.env.socket.open();
    made.env.socket.end(code);
    expect(made.status()).toBe("failed");
  });

  it("a cut between two refusals does not bring the refused token back", async () => {
    const forced: boolean[] = [];
    const made = world({
      auth: "jwt",
      getToken: ({ force }) => {
        forced.push(force);
        return "token";
      },
    });
    made.client.connect();
    await made.env.settle();
    made.env.socket.end(4500);
    made.env.advance(500);
    await made.env.settle();
    made.env.socket.end(1006);
    made.env.advance(3_000);
    await made.env.settle();
    expect(forced).toEqual([false, true, true]);
    made.env.socket.end(4500);
    expect(made.status()).toBe("failed");
  });

  it("an expiry each hour is not two in a row", async () => {
    const made = world({ auth: "jwt", getToken: () => "token" });
    made.client.connect();
    for (let hour = 0; hour < 3; hour++) {
      await made.env.settle();
      made.server.accept();
      made.env.advance(30_000);
      made.server.heartbeat();
      made.env.socket.end(4204);
      expect(made.status()).toBe("waiting");
      made.env.advance(500);
    }
  });

  it("a token that cannot be had is a failed attempt, not an uncaught error, and the log says what was wrong", async () => {
    const lines: Transition[] = [];
    const getToken = () => Promise.reject(new Error("the sign-in page is offline"));
    const made = world({ getToken, logger: (line) => lines.push(line) });
    made.client.connect();
    await made.env.settle();
    expect(made.status()).toBe("waiting");
    expect(lines.at(-1)).toMatchObject({ to: "waiting", detail: "Error: the sign-in page is offline" });
  });

  it("no ticket for any other reason than the token is a failed attempt, too", async () => {
    for (const answer of [() => new Response(null, { status: 503 }), () => Response.json(null)]) {
      const made = world({ getToken: () => "token" });
      made.env.answer = answer;
      made.client.connect();
      await made.env.settle();
      expect(made.snapshot()).toMatchObject({ status: "waiting", attempt: 1 });
      expect(made.env.sockets).toHaveLength(0);
    }
  });

  it("a token source that hangs is told to stop, and its late answer is ignored", async () => {
    let give: (token: string) => void = () => {};
    let signal: AbortSignal | undefined;
    const made = world({
      auth: "jwt",
      getToken: (request) => {
        signal = request.signal;
        return new Promise((resolve) => {
          give = resolve;
        });
      },
    });
    made.client.connect();
    await made.env.settle();
    made.env.advance(15_000);
    expect(signal?.aborted).toBe(true);
    give("late");
    await made.env.settle();
    expect(made.env.sockets).toHaveLength(0);
    expect(made.status()).toBe("waiting");
  });

  it("a token is renewed over the open socket before it expires", async () => {
    const env = new FakeEnv();
    const made = world({ auth: "jwt", getToken: () => jwt(env.wall + 120_000) }, env);
    made.client.connect();
    await env.settle();
    made.server.accept();
    for (let beat = 0; beat < 4; beat++) {
      env.advance(30_000);
      made.server.heartbeat();
      await env.settle();
    }
    expect(env.socket.sent.filter(({ type }) => type === "token").length).toBeGreaterThanOrEqual(1);
    expect(env.sockets).toHaveLength(1);
  });
});
