import type { Client } from "../api.ts";
import { accountant } from "./account.ts";
import { classOf, type EventClass } from "./events.ts";
import { bytesOf, type Dropped, type Entry, firstOf, fitting } from "./queue.ts";
import { claim, type Origin, save, settle, takeBack } from "./storage.ts";

export type { EventClass, EventFields, EventType } from "./events.ts";

export interface TelemetryOptions {
  /** The collector's `/v1/telemetry`; by default beside the socket's `/ws/updates`. */
  readonly url?: string;
  /** The write key, if the collector asks for one. It is public: pages hold it. */
  readonly key?: string;
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
const NEXT_ROUND_MS = 60_000;
const LONGEST_ROUND_MS = 600_000;
/** The browser's budget for requests that outlive a page is 64 KiB, for all of the page. */
const FINAL_BYTES = 60_000;
const SESSION_KEY = "pulsetrail.session";

interface Batch {
  readonly head: object;
  /** The inside of a JSON array. */
  readonly events: string;
}

type Outcome = "taken" | "refused" | "later";

/** Reports what `client` goes through. Start it before `connect`, so that the first attempt is on record. */
export function startTelemetry(client: Client, options: TelemetryOptions = {}): Telemetry {
  const { env } = client;
  const { key } = options;
  const { app, release } = client.options;
  const url = options.url ?? client.api("/telemetry");
  const flying = new Set<Entry>();
  let queue: Entry[] = [];
  let saved = new Set<Entry>();
  let dropped: Dropped = {};
  let seq = 0;
  let batchSeq = 0;
  let finalBytes = 0;
  let sending = false;
  let notBefore = 0;
  let rounds = 0;
  let restUntil = 0;
  let timer: unknown;
  let session: string | undefined;

  function sessionId(): string {
    try {
      session ??= env.session?.getItem(SESSION_KEY) ?? undefined;
      session ??= env.id();
      env.session?.setItem(SESSION_KEY, session);
    } catch {}
    return session ?? client.pageId;
  }

  function origin(): Origin {
    const { offsetMs, errorMs, samples } = client.clock;
    return {
      client_id: client.clientId,
      page_id: client.pageId,
      session_id: sessionId(),
      app,
      release,
      clock: { offset_ms: offsetMs, error_ms: errorMs, samples },
    };
  }

  // --- what happens ---

  function put(type: string, fields: object, about: { connectionId?: string | undefined; attempt: number }): void {
    const { connectionId, attempt } = about;
    const event = { seq: seq++, type, ...env.now(), connection_id: connectionId, attempt, ...fields };
    const json = JSON.stringify(event, (_, value) => (typeof value === "number" ? Math.round(value * 10) / 10 : value));
    queue.push({ type, json, bytes: bytesOf(json) });
    const fit = fitting(queue, QUEUE_EVENTS, QUEUE_BYTES, flying);
    queue = fit.kept;
    count(fit.dropped);
  }

  function count(more: Dropped): void {
    for (const name of Object.keys(more) as EventClass[]) dropped[name] = (dropped[name] ?? 0) + (more[name] ?? 0);
  }

  const account = accountant(put);
  const unobserve = client.observe((before, event, after, now) => {
    account(before, event, after, now);
    const { type } = event;
    if (type === "hidden" || type === "freeze" || type === "pagehide" || type === "close") leave();
    else if (before.at.status === "connecting" && after.at.status === "live") {
      restUntil = 0;
      flush();
    } else {
      const waiting = unsent();
      const bytes = waiting.reduce((sum, entry) => sum + entry.bytes, 0);
      if (waiting.length >= BATCH_EVENTS || bytes >= BATCH_BYTES) flush();
      else if (waiting.length) wake(FLUSH_MS);
    }
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

  // --- batches ---

  /** A batch but for the moment of sending: what a retry does not change. */
  function batchOf(from: Origin, entries: ReadonlyArray<{ readonly json: string }>, lost: Dropped = {}): Batch {
    const head = { schema: 1, batch_id: env.id(), batch_seq: batchSeq++, ...from, sdk: SDK, dropped: lost };
    return { head, events: entries.map(({ json }) => json).join() };
  }

  function bodyOf({ head, events }: Batch): string {
    const { wall, mono } = env.now();
    const text = JSON.stringify({
      ...head,
      sent_wall: wall,
      sent_mono: Math.max(0, mono),
      ctx: { visibility: env.visibility(), network: env.network(), effective_type: env.effectiveType() },
    });
    return `${text.slice(0, -1)},"events":[${events}]}`;
  }

  /** What was dropped is told in an event of its own, once, with the next batch. */
  function reportDrops(): Dropped {
    const lost = dropped;
    dropped = {};
    for (const name of Object.keys(lost) as EventClass[]) {
      put("telemetry.dropped", { event_class: name, count: lost[name] }, { attempt: 0 });
    }
    return lost;
  }

  // --- sending ---

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => void env.setTimer(resolve, ms));
  }

  /** Three tries; what each of them sends differs in the time of sending alone. */
  async function deliver(batch: Batch): Promise<Outcome> {
    for (let tries = 1; ; tries++) {
      let wait = TRY_AGAIN_MS * 2 ** tries * (0.5 + env.random());
      try {
        const response = await env.fetch(url, {
          method: "POST",
          headers: { "Content-Type": "application/json", ...(key && { "X-Pulsetrail-Key": key }) },
          body: bodyOf(batch),
          credentials: "omit",
        });
        if (response.ok) return "taken";
        const { status } = response;
        if (status < 500 && status !== 429 && status !== 408) return "refused";
        wait = Math.max(wait, client.retryAfter(response) ?? 0);
      } catch {}
      notBefore = env.now().mono + wait;
      if (tries === TRIES) return "later";
      await pause(wait);
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
    let outcome: Outcome = "taken";
    while (outcome !== "later" && unsent().length) {
      const lost = reportDrops();
      const batch = firstOf(unsent(), BATCH_EVENTS, BATCH_BYTES);
      outcome = await fly(batch, deliver(batchOf(origin(), batch, lost)));
    }
    while (outcome !== "later") {
      const stored = claim(env.storage, client.pageId, env.now().wall);
      if (!stored) break;
      let sent = 0;
      while (sent < stored.events.length && outcome !== "later") {
        const batch = stored.events.slice(sent, sent + BATCH_EVENTS).map(([, json]) => ({ json }));
        outcome = await deliver(batchOf(stored.origin, batch, stored.dropped));
        if (outcome !== "later") sent += batch.length;
      }
      settle(env.storage, stored, sent);
    }
    sending = false;
    if (outcome === "later") {
      putAside();
      const rest = Math.min(NEXT_ROUND_MS * 2 ** rounds++, LONGEST_ROUND_MS);
      restUntil = env.now().mono + rest;
      wake(rest);
    } else rounds = 0;
  }

  /** Keep the entries of a batch out of others until its fate is known. */
  async function fly(batch: readonly Entry[], delivery: Promise<Outcome>): Promise<Outcome> {
    for (const entry of batch) flying.add(entry);
    const outcome = await delivery;
    for (const entry of batch) flying.delete(entry);
    if (outcome !== "later") {
      const aside = saved.size > 0;
      if (aside) reclaim();
      queue = queue.filter((entry) => !batch.includes(entry));
      if (aside) putAside();
    }
    if (outcome === "refused") {
      for (const { type } of batch) if (type !== "telemetry.dropped") count({ [classOf(type)]: 1 });
    }
    return outcome;
  }

  // --- the end of the page ---

  function putAside(): void {
    save(env.storage, origin(), queue, env.now().wall, dropped);
    saved = new Set(queue);
  }

  /** Events that lie in storage are anybody's: another page may have sent them meanwhile. */
  function reclaim(): void {
    if (saved.size && !takeBack(env.storage, client.pageId)) queue = queue.filter((entry) => !saved.has(entry));
    saved = new Set();
  }

  /** The page may never run again: put everything aside, then try to send it past the page's end. */
  function leave(): void {
    reclaim();
    putAside();
    const batch = firstOf(unsent(), QUEUE_EVENTS, FINAL_BYTES - finalBytes - 2 * KIB);
    const body = bodyOf(batchOf(origin(), batch));
    const bytes = bytesOf(body);
    if (!batch.length || finalBytes + bytes > FINAL_BYTES || env.now().mono < notBefore) return;
    finalBytes += bytes;
    fly(batch, last(body)).then((outcome) => {
      finalBytes -= bytes;
      if (outcome === "later") wake(FLUSH_MS);
    });
  }

  async function last(body: string): Promise<Outcome> {
    // A body of plain text, and the key in the address, need no preflight, for which there would be no time.
    const address = key ? `${url}?key=${encodeURIComponent(key)}` : url;
    try {
      const response = await env.fetch(address, {
        method: "POST",
        headers: { "Content-Type": "text/plain" },
        body,
        keepalive: true,
        credentials: "omit",
      });
      return response.ok ? "taken" : "later";
    } catch {
      // Whether a beacon arrives nobody learns; the events stay in storage, and the log takes each of them once.
      env.beacon(address, body);
      return "later";
    }
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
