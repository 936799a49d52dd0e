import type { FakeEnv, FakeSocket } from "./fake-env.ts";

/** The gateway's side of a `FakeEnv`'s sockets: says what a gateway would say. */
export class FakeServer {
  epoch = "epoch-1";
  position = 0;
  /** `server - client`: how much its clock is ahead. */
  offsetMs = 0;
  heartbeatMs = 30_000;
  missLimit = 2;
  /** Updates that it can replay. */
  readonly ring: object[] = [];
  readonly env: FakeEnv;
  #seq = 0;
  #connections = 0;

  constructor(env: FakeEnv) {
    this.env = env;
  }

  get socket(): FakeSocket {
    return this.env.socket;
  }

  get time(): number {
    return this.env.wall + this.offsetMs;
  }

  /** Accept the newest socket: upgrade, welcome, and the replay that it asks for. */
  accept({ resumable = true }: { readonly resumable?: boolean } = {}): string {
    const { socket } = this;
    if (socket.readyState === 0) socket.open();
    const since = Number(socket.url.searchParams.get("since") ?? Number.NaN);
    const resumed = resumable && socket.url.searchParams.get("since_epoch") === this.epoch && since <= this.position;
    const connection = `00000000-0000-7000-8000-${String(++this.#connections).padStart(12, "0")}`;
    socket.receive({
      type: "welcome",
      connection,
      client: socket.url.searchParams.get("client"),
      stream_epoch: this.epoch,
      stream_position: this.position,
      resumed,
      heartbeat_ms: this.heartbeatMs,
      miss_limit: this.missLimit,
      time: this.time,
    });
    if (resumed) for (const update of this.ring.slice(since)) socket.receive(update);
    return connection;
  }

  heartbeat(): void {
    this.socket.receive({
      type: "heartbeat",
      seq: ++this.#seq,
      time: this.time,
      stream_position: this.position,
    });
  }

  /** Answer the newest probe. */
  answerProbe(): void {
    const probe = this.socket.sent.filter(({ type }) => type === "probe").at(-1);
    this.socket.receive({ type: "probe_ok", id: probe?.id });
  }

  /** An update for everybody; with `deliver` false this client misses it. */
  update(data: unknown, { topic = "test", deliver = true } = {}): void {
    const update = { type: "update", stream_position: ++this.position, topic, data };
    this.ring.push(update);
    if (deliver) this.socket.receive(update);
  }

  /** Send the client away. */
  goAway(code: number, retryAfterMs?: number): void {
    if (retryAfterMs !== undefined) {
      this.socket.receive({ type: "go_away", reason: "test", retry_after_ms: retryAfterMs });
    }
    this.socket.end(code);
  }
}
