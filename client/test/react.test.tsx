// @vitest-environment happy-dom
import { act, cleanup, render, screen } from "@testing-library/react";
import { StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Client } from "../src/index.ts";
import {
  ConnectionBanner,
  ConnectionProvider,
  Stale,
  StaleBadge,
  useConnection,
  useMessages,
  useResilientWebSocket,
} from "../src/react/index.ts";
import { startTelemetry } from "../src/telemetry/index.ts";
import { FakeEnv } from "../src/testing/index.ts";
import { live, URL_, type World, world } from "./world.ts";

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean;
}

beforeEach(() => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
});
afterEach(cleanup);

const PAUSED = "Live updates paused, attempting to reconnect…";

function show(made: World, children: React.ReactNode) {
  return render(<ConnectionProvider value={made.client}>{children}</ConnectionProvider>);
}

function advance({ env }: { readonly env: FakeEnv }, ms: number): void {
  act(() => env.advance(ms));
}

describe("useResilientWebSocket", () => {
  function App({ env }: { readonly env: FakeEnv }) {
    const { snapshot } = useResilientWebSocket(URL_, { env, logger: null });
    return <p>{snapshot.status}</p>;
  }

  it("opens one socket in StrictMode", () => {
    const env = new FakeEnv();
    render(
      <StrictMode>
        <App env={env} />
      </StrictMode>,
    );
    advance({ env }, 5_000);
    expect(env.sockets).toHaveLength(1);
    expect(screen.getByText("connecting")).toBeDefined();
  });

  it("closes when the last component is gone for a second, not when a route changes", () => {
    const made = world();
    const One = () => <p>{useResilientWebSocket(made.client).snapshot.status}</p>;
    const first = render(<One />);
    first.unmount();
    advance(made, 999);
    const second = render(<One />);
    advance(made, 5_000);
    expect(made.env.sockets).toHaveLength(1);
    expect(made.status()).toBe("connecting");
    second.unmount();
    advance(made, 1_000);
    expect(made.status()).toBe("closed");
    expect(made.env.pending).toBe(0);
  });

  it("touches no global in server rendering", () => {
    const env = new Proxy(new FakeEnv(), {
      get() {
        throw new Error("the world was touched");
      },
    });
    expect(renderToString(<App env={env} />)).toBe("<p>idle</p>");
  });
});

describe("useMessages", () => {
  it("skips no message when several come between two renders, and calls the newest handler", () => {
    const made = live();
    const seen: unknown[] = [];
    function Log({ name }: { readonly name: string }) {
      useMessages("update", ({ data }) => seen.push([name, data]));
      return null;
    }
    const { rerender } = show(made, <Log name="old" />);
    act(() => {
      for (const n of [1, 2, 3]) made.server.update(n);
    });
    rerender(
      <ConnectionProvider value={made.client}>
        <Log name="new" />
      </ConnectionProvider>,
    );
    act(() => made.server.update(4));
    expect(seen).toEqual([
      ["old", 1],
      ["old", 2],
      ["old", 3],
      ["new", 4],
    ]);
  });
});

describe("useConnection", () => {
  it("renders only when the selected part changes", () => {
    const made = live();
    const rendered = vi.fn();
    function Status() {
      rendered(useConnection(({ status }) => status));
      return null;
    }
    show(made, <Status />);
    act(() => {
      for (const n of [1, 2, 3]) made.server.update(n);
    });
    expect(rendered).toHaveBeenCalledTimes(1);
  });

  it("follows the stream when asked to", () => {
    const made = live();
    const Position = () => <p>{useConnection((_, { stream }) => stream?.position)}</p>;
    show(made, <Position />);
    act(() => made.server.update(1));
    expect(screen.getByText("1")).toBeDefined();
  });

  it("says what is missing when there is no provider", () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    const Lost = () => <p>{useConnection(({ status }) => status)}</p>;
    expect(() => render(<Lost />)).toThrow("There is no ConnectionProvider above this component");
  });
});

