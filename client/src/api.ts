import type { ClockEstimate } from "./clock.ts";
import type { Env, SocketConstructor } from "./env/env.ts";
import type { Figures } from "./options.ts";
import type { Messages, OtherMessage } from "./protocol.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Event, Events, Moment, State } from "./state.ts";

/** Asked for a token before each attempt. */
export type GetToken = (request: {
  /** The last token was refused or has expired: do not give a cached one. */
  readonly force: boolean;
  /** Aborted when the attempt is given up. */
  readonly signal: AbortSignal;
}) => string | Promise<string>;

/** One transition, as the logger gets it. */
export interface Transition {
  readonly from: string;
  readonly to: string;
  readonly attempt: number;
  readonly connection: string | undefined;
  readonly [detail: string]: unknown;
}

export interface ClientOptions extends Partial<Figures> {
  /** A bearer token. Without it the client connects without credentials. */
  readonly getToken?: GetToken;
  /**
   * How the token travels: `ticket` changes it for a ticket at `POST /v1/tickets` first, `jwt` sends it as a
   * subprotocol.
   */
  readonly auth?: "ticket" | "jwt";
  /** Where `/updates` and `/tickets` are; by default `/v1` beside the socket's `/ws/updates`. */
  readonly apiUrl?: string;
  /** Name and release of your application; they are on record with each connection. */
  readonly app?: string;
  readonly release?: string;
  /** The WebSocket to use, such as that of `ws` in older versions of Node. */
  readonly WebSocket?: SocketConstructor;
  /** Gets each transition. Default: `console.info` in development, nothing in production. `null` silences it. */
  readonly logger?: ((transition: Transition) => void) | null;
  /** The world; for tests. */
  readonly env?: Env;
}

/** Sees a step: the state before it, what happened, the state after it, and when. */
export type Observer = (before: State, event: Event, after: State, now: Moment) => void;

export type Handler<Message> = (message: Message) => void;

/** A connection that looks after itself. Made by `createClient`; does nothing before `connect`. */
export interface Client {
  /** Connect and stay connected. Does nothing while it is already at it. */
  connect(): void;
  /** Close with 1000 and stay away until `connect`. */
  close(): void;
  /** Cut a wait short, or start anew after `failed`; at most once a second. False if there was nothing to do. */
  retryNow(): boolean;
  /** Send a message. False if there is no connection: nothing is queued. */
  send(message: OtherMessage): boolean;
  /** Get a new token and hand it to the server over the open socket. Done before it expires, if it is a JWT. */
  renewToken(): Promise<void>;
  /** Called for each message of a type; `update` for the updates. Returns how to stop that. */
  on<Type extends keyof Messages>(type: Type, handler: Handler<Messages[Type]>): () => void;
  on(type: string, handler: Handler<OtherMessage>): () => void;
  /**
   * Called when updates were missed for good: load your data anew. It counts as stale until the promises of all
   * handlers are fulfilled; when one is rejected they are called again after the next connect.
   */
  onGap(handler: () => void | Promise<void>): () => void;
  /** Called with each step of the state machine; telemetry derives the client's account from these. */
  observe(observer: Observer): () => void;
  /** Tell of the page what only the page knows. */
  tell(name: "banner", args: Parameters<Events["banner"]>): void;
  /** Called after each change, however small; compare snapshots. */
  subscribe(listener: () => void): () => void;
  /** What a page shows; the same object as long as nothing in it changed. */
  getSnapshot(): Snapshot;
  /** What it showed before it ever connected: what a server renders, and a browser at first for the same page. */
  getServerSnapshot(): Snapshot;
  /** The address of one of the service's routes under `/v1`. */
  api(path: string): string;
  /** Milliseconds that an answer asks to wait; 0 if it does not. */
  retryAfter(response: Response): number;
  /** The place in the stream of updates, which moves with each of them. */
  readonly stream: State["stream"];
  readonly clock: ClockEstimate;
  readonly clientId: string;
  readonly pageId: string;
  readonly figures: Figures;
  readonly options: ClientOptions;
  readonly env: Env;
}
