import { type Client, type ClientOptions, createClient, type Snapshot } from "../src/index.ts";
import { FakeEnv, FakeServer } from "../src/testing/index.ts";

export interface World {
  readonly env: FakeEnv;
  readonly server: FakeServer;
  readonly client: Client;
  readonly status: () => Snapshot["status"];
  readonly snapshot: () => Snapshot;
  /** Values of one query field of each handshake. */
  readonly query: (name: string) => Array<string | null>;
}

export const URL_ = "wss://live.example/ws/updates";

/** A client that has not connected, with its world. */
export function world(options: ClientOptions = {}, env = new FakeEnv()): World {
  const client = createClient(URL_, { env, logger: null, ...options });
  return {
    env,
    server: new FakeServer(env),
    client,
    status: () => client.getSnapshot().status,
    snapshot: () => client.getSnapshot(),
    query: (name) => env.sockets.map(({ url }) => url.searchParams.get(name)),
  };
}

/** A client that is live. */
export function live(options: ClientOptions = {}, env = new FakeEnv()): World {
  const made = world(options, env);
  made.client.connect();
  made.server.accept();
  return made;
}

/** Drops the newest socket and lets the wait pass. */
export function dropAndRetry({ env, snapshot }: World): void {
  env.socket.end();
  env.advance((snapshot().retryAt as number) - env.mono);
}

/** A JWT that is good for so long; nobody checks its signature here. */
export function jwt(expiresAtMs: number): string {
  return `e30.${btoa(JSON.stringify({ exp: Math.floor(expiresAtMs / 1000) }))}.signature`;
}
