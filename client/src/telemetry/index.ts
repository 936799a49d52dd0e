import type { Client } from "../api.ts";
import { accountant, type Put } from "./account.ts";
import { classOf, type EventClass } from "./events.ts";
import { bytesOf, type Dropped, type Entry, firstOf, fitting, sizeOf } from "./queue.ts";
import { claim, type Origin, save, settle, sum, takeBack } from "./storage.ts";

export type { EventClass, EventFields, EventType } from "./events.ts";

export interface TelemetryOptions {
  /** The collector's `/v1/telemetry`; by default beside the socket's `/ws/updates`. */
  readonly url?: string | undefined;
  /** The write key, if the collector asks for one. It is public: pages hold it. */
  readonly key?: string | undefined;
}

/** The client's account on its way to the collector. */
export interface Telemetry {
  /** Send what there is now. */
  flush(): Promise<void>;
  /** Put what is unsent aside for the next page and stop. */
  stop(): void;
  /** Events that are not with the collector yet. */
  readonly pending: number;
}

/** What a batch calls its sender. */
export const SDK = "pulsetrail/0.1.0";

const KIB = 1024;
const BATCH_EVENTS = 50;
const BATCH_BYTES = 32 * KIB;
const FLUSH_MS = 15_000;
const QUEUE_EVENTS = 500;
const QUEUE_BYTES = 256 * KIB;
const TRIES = 3;
const TRY_AGAIN_MS = 1_000;
/** What hangs longer than that must not keep the rest from being sent. */
const TIMEOUT_MS = 30_000;
const NEXT_ROUND_MS = 60_000;
const LONGEST_ROUND_MS = 600_000;
/** The browser's budget for requests that outlive a page is 64 KiB, for all of the page. */
const FINAL_BYTES = 60_000;
const SESSION_KEY = "pulsetrail.session";

/** Tenths of a millisecond are all that clocks of browsers give. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 10) / 10 : value;
}

/** A batch was taken, was no good, or has to be sent later. */
type Outcome = "taken" | "refused" | "later";

