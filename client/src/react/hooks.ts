import { createContext, useContext, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Client, ClientOptions } from "../api.ts";
import { createClient } from "../client.ts";
import type { Messages, OtherMessage } from "../protocol.ts";
import type { Snapshot } from "../snapshot.ts";

/** How long a connection outlives the last component that uses it: StrictMode and a change of routes need no second. */
const LINGER_MS = 1_000;

const ClientContext = createContext<Client | undefined>(undefined);

/** Gives the components below it their client. */
export const ConnectionProvider = ClientContext.Provider;

/** The client of the nearest `ConnectionProvider`, or the one that is given. */
export function useClient(client?: Client): Client {
  const found = useContext(ClientContext);
  if (client ?? found) return (client ?? found) as Client;
  throw new Error("There is no ConnectionProvider above this component, and no client was given.");
}

interface Users {
  count: number;
  timer: unknown;
}

const users = new WeakMap<Client, Users>();

/** Connects `client` while anybody uses it; returns how to stop. */
function retain(client: Client): () => void {
  const used = users.get(client) ?? { count: 0, timer: undefined };
  users.set(client, used);
  client.env.clearTimer(used.timer);
  if (!used.count++) client.connect();
  return () => {
    if (--used.count) return;
    used.timer = client.env.setTimer(() => client.close(), LINGER_MS);
  };
}

export interface Connection {
  readonly client: Client;
  readonly snapshot: Snapshot;
  readonly send: Client["send"];
  readonly retryNow: Client["retryNow"];
}

/**
 * A connection for as long as the component is there. Options are read when the address is new.
 *
 * With a client in the place of the address several components can share one.
 */
export function useResilientWebSocket(urlOrClient: string | Client, options?: ClientOptions): Connection {
  const given = useRef(options);
  given.current = options;
  const client = useMemo(
    () => (typeof urlOrClient === "string" ? createClient(urlOrClient, given.current) : urlOrClient),
    [urlOrClient],
  );
  useEffect(() => retain(client), [client]);
  const snapshot = useSnapshot(client);
  return useMemo(() => ({ client, snapshot, send: client.send, retryNow: client.retryNow }), [client, snapshot]);
}

function useSnapshot(client: Client): Snapshot {
  return useSyncExternalStore(client.subscribe, client.getSnapshot, client.getServerSnapshot);
}

/**
 * A part of what is known of the connection; the component renders when that part changes.
 *
 * `select` has to give a primitive, or the same object for the same state. `useConnection((_, c) => c.stream?.position)`
 * follows the stream.
 */
export function useConnection<T>(select: (snapshot: Snapshot, client: Client) => T, client?: Client): T {
  const found = useClient(client);
  return useSyncExternalStore(
    found.subscribe,
    () => select(found.getSnapshot(), found),
    () => select(found.getServerSnapshot(), found),
  );
}

/** Calls `handler`, always the newest, for each message of a type. A state would skip messages that come together. */
export function useMessages<Type extends keyof Messages>(
  type: Type,
  handler: (message: Messages[Type]) => void,
  client?: Client,
): void;
export function useMessages(type: string, handler: (message: OtherMessage) => void, client?: Client): void;
export function useMessages(type: string, handler: (message: never) => void, client?: Client): void {
  const found = useClient(client);
  const newest = useRef(handler);
  useEffect(() => {
    newest.current = handler;
  });
  useEffect(() => found.on(type, (message) => newest.current(message as never)), [found, type]);
}

/** The time by a client's clocks, again each second while `running`. */
export function useNow(client: Client, running: boolean): { readonly wall: number; readonly mono: number } {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!running) return;
    let timer: unknown;
    const next = () => {
      timer = client.env.setTimer(() => {
        tick((count) => count + 1);
        next();
      }, 1_000);
    };
    next();
    return () => client.env.clearTimer(timer);
  }, [client, running]);
  return running ? client.env.now() : { wall: 0, mono: 0 };
}

/** Whole seconds until the next attempt; `undefined` while none is planned. */
export function useRetryCountdown(client?: Client): number | undefined {
  const found = useClient(client);
  const retryAt = useConnection((snapshot) => snapshot.retryAt, found);
  const { mono } = useNow(found, retryAt !== undefined);
  return retryAt === undefined ? undefined : Math.max(0, Math.ceil((retryAt - mono) / 1_000));
}
