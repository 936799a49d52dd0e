import type { Env, SocketLike, StorageLike } from "../env/env.ts";
import type { PageEvent, Visibility } from "../state.ts";

/** A `Storage` in memory, with a quota in UTF-16 code units. */
export class FakeStorage implements StorageLike {
  readonly items = new Map<string, string>();
  quota = Number.POSITIVE_INFINITY;

  get length(): number {
    return this.items.size;
  }

  key(index: number): string | null {
    return [...this.items.keys()][index] ?? null;
  }

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    if (value.length > this.quota) throw new Error("QuotaExceededError");
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

/** One end of a socket that leads to a test. */
export class FakeSocket implements SocketLike {
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  /** Messages that the client sent. */
  readonly sent: Array<{ readonly type: string; readonly [field: string]: unknown }> = [];
  /** The code with which the client closed it. */
  closedWith: number | undefined;
  readonly url: URL;
  readonly protocols: readonly string[];

  constructor(url: string, protocols: readonly string[] = []) {
    this.url = new URL(url);
    this.protocols = protocols;
  }

  send(data: string): void {
    this.sent.push(JSON.parse(data));
  }

  close(code?: number): void {
    this.closedWith = code;
    this.readyState = 2;
  }

  /** The upgrade succeeded. */
  open(): void {
    this.readyState = 1;
    this.onopen?.({} as never);
  }

  /** A message arrives. */
  receive(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) } as never);
  }

  /** The connection ends; 1006 without a close frame. */
  end(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean: code !== 1006 } as never);
  }
}

interface Timer {
  readonly due: number;
  readonly callback: () => void;
}

type Answer = (url: string, init: RequestInit | undefined) => Response | Promise<Response>;

/** A world of its own: nothing happens in it before `advance`, and everything happens in order. */
export class FakeEnv implements Env {
  wall = 1_800_000_000_000;
  mono = 1_000;
  /** What `random` gives; 0.5 is no jitter. */
  chance = 0.5;
  readonly sockets: FakeSocket[] = [];
  readonly requests: Array<{ readonly url: string; readonly init: RequestInit | undefined }> = [];
  readonly beacons: Array<{ readonly url: string; readonly body: string }> = [];
  /** Answers requests; by default nothing is there. */
  answer: Answer = () => new Response(null, { status: 404 });
  beaconsTaken = true;
  shown: Visibility = "visible";
  development = false;
  storage: StorageLike | undefined;
  session: StorageLike | undefined = new FakeStorage();
  #timers = new Map<number, Timer>();
  #listeners = new Set<(event: PageEvent) => void>();
  #ids = 0;
  readonly #name: string;

  /** Pages that share a `storage` belong to one browser; give them different names. */
  constructor(name = "fake", storage: StorageLike | undefined = new FakeStorage()) {
    this.#name = name;
    this.storage = storage;
  }

  now = () => ({ wall: this.wall, mono: this.mono });
  random = () => this.chance;
  id = () => `${this.#name}-${++this.#ids}`;
  resolve = (url: string) => new URL(url, "https://app.example/").href;
  effectiveType = () => "4g";
  visibility = () => this.shown;
  network = () => "online" as const;

  setTimer = (callback: () => void, ms: number): unknown => {
    const id = ++this.#ids;
    this.#timers.set(id, { due: this.mono + Math.max(0, ms), callback });
    return id;
  };

  clearTimer = (timer: unknown): void => {
    this.#timers.delete(timer as number);
  };

  openSocket = (url: string, protocols: string[]): FakeSocket => {
    const socket = new FakeSocket(url, protocols);
    this.sockets.push(socket);
    return socket;
  };

  fetch = async (url: string, init?: RequestInit): Promise<Response> => {
    this.requests.push({ url, init });
    const aborted = new Promise<never>((_, reject) => {
      init?.signal?.addEventListener("abort", () => reject(init.signal?.reason), { once: true });
    });
    return Promise.race([this.answer(url, init), aborted]);
  };

  beacon = (url: string, body: string): boolean => {
    if (this.beaconsTaken) this.beacons.push({ url, body });
    return this.beaconsTaken;
  };

  listen = (listener: (event: PageEvent) => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** The newest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }

  /** Timers that are set, and listeners to the page: what a client that is done must not leave behind. */
  get pending(): number {
    return this.#timers.size;
  }

  get listening(): number {
    return this.#listeners.size;
  }

  /** Something happens to the page. */
  page(event: PageEvent): void {
    if (event.type === "hidden" || event.type === "visible") this.shown = event.type;
    for (const listener of [...this.#listeners]) listener(event);
  }

  /** Time passes and timers fire when they are due. */
  advance(ms: number): void {
    const until = this.mono + ms;
    for (;;) {
      const [id, next] = [...this.#timers].sort(([, one], [, other]) => one.due - other.due)[0] ?? [];
      if (id === undefined || !next || next.due > until) break;
      this.#pass(next.due - this.mono);
      this.#timers.delete(id);
      next.callback();
    }
    this.#pass(until - this.mono);
  }

  /** The machine sleeps: no timer fires, and the monotonic clock stands still unless `monotonic` is given. */
  sleep(ms: number, { monotonic = false } = {}): void {
    this.wall += ms;
    if (monotonic) this.mono += ms;
  }

  /** Let promises run, such as those of a token or an answer. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 30; turn++) await Promise.resolve();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }

  #pass(ms: number): void {
    if (ms <= 0) return;
    this.mono += ms;
    this.wall += ms;
  }
}
