import { startTelemetry, type Telemetry } from "../../src/telemetry/index.ts";
import { FakeEnv } from "../../src/testing/index.ts";
import { type World, world } from "../world.ts";

export interface Batch {
  readonly page_id: string;
  readonly client_id: string;
  readonly batch_id: string;
  readonly batch_seq: number;
  readonly sent_wall: number;
  readonly clock: { readonly offset_ms: number; readonly error_ms: number; readonly samples: number };
  readonly ctx: Record<string, string>;
  readonly dropped: Record<string, number>;
  readonly events: ReadonlyArray<{ readonly seq: number; readonly type: string; readonly [field: string]: unknown }>;
}

export const ACCEPTED = () => Response.json({ accepted: 1, rejected: [] }, { status: 202 });

export interface Told extends World {
  readonly telemetry: Telemetry;
  readonly batches: () => Batch[];
  readonly events: () => Batch["events"][number][];
  readonly types: () => string[];
}

/** A page with telemetry; its collector takes everything unless told otherwise. */
export function page(env = new FakeEnv(), options = {}): Told {
  env.answer = ACCEPTED;
  const made = world(options, env);
  const telemetry = startTelemetry(made.client);
  const batches = () =>
    env.requests.filter(({ url }) => url.includes("telemetry")).map(({ init }) => JSON.parse(init?.body as string));
  const events = () => batches().flatMap((batch) => batch.events);
  return { ...made, telemetry, batches, events, types: () => events().map(({ type }) => type) };
}

/** The same, connected. */
export function livePage(env?: FakeEnv, options = {}): Told {
  const made = page(env, options);
  made.client.connect();
  made.server.accept();
  return made;
}

/** Makes many events of the lowest class. */
export function produce({ client }: World, count: number): void {
  for (let n = 0; n < count; n++) client.tell("banner", [true, n]);
}
