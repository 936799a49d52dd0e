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

/** What is known of a page's unsent events. In storage it is the first line; each event, as JSON, is another. */
export interface Remains {
  readonly origin: Origin;
  readonly wall: number;
  /** Until when they belong to a page that is sending them. */
  readonly claimed: number;
  readonly dropped: Dropped;
}

const PREFIX = "pulsetrail.telemetry.";
const MAX_BYTES = 128 * 1024;
const MAX_AGE_MS = 24 * 3_600_000;
/** A page that died while sending holds its claim no longer. */
const CLAIM_MS = 60_000;

function read(storage: StorageLike, key: string): readonly [remains?: Remains, ...events: string[]] {
  try {
    const [first, ...events] = (storage.getItem(key) as string).split("\n");
    return [JSON.parse(first as string), ...events];
  } catch {
    return [];
  }
}

/** Throws if there is no room. */
function write(storage: StorageLike, remains: Remains, events: readonly string[]): void {
  const key = PREFIX + remains.origin.page_id;
  if (events.length) storage.setItem(key, [JSON.stringify(remains), ...events].join("\n"));
  else storage.removeItem(key);
}

function keysOf(storage: StorageLike): string[] {
  const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index) as string);
  return keys.filter((key) => key.startsWith(PREFIX));
}

/** Puts a page's unsent events aside, as many as there is room for beside those of other pages; returns which. */
export function save(
  storage: StorageLike | undefined,
  entries: readonly Entry[],
  remains: Omit<Remains, "claimed">,
): readonly Entry[] {
  if (!storage) return [];
  const others = keysOf(storage).filter((key) => key !== PREFIX + remains.origin.page_id);
  const taken = others.reduce((sum, key) => sum + bytesOf(storage.getItem(key) ?? ""), 1024);
  const { kept, dropped } = fitting(entries, entries.length, MAX_BYTES - taken);
  try {
    write(
      storage,
      { ...remains, claimed: 0, dropped: sum(remains.dropped, dropped) },
      kept.map(({ json }) => json),
    );
    return kept;
  } catch {
    return [];
  }
}

export function sum(one: Dropped, other: Dropped): Dropped {
  const both = { ...one };
  for (const name of Object.keys(other) as Array<keyof Dropped>) both[name] = (both[name] ?? 0) + (other[name] ?? 0);
  return both;
}

/** Takes a page's events back; false if another page has taken them. */
export function takeBack(storage: StorageLike, pageId: string): boolean {
  const [remains] = read(storage, PREFIX + pageId);
  if (!remains || remains.claimed) return false;
  storage.removeItem(PREFIX + pageId);
  return true;
}

/** The events of a page that is gone, claimed for this one; nobody else gets them meanwhile. */
export function claim(
  storage: StorageLike | undefined,
  pageId: string,
  wall: number,
): readonly [remains: Remains, ...events: string[]] | undefined {
  for (const key of storage ? keysOf(storage) : []) {
    const [remains, ...events] = read(storage as StorageLike, key);
    if (!remains || wall - remains.wall > MAX_AGE_MS) storage?.removeItem(key);
    else if (key !== PREFIX + pageId && wall >= remains.claimed) {
      settle(storage, { ...remains, claimed: wall + CLAIM_MS }, events);
      return [remains, ...events];
    }
  }
  return undefined;
}

/** What is left of claimed events, for whoever comes next. */
export function settle(storage: StorageLike | undefined, remains: Remains, events: readonly string[]): void {
  try {
    if (storage) write(storage, remains, events);
  } catch {}
}
