import type { StorageLike } from "../env/env.ts";
import { bytesOf, type Dropped, type Entry, fitting } from "./queue.ts";

/** Whose events they are: what a batch says of its page. */
export interface Origin {
  readonly client_id: string;
  readonly page_id: string;
  readonly session_id: string;
  readonly app?: string | undefined;
  readonly release?: string | undefined;
  readonly clock: { readonly offset_ms: number; readonly error_ms: number; readonly samples: number };
}

/** The unsent events of a page, as they lie in storage. */
export interface Stored {
  readonly origin: Origin;
  readonly wall: number;
  /** Until when they belong to a page that is sending them. */
  readonly claimed: number;
  readonly dropped: Dropped;
  readonly events: ReadonlyArray<readonly [type: string, json: string]>;
}

const PREFIX = "pulsetrail.telemetry.";
const MAX_BYTES = 128 * 1024;
const MAX_AGE_MS = 24 * 3_600_000;
/** A page that died while sending holds its claim no longer. */
const CLAIM_MS = 60_000;

function read(storage: StorageLike, key: string): Stored | undefined {
  try {
    return JSON.parse(storage.getItem(key) as string) ?? undefined;
  } catch {
    return undefined;
  }
}

function keysOf(storage: StorageLike): string[] {
  return Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "").filter((key) =>
    key.startsWith(PREFIX),
  );
}

/** Puts a page's unsent events aside, as many as there is room for beside those of other pages. */
export function save(
  storage: StorageLike | undefined,
  origin: Origin,
  entries: readonly Entry[],
  wall: number,
  before: Dropped,
): void {
  try {
    if (!storage) return;
    const own = PREFIX + origin.page_id;
    storage.removeItem(own);
    if (!entries.length) return;
    let room = MAX_BYTES - 1024;
    for (const key of keysOf(storage)) room -= bytesOf(storage.getItem(key) ?? "");
    // In JSON the text of an event grows by its quotes' escapes.
    const quoted = entries.map((entry) => ({ ...entry, bytes: bytesOf(JSON.stringify(entry.json)) + 32 }));
    const { kept, dropped } = fitting(quoted, entries.length, room);
    const counts: Dropped = { ...before };
    for (const name of ["account", "detail"] as const) {
      if (dropped[name]) counts[name] = (counts[name] ?? 0) + dropped[name];
    }
    const stored: Stored = {
      origin,
      wall,
      claimed: 0,
      dropped: counts,
      events: kept.map(({ type, json }) => [type, json] as const),
    };
    storage.setItem(own, JSON.stringify(stored));
  } catch {}
}

/** Takes a page's events back; false if another page has taken them. */
export function takeBack(storage: StorageLike | undefined, pageId: string): boolean {
  if (!storage) return true;
  const stored = read(storage, PREFIX + pageId);
  if (!stored || stored.claimed) return false;
  storage.removeItem(PREFIX + pageId);
  return true;
}

/** The events of a page that is gone, claimed for this one; nobody else gets them meanwhile. */
export function claim(storage: StorageLike | undefined, pageId: string, wall: number): Stored | undefined {
  try {
    for (const key of storage ? keysOf(storage) : []) {
      const stored = read(storage as StorageLike, key);
      if (!stored || wall - stored.wall > MAX_AGE_MS) storage?.removeItem(key);
      else if (key !== PREFIX + pageId && wall >= stored.claimed) {
        storage?.setItem(key, JSON.stringify({ ...stored, claimed: wall + CLAIM_MS }));
        return stored;
      }
    }
  } catch {}
  return undefined;
}

/** Claimed events were sent, up to `sent`; the others stay, for whoever comes next. */
export function settle(storage: StorageLike | undefined, stored: Stored, sent: number): void {
  try {
    const key = PREFIX + stored.origin.page_id;
    const events = stored.events.slice(sent);
    if (events.length) storage?.setItem(key, JSON.stringify({ ...stored, events, claimed: 0 }));
    else storage?.removeItem(key);
  } catch {}
}