describe("ConnectionBanner", () => {
  const status = () => screen.getByRole("status").textContent;

  it("is in the page while it is empty, so that a screen reader hears its text come", () => {
    show(live(), <ConnectionBanner />);
    expect(status()).toBe("");
    expect(screen.queryByRole("button")).toBeNull();
  });

  it("shows nothing for a blip of 3 s", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    advance(made, 3_000);
    act(() => void made.server.accept());
    advance(made, 10_000);
    expect(status()).toBe("");
  });

  it("comes after 5 s of downtime with the countdown and Retry; failed retries do not postpone it", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    advance(made, 2_000);
    act(() => made.env.socket.end());
    advance(made, 2_999);
    expect(status()).toBe("");
    act(() => made.env.socket.onopen?.({} as never));
    advance(made, 1);
    expect(status()).toBe(PAUSED);
    act(() => made.env.socket.end());
    expect(screen.getByRole("timer").textContent).toBe("Next attempt in 5 s");
    advance(made, 1_000);
    expect(screen.getByRole("timer").textContent).toBe("Next attempt in 4 s");
    expect(screen.getByRole("timer").getAttribute("aria-live")).toBe("off");
    act(() => screen.getByRole("button", { name: "Retry" }).click());
    expect(made.status()).toBe("connecting");
  });

  it("does not read the seconds out: they are not in the status", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    for (let second = 0; second < 5; second++) {
      act(() => made.env.advance(900));
      act(() => made.env.socket.onclose && made.env.socket.end());
    }
    advance(made, 600);
    expect(status()).toBe(PAUSED);
  });

  it("goes at once when live", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    advance(made, 6_000);
    expect(status()).toBe(PAUSED);
    act(() => void made.server.accept());
    expect(status()).toBe("");
  });

  it("counts what somebody could see: nobody is greeted by a banner for an outage behind a hidden tab", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.page({ type: "hidden" }));
    act(() => made.env.socket.end());
    advance(made, 60_000);
    expect(status()).toBe("");
    act(() => made.env.page({ type: "visible" }));
    advance(made, 4_999);
    expect(status()).toBe("");
    advance(made, 1);
    expect(status()).toBe(PAUSED);
  });

  it("says that updates have stopped, and why, at once", () => {
    const made = live();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end(4501));
    expect(status()).toBe("Live updates stopped. You are not allowed to see them.");
    expect(screen.getByRole("button", { name: "Retry" })).toBeDefined();
  });

  it.each([
    ["turns", false],
    ["is not there for those who asked for reduced motion", true],
  ])("has a spinner that %s, and no style element that a page would have to allow", (_, reduced) => {
    const turn = vi.fn();
    vi.stubGlobal("matchMedia", (query: string) => ({ matches: reduced && query.includes("reduce") }));
    HTMLElement.prototype.animate = turn; // happy-dom has no animations
    const made = live();
    const { container } = show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    advance(made, 6_000);
    const spinner = container.querySelector<HTMLElement>(".pulsetrail-spinner");
    expect(spinner?.style.display).toBe(reduced ? "none" : "inline-block");
    expect(turn).toHaveBeenCalledTimes(reduced ? 0 : 1);
    expect(container.querySelector("style")).toBeNull();
    vi.unstubAllGlobals();
  });

  it("is on record", async () => {
    const env = new FakeEnv();
    env.answer = () => Response.json({ accepted: 1, rejected: [] }, { status: 202 });
    const made = world({}, env);
    const telemetry = startTelemetry(made.client);
    made.client.connect();
    made.server.accept();
    show(made, <ConnectionBanner />);
    act(() => made.env.socket.end());
    advance(made, 5_000);
    advance(made, 2_000);
    act(() => void made.server.accept());
    await env.settle();
    await telemetry.flush();
    const events = env.requests.flatMap(({ init }) => JSON.parse(String(init?.body ?? "{}")).events ?? []);
    expect(events).toContainEqual(expect.objectContaining({ type: "banner.shown", downtime_ms: 5_000 }));
    expect(events).toContainEqual(expect.objectContaining({ type: "banner.hidden", shown_ms: 2_000 }));
  });
});

describe("Stale", () => {
  it("goes grey and says so in words with the age, and is fresh again when the replay is applied", () => {
    const made = live();
    const { container } = show(
      made,
      <Stale>
        <b>42</b>
      </Stale>,
    );
    const box = () => container.firstElementChild as HTMLElement;
    act(() => made.server.update(1));
    act(() => made.env.socket.end());
    advance(made, 4_000);
    expect(box().dataset.stale).toBe("false");
    advance(made, 2_000);
    expect(box().style.filter).toBe("grayscale(1)");
    expect(box().textContent).toContain("Stale, 6 s old");
    act(() => void made.server.accept());
    expect(box().dataset.stale).toBe("false");
    expect(box().textContent).toBe("42");
  });

  it("after an hour of sleep says so at once", () => {
    const made = live();
    show(made, <StaleBadge />);
    act(() => made.server.update(1));
    act(() => made.env.page({ type: "freeze" }));
    made.env.sleep(3_600_000);
    act(() => made.env.page({ type: "resume" }));
    advance(made, 1_000);
    expect(screen.getByText("Stale, 1 h old")).toBeDefined();
  });
});

describe("server rendering", () => {
  it("gives an empty banner and fresh data", () => {
    const { client }: { readonly client: Client } = world();
    const html = renderToString(
      <ConnectionProvider value={client}>
        <ConnectionBanner />
        <Stale>data</Stale>
      </ConnectionProvider>,
    );
    expect(html).toContain('<span role="status"></span>');
    expect(html).toContain('data-stale="false"');
  });
});
