import type { Client, Update } from "pulsetrail";
import { sampleOf } from "./figures.ts";
import { extended, type History, WINDOW_MS } from "./history.ts";

const TOPIC = "telemetry";

/** How much of the past is asked for, in updates: as much as the charts show, and less where the ring has less. */
const PAST = [WINDOW_MS / 1_000, 300, 120, 30];

export interface LiveFigures {
  subscribe(listener: () => void): () => void;
  getSnapshot(): History;
}

interface Polled {
  readonly resumed: boolean;
  readonly updates: readonly Update[];
}

/** Collects the live figures that a client gets, with those from before it connected, as far as the service has them. */
export function followFigures(client: Client, authorization: () => string | undefined): LiveFigures {
  const listeners = new Set<() => void>();
  let history: History = [];

  function take(updates: readonly Update[]): void {
    const samples = updates.flatMap(({ topic, data }) => (topic === TOPIC ? (sampleOf(data) ?? []) : []));
    if (samples.length === 0) return;
    history = extended(history, samples);
    for (const listener of [...listeners]) listener();
  }

  async function past(epoch: string, position: number, size: number): Promise<Polled> {
    const token = authorization();
    const since = Math.max(0, position - size);
    const response = await fetch(client.api(`/updates?since=${since}&since_epoch=${encodeURIComponent(epoch)}`), {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
    });
    if (!response.ok) throw new Error(`the service answered ${response.status}`);
    return response.json();
  }

  /** Without the past the charts begin now: nothing is wrong then, and nothing is said. */
  async function load(epoch: string, position: number): Promise<void> {
    try {
      for (const size of PAST) {
        const { resumed, updates } = await past(epoch, position, size);
        if (resumed) return take(updates);
      }
    } catch {}
  }

  client.on("update", (update) => take([update]));
  const stop = client.on("welcome", ({ stream_epoch, stream_position }) => {
    stop();
    void load(stream_epoch, stream_position);
  });
  // It counts as stale until what can still be had is here.
  client.onGap(async () => {
    if (client.stream) await load(client.stream.epoch, client.stream.position);
  });

  return {
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    getSnapshot: () => history,
  };
}
