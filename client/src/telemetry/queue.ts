import { classOf, type EventClass } from "./events.ts";

/** An event as it will be sent: made once, when it happened, and never changed. */
export interface Entry {
  readonly type: string;
  readonly json: string;
  readonly bytes: number;
}

export type Dropped = Partial<Record<EventClass, number>>;

/** The size of a text as it travels: UTF-8 bytes, not characters. */
export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Bytes of a list of entries, with what separates them. */
export function sizeOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes + 1, 0);
}

/** The entries that fit, in their order; the lowest class is left out first, and of a class the oldest. */
export function fitting(
  entries: readonly Entry[],
  maxCount: number,
  maxBytes: number,
  keep?: ReadonlySet<Entry>,
): { readonly kept: Entry[]; readonly dropped: Dropped } {
  const kept = new Set(entries);
  const dropped: Dropped = {};
  let bytes = sizeOf(entries);
  for (const lowest of ["detail", "account"] as const) {
    for (const entry of entries) {
      if (kept.size <= maxCount && bytes <= maxBytes) break;
      if (classOf(entry.type) !== lowest || keep?.has(entry)) continue;
      kept.delete(entry);
      bytes -= entry.bytes + 1;
      dropped[lowest] = (dropped[lowest] ?? 0) + 1;
    }
  }
  return { kept: [...kept], dropped };
}

/** The first entries of a list that together have at most so many bytes; at least one. */
export function firstOf(entries: readonly Entry[], maxCount: number, maxBytes: number): Entry[] {
  let bytes = 0;
  return entries.slice(0, maxCount).filter((entry, index) => {
    bytes += entry.bytes + 1;
    return index === 0 || bytes <= maxBytes;
  });
}
