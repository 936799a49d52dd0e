export type { Client, ClientOptions, GetToken, Observer, Transition } from "./api.ts";
export { type BackoffOptions, baseFor, delayFor } from "./backoff.ts";
export { createClient } from "./client.ts";
export type { ClockEstimate, Instant } from "./clock.ts";
export { type Cause, FINAL, NEW_TOKEN, REASONS, type Reason } from "./close-codes.ts";
export type { Env, SocketConstructor, SocketLike, StorageLike } from "./env/env.ts";
export { DEFAULTS, type Figures, figuresFrom } from "./options.ts";
export type { Degraded, GoAway, Messages, OtherMessage, Restored, Update, Welcome } from "./protocol.ts";
export type { Snapshot } from "./snapshot.ts";
export {
  type Effect,
  type End,
  type Event,
  type FailureReason,
  initialState,
  type Moment,
  type Network,
  type PageEvent,
  type Place,
  type State,
  type Status,
  type Transport,
  type Visibility,
} from "./state.ts";
export { step } from "./step.ts";
