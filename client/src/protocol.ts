/** The messages of the protocol, as the server sends them; see docs/protocol.md. */

/** The subprotocol that names the version. */
export const SUBPROTOCOL = "pulsetrail.v1";

export interface Welcome {
  readonly type: "welcome";
  readonly connection: string;
  readonly client: string;
  readonly stream_epoch: string;
  readonly stream_position: number;
  readonly resumed: boolean;
  readonly heartbeat_ms: number;
  readonly miss_limit: number;
  readonly time: number;
}

export interface Update<Data = unknown> {
  readonly type: "update";
  readonly stream_position: number;
  readonly topic: string;
  readonly data: Data;
}

export interface Degraded {
  readonly type: "degraded";
  readonly reason: string;
}

export interface Restored {
  readonly type: "restored";
}

export interface GoAway {
  readonly type: "go_away";
  readonly reason: string;
  readonly retry_after_ms?: number;
}

/** What handlers can be registered for. Other types of a newer server, or of your own, come as `OtherMessage`. */
export interface Messages {
  readonly welcome: Welcome;
  readonly update: Update;
  readonly degraded: Degraded;
  readonly restored: Restored;
  readonly go_away: GoAway;
}

/** Any message: an object with a type. */
export interface OtherMessage {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The answer to `GET /v1/updates`. */
export interface Polled {
  readonly stream_epoch: string;
  readonly stream_position: number;
  readonly resumed: boolean;
  readonly updates: readonly Update[];
}

/** A frame as a message; `undefined` for what is no message: it is ignored. */
export function parse(data: unknown): OtherMessage | undefined {
  try {
    const message: unknown = JSON.parse(data as string);
    if (typeof (message as OtherMessage).type === "string") return message as OtherMessage;
  } catch {}
  return undefined;
}

/** A number of a message, or `fallback`: a peer's fields are never trusted to be there. */
export function number(value: unknown, fallback = 0): number {
  return Number.isFinite(value) ? (value as number) : fallback;
}
