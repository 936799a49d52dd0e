import type { Instant } from "../clock.ts";
import type { Network, PageEvent, Visibility } from "../state.ts";

/** The part of a `WebSocket` that is used: the browser's, Node's and that of `ws` have it. */
export interface SocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketConstructor = new (url: string, protocols: string[]) => SocketLike;

/** The part of `Storage` that is used. */
export interface StorageLike {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Everything that the client needs of the world; `pulsetrail/testing` has one to play with. */
export interface Env {
  /** Milliseconds since 1970 and milliseconds of a clock that never goes back. */
  now(): Instant;
  /** A number in [0, 1). */
  random(): number;
  /** A word that nobody else has. */
  id(): string;
  setTimer(callback: () => void, ms: number): unknown;
  clearTimer(timer: unknown): void;
  openSocket(url: string, protocols: string[]): SocketLike;
  fetch(url: string, init?: RequestInit): Promise<Response>;
  /** Resolves a relative address against the page's. */
  resolve(url: string): string;
  /** Survives the page; `undefined` where there is none, or none allowed. */
  readonly storage: StorageLike | undefined;
  /** Survives a reload, belongs to one tab. */
  readonly session: StorageLike | undefined;
  /** The effective type of the connection, such as `3g`, where the browser tells. */
  effectiveType(): string | undefined;
  /** Hand a body to the browser to be sent after the page has gone; false if it does not take it. */
  beacon(url: string, body: string): boolean;
  visibility(): Visibility;
  network(): Network;
  /** Be told of the page's life; returns how to stop that. */
  listen(listener: (event: PageEvent) => void): () => void;
  /** Whether transitions are logged when no logger is given. */
  readonly development: boolean;
}