/** Reports what `client` goes through. Start it before `connect`, so that the first attempt is on record. */
export function startTelemetry(client: Client, options: TelemetryOptions = {}): Telemetry {
  const { env } = client;
  const { key, url } = options;
  const { app, release } = client.options;
  const flying = new Set<Entry>();
  let queue: Entry[] = [];
  /** Those that also lie in storage, for the next page. */
  let saved: readonly Entry[] = [];
  /** Drops that are still to be told, and those that the batches up to the next good one tell. */
  let dropped: Dropped = {};
  let told: Dropped = {};
  let seq = 0;
  let batchSeq = 0;
  let finalBytes = 0;
  let sending = false;
  let notBefore = 0;
  let rounds = 0;
  let restUntil = 0;
  let timer: unknown;
  let session: string | undefined;

  function origin(): Origin {
    const { offsetMs, errorMs, samples } = client.clock;
    session ??= env.session?.getItem(SESSION_KEY) || env.id();
    try {
      env.session?.setItem(SESSION_KEY, session);
    } catch {}
    return {
      client_id: client.clientId,
      page_id: client.pageId,
      session_id: session,
      app,
      release,
      clock: { offset_ms: offsetMs, error_ms: errorMs, samples },
    };
  }

  // --- what happens ---

  const put: Put = (type, fields, { connectionId, attempt }, { wall, mono }) => {
    const event = { seq: seq++, type, wall, mono, connection_id: connectionId, attempt, ...fields };
    const json = JSON.stringify(event, rounded);
    queue.push({ type, json, bytes: bytesOf(json) });
    const fit = fitting(queue, QUEUE_EVENTS, QUEUE_BYTES, flying);
    queue = fit.kept;
    dropped = sum(dropped, fit.dropped);
  };

  const account = accountant(put);
  const unobserve = client.observe((before, event, after, now) => {
    account(before, event, after, now);
    const waiting = unsent();
    if (/^(hidden|freeze|pagehide|close)$/.test(event[0])) leave();
    else if (before.at.status === "connecting" && after.at.status === "live") {
      restUntil = 0;
      flush();
    } else if (waiting.length >= BATCH_EVENTS || sizeOf(waiting) >= BATCH_BYTES) flush();
    else if (waiting.length) wake(FLUSH_MS);
  });

  function unsent(): Entry[] {
    return queue.filter((entry) => !flying.has(entry));
  }

  /** Wake up once, so much after the first event, and not before a round that was put off. */
  function wake(ms: number): void {
    timer ??= env.setTimer(() => {
      timer = undefined;
      flush();
    }, ms);
  }

  // --- sending ---

  /** Gives the body of a batch. What a retry changes is the time of sending alone. */
  function batchOf(from: Origin, lost: Dropped, entries: readonly Pick<Entry, "json">[]): () => string {
    const head = { schema: 1, batch_id: env.id(), batch_seq: batchSeq++, ...from, sdk: SDK, dropped: lost };
    return () => {
      const { wall, mono } = env.now();
      const ctx = { visibility: env.visibility(), network: env.network(), effective_type: env.effectiveType() };
      const text = JSON.stringify({ ...head, sent_wall: wall, sent_mono: mono, ctx }, rounded);
      return `${text.slice(0, -1)},"events":[${entries.map(({ json }) => json)}]}`;
    };
  }

  // A body of plain text, and the key in the address, need no preflight: at the end of a page there is no time for one.
  function address(): string {
    return (url ?? client.api("/telemetry")) + (key ? `?key=${encodeURIComponent(key)}` : "");
  }

  async function post(body: string, keepalive: boolean): Promise<Outcome> {
    const signal = AbortSignal.timeout?.(TIMEOUT_MS) ?? null;
    const response = await env.fetch(address(), { method: "POST", body, keepalive, signal });
    if (response.ok) return "taken";
    notBefore = env.now().mono + client.retryAfter(response);
    // Other answers come of a key, a proxy or a service that is not as it should be yet.
    return response.status === 400 || response.status === 413 ? "refused" : "later";
  }

  async function deliver(batch: () => string): Promise<Outcome> {
    for (let tries = 1; ; tries++) {
      const outcome = await post(batch(), false).catch((): Outcome => "later");
      if (outcome !== "later" || tries === TRIES) return outcome;
      const wait = TRY_AGAIN_MS * 2 ** tries * (0.5 + env.random());
      await new Promise<void>((resolve) => env.setTimer(resolve, Math.max(wait, notBefore - env.now().mono)));
    }
  }

  async function flush(): Promise<void> {
    if (sending) return;
    const wait = Math.max(notBefore, restUntil) - env.now().mono;
    if (wait > 0) return wake(wait);
    sending = true;
    env.clearTimer(timer);
    timer = undefined;
    reclaim();
    let outcome: Outcome | undefined;
    do outcome = unsent().length ? await sendOwn() : await sendInherited();
    while (outcome && outcome !== "later");
    sending = false;
    if (outcome) {
      putAside();
      const rest = Math.min(NEXT_ROUND_MS * 2 ** rounds++, LONGEST_ROUND_MS);
      restUntil = env.now().mono + rest;
      wake(rest);
    } else rounds = 0;
  }

  async function sendOwn(): Promise<Outcome> {
    const batch = firstOf(unsent(), BATCH_EVENTS, BATCH_BYTES);
    const outcome = await fly(batch, deliver(batchOf(origin(), told, batch)));
    if (outcome === "taken") {
      told = dropped;
      dropped = {};
      for (const [event_class, count] of Object.entries(told) as [EventClass, number][]) {
        put("telemetry.dropped", { event_class, count }, { attempt: 0 }, env.now());
      }
    }
    return outcome;
  }

  /** Send the first events of a page that is gone. */
  async function sendInherited(): Promise<Outcome | undefined> {
    const claimed = claim(env.storage, client.pageId, env.now().wall);
    if (!claimed) return undefined;
    const [remains, ...events] = claimed;
    const batch = events.slice(0, BATCH_EVENTS).map((json) => ({ json }));
    const outcome = await deliver(batchOf(remains.origin, remains.dropped, batch));
    settle(env.storage, remains, outcome === "later" ? events : events.slice(BATCH_EVENTS));
    return outcome;
  }

  /** Keep the entries of a batch out of others until its fate is known. */
  async function fly(batch: readonly Entry[], delivery: Promise<Outcome>): Promise<Outcome> {
    for (const entry of batch) flying.add(entry);
    const outcome = await delivery;
    for (const entry of batch) flying.delete(entry);
    if (outcome !== "later") {
      const aside = saved.length;
      reclaim();
      queue = queue.filter((entry) => !batch.includes(entry));
      if (aside) putAside();
    }
    if (outcome === "refused") for (const { type } of batch) dropped = sum(dropped, { [classOf(type)]: 1 });
    return outcome;
  }

  // --- the end of the page ---

  function putAside(): void {
    saved = save(env.storage, queue, { origin: origin(), wall: env.now().wall, dropped });
  }

  /** Events that lie in storage are anybody's: another page may have sent them meanwhile. */
  function reclaim(): void {
    if (saved.length && env.storage && !takeBack(env.storage, client.pageId)) {
      queue = queue.filter((entry) => !saved.includes(entry));
    }
    saved = [];
  }

  /** The page may never run again: put everything aside, then try to send it past the page's end. */
  function leave(): void {
    reclaim();
    putAside();
    const batch = firstOf(unsent(), QUEUE_EVENTS, FINAL_BYTES - finalBytes - 2 * KIB);
    const body = batchOf(origin(), told, batch)();
    const bytes = bytesOf(body);
    if (!batch.length || finalBytes + bytes > FINAL_BYTES || env.now().mono < notBefore) return;
    finalBytes += bytes;
    // Whether a beacon arrives nobody learns; the events stay in storage, and the log takes each of them once.
    const sent = post(body, true).catch((): Outcome => {
      env.beacon(address(), body);
      return "later";
    });
    fly(batch, sent).then((outcome) => {
      finalBytes -= bytes;
      if (outcome === "later") wake(FLUSH_MS);
    });
  }

  return {
    flush,
    stop() {
      unobserve();
      env.clearTimer(timer);
      timer = undefined;
      leave();
    },
    get pending() {
      return queue.length;
    },
  };
}
