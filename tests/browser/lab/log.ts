/** What is on record of a connection or a client, as `pulsetrail history --json` tells it. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Address, ask } from "./service.ts";

export interface LogEvent {
  readonly event_type: string;
  readonly source: "gateway" | "client" | "chaos" | "reaper" | "browser" | "collector";
  readonly occurred_at: string;
  readonly connection_id: string | null;
  readonly page_id: string | null;
  readonly reason: string | null;
  readonly close_code: number | null;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface ConnectionRow {
  readonly connection_id: string;
  readonly client_id: string;
  readonly page_id: string;
  readonly opened_at: string;
  readonly ended_at: string | null;
  readonly reason: string | null;
  readonly initiator: string | null;
  readonly wire_code: number | null;
  readonly gap_ms: number | null;
  readonly evidence: {
    readonly layers?: { readonly kernel?: boolean; readonly ping?: boolean; readonly page?: boolean };
  };
}

export interface History {
  readonly connections: readonly ConnectionRow[];
  readonly events: readonly LogEvent[];
}

const PATIENCE_MS = 25_000;
const PAUSE_MS = 2_000;

/** The history of a connection or a client, once it holds what it should. */
export async function history(
  service: Address,
  subject: string,
  complete: (found: History) => boolean,
): Promise<History> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = (await ask(service, "history", subject, "--limit", "1000")) as History | undefined;
    if (found !== undefined && complete(found)) return found;
    if (Date.now() > until) {
      const told = found?.events.map((event) => `${event.event_type} by ${event.source}`).join(", ");
      throw new Error(`The history of ${subject} did not become complete; it has: ${told ?? "nothing"}`);
    }
    await sleep(PAUSE_MS);
  }
}

/** A connection that both sides have told the end of. */
export interface Ended {
  readonly row: ConnectionRow;
  readonly events: readonly LogEvent[];
  /** The client's account of the end. */
  readonly closed: LogEvent;
}

/** The history of a connection, once the server and the client have both told its end. */
export async function bothAccounts(service: Address, connectionId: string): Promise<Ended> {
  const found = await history(
    service,
    connectionId,
    ({ connections, events }) => connections[0]?.ended_at != null && named(events, "socket.closed").length > 0,
  );
  const [row] = found.connections;
  const [closed] = named(found.events, "socket.closed");
  if (row === undefined || closed === undefined) throw new Error("A complete history is not complete.");
  return { row, events: found.events, closed };
}

/** The events of a type. */
export function named(events: readonly LogEvent[], type: string): LogEvent[] {
  return events.filter((event) => event.event_type === type);
}

/** A number of an event's payload; NaN where there is none, so that no comparison holds. */
export function figure(event: LogEvent | undefined, name: string): number {
  const value = event?.payload[name];
  return typeof value === "number" ? value : Number.NaN;
}

/** A moment of the log in milliseconds. */
export function moment(text: string | null | undefined): number {
  return text == null ? Number.NaN : Date.parse(text);
}
