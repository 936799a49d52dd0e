import type { Client } from "pulsetrail";
import { sampleOf } from "./figures.ts";
import { extended, type History } from "./history.ts";

const TOPIC = "telemetry";

export interface LiveFigures {
  subscribe(listener: () => void): () => void;
  getSnapshot(): History;
}

/** Collects the live figures that a client gets, and those that it did not, as far as the service still has them. */
export function followFigures(client: Client, authorization: () => string | undefined): LiveFigures {
  const listeners = new Set<() => void>();
  let history: History = [];

  function take(data: readonly unknown[]): void {
    const samples = data.flatMap((one) => sampleOf(one) ?? []);
    if (samples.length === 0) return;
    history = extended(history, samples);
    for (const listener of [...listeners]) listener();
  }

  /** What was before now. Without it the charts begin now: nothing is wrong then, and nothing is said. */
  async function load(): Promise<void> {
    const token = authorization();
    const since = history.at(-1)?.time ?? 0;
    try {
      const response = await fetch(client.api(`/figures?since=${since}`), {
        headers: token ? { Authorization: `Bearer ${token}` } : {},
      });
      const { figures } = (await response.json()) as { readonly figures?: unknown };
      if (Array.isArray(figures)) take(figures);
    } catch {}
  }

  client.on("update", ({ topic, data }) => {
    if (topic === TOPIC) take([data]);
  });
  // With each welcome: updates that nobody was there to watch were not published.
  client.on("welcome", () => void load());

  return {
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    getSnapshot: () => history,
  };
}
