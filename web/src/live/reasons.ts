import { sum, type Table } from "./figures.ts";

/** By whose doing a connection ended; the order is that of the stacks. */
export const INITIATORS = ["client", "server", "network", "intermediary", "unknown"] as const;
export type Initiator = (typeof INITIATORS)[number];

export interface Ending {
  readonly reason: string;
  readonly initiator: Initiator;
}

/** How many kinds are told apart in a chart; the rest is summed. */
const SHOWN = 6;
const REST: Ending = { reason: "others", initiator: "unknown" };

/** The key `reason/initiator` of the figures. */
export function endingOf(key: string): Ending {
  const [reason = "unknown", initiator] = key.split("/");
  return { reason, initiator: INITIATORS.find((known) => known === initiator) ?? "unknown" };
}

/** A table of endings by whose doing they were; those of whom there are none are left out. */
export function byInitiator(table: Table): readonly (readonly [Initiator, number])[] {
  return INITIATORS.flatMap((initiator) => {
    const own = sum(new Map([...table].filter(([key]) => endingOf(key).initiator === initiator)));
    return own > 0 ? [[initiator, own] as const] : [];
  });
}

export interface Stack extends Ending {
  /** Place among those of the same initiator, from the most frequent on: the shade of their colour. */
  readonly place: number;
  /** One count a table. */
  readonly values: readonly number[];
}

/** Tables of endings as stacks: the most frequent first within their initiator, the rare ones together. */
export function stacksOf(tables: readonly Table[]): readonly Stack[] {
  const totals = new Map<string, number>();
  for (const table of tables) {
    for (const [key, value] of table) totals.set(key, (totals.get(key) ?? 0) + value);
  }
  const frequent = [...totals].sort(([, one], [, other]) => other - one).map(([key]) => key);
  const shown = frequent.slice(0, SHOWN);
  const stacks: Stack[] = [];
  for (const initiator of INITIATORS) {
    const own = shown.filter((key) => endingOf(key).initiator === initiator);
    own.forEach((key, place) => {
      stacks.push({ ...endingOf(key), place, values: tables.map((table) => table.get(key) ?? 0) });
    });
  }
  const rest = tables.map((table) => sum(new Map([...table].filter(([key]) => !shown.includes(key)))));
  return rest.some((value) => value > 0) ? [...stacks, { ...REST, place: 2, values: rest }] : stacks;
}
