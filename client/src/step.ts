import { delayFor } from "./backoff.ts";
import { estimateOf, type Instant, jumpBetween, withSample } from "./clock.ts";
import { type Cause, FINAL, NEW_TOKEN, REASONS } from "./close-codes.ts";
import { number, type OtherMessage, type Polled, type Update } from "./protocol.ts";
import { type Effect, type Event, type Events, type FailureReason, isOpen, type Moment, type State } from "./state.ts";

/** A timer that fires so much late was held up: by a throttled tab, or by sleep. */
const LATE_MS = 2_000;
const ONCE_MS = 1_000;
const MAX_HINT_MS = 3_600_000;
const RENEW_MARGIN_MS = 30_000;

// The step under way, so that what it is made of need not pass it around. Steps do not nest, and nobody else sees the
// state, which is a copy, before the step is done.
let s: { -readonly [Field in keyof State]: State[Field] };
let now: Moment;
let effects: Effect[];

/**
 * The whole behaviour of the client: what an event at a moment makes of a state, and what is to be done about it.
 *
 * Pure. The effects are carried out in their order, before anybody sees the new state: an update is delivered before
 * the data stops being stale.
 */
export function step(
  state: State,
  [name, args, generation = state.generation]: Event,
  moment: Moment,
): { state: State; effects: readonly Effect[] } {
  if (generation !== state.generation) return { state, effects: [] };
  s = { ...state };
  now = moment;
  effects = [];
  noticeTime();
  (reactions[name] as (...args: readonly unknown[]) => void)(...args);
  return { state: s, effects };
}

const reactions: Events = {
  connect(network, visibility) {
    const { status } = s.at;
    if (status !== "idle" && status !== "closed" && status !== "failed") return;
    s.network = network;
    s.visibility = visibility;
    startAnew();
    attempt();
  },
  close() {
    leave(1000, 1000, true);
    stopPolling();
    s.at = { status: "closed" };
    s.downSince = s.seenSince = undefined;
  },
  retry_now() {
    const { status } = s.at;
    if ((status !== "waiting" && status !== "failed") || !mayHurry()) return;
    if (status === "failed") startAnew();
    attempt();
  },
  authenticated(expiresInMs, protocol) {
    s.tokenExpires = expiresInMs && now.mono + expiresInMs;
    if (s.at.status === "connecting") openSocket(s.at.since, protocol);
  },
  opened() {
    if (s.at.status === "connecting") s.at = { ...s.at, phase: "welcome" };
  },
  message: received,
  closed: (code, detail, clean) =>
    // 1001 is what a page says that goes away. From the other side it is a server or a proxy that does, for whatever reason.
    ended(code, 0, clean, detail, code === 1001 ? "unknown" : undefined),
  timer() {
    const { at } = s;
    if (at.status === "waiting") attempt();
    else if (at.status === "connecting") ended(0, 4100, false, "", "timeout");
    // Had the watchdog been late, there would be a doubt by now.
    else if (at.status === "live") ended(4100, 4100);
    else if (at.status === "verifying" && now.mono > at.doubted.mono) ended(4101, 4101);
  },
  poll,
  polled(answer) {
    if (s.pollingSince === undefined) return;
    const body = answer?.body;
    if (answer?.retryAfterMs) armPoll(answer.retryAfterMs);
    if (Array.isArray(body?.updates) && number(body.stream_position, -1) >= 0) caughtUp(body);
    else becomeStale(now.wall);
  },
  reloaded(gap) {
    if (gap === s.gap) s.gap = 0;
    refresh();
  },
  hidden() {
    s.visibility = "hidden";
  },
  visible() {
    s.visibility = "visible";
    hurry();
  },
  resume: hurry,
  pageshow: hurry,
  freeze: () => suspend(4102, 4102),
  // A page that goes away for good is closed by its browser, with 1001: "asleep" would mislead.
  pagehide: ({ persisted }) => (persisted ? suspend(4102, 4102) : suspend(1001, 0)),
  online() {
    s.network = "online";
    hurry();
  },
  offline() {
    s.network = "offline";
    doubt();
  },
  network() {},
  banner() {},
};

// --- time ---

/** Look at the clocks before anything else: after sleep, what comes first is old news. */
function noticeTime(): void {
  const { last } = s;
  s.last = now;
  if (s.seenSince !== undefined && (s.visibility === "hidden" || s.at.status === "suspended")) {
    s.seenSince += now.mono - last.mono;
  }
  const jumped = last.wall && jumpBetween(last, now);
  if (jumped) s.samples = [];
  if (jumped || now.mono - s.due > LATE_MS) doubt();
}

/** Set the timer of the status. */
function arm(ms: number): void {
  s.due = now.mono + ms;
  ask("timer", "timer", ms);
}

// --- an attempt ---

function startAnew(): void {
  s.attempt = s.failures = 0;
  s.refused = false;
  s.hintMs = undefined;
}

function attempt(): void {
  s.generation++;
  startDowntime();
  arm(s.figures.attemptTimeoutMs);
  s.at = { status: "connecting", phase: "auth", since: now.mono, socket: now };
  if (s.needsToken) ask("authenticate", s.refused);
  else openSocket(now.mono);
}

function openSocket(since: number, protocol?: string): void {
  const { stream, previous } = s;
  s.at = { status: "connecting", phase: "socket", since, socket: now };
  const query = {
    since: stream?.position,
    since_epoch: stream?.epoch,
    ...(previous && {
      prev: previous.connectionId,
      prev_code: previous.code,
      prev_clean: previous.clean,
      cause: previous.cause,
      attempt: s.attempt,
      backoff_ms: Math.round(s.backoffMs),
      downtime_ms: Math.round(now.mono - (s.downSince as number)),
    }),
  };
  ask("open", query, protocol);
}

function welcomed(message: OtherMessage): void {
  const { at, stream, figures } = s;
  if (at.status !== "connecting") return;
  takeSample(at.socket, message.time, now.wall);
  s.connectionId = String(message.connection);
  s.heartbeatMs = number(message.heartbeat_ms) || figures.heartbeatMs;
  s.missLimit = number(message.miss_limit) || figures.missLimit;
  s.at = { status: "live", since: now.mono };
  s.failures = s.backoffMs = 0;
  s.downSince = s.seenSince = s.previous = s.hintMs = s.degraded = undefined;
  stopPolling();
  deliver(message);
  const { stream_epoch: epoch } = message;
  // A server without a stream of positions is served too: there is nothing to resume then.
  if (typeof epoch !== "string") refresh();
  else follow(epoch, number(message.stream_position), message.resumed === true && stream?.epoch === epoch);
}

/** Go on from a place in the stream; where it does not continue the application has to fill the gap by itself. */
function follow(epoch: string, head: number, resumed: boolean): void {
  if (resumed && s.stream) s.replayHead = Math.max(head, s.stream.position);
  else {
    if (s.stream) s.gap = ++s.count;
    s.stream = { epoch, position: head };
    s.replayHead = head;
  }
  // One that could not be filled is reported again.
  if (s.gap) ask("fill", s.gap);
  refresh();
}

// --- messages ---

function received(message: OtherMessage): void {
  const { type } = message;
  // First of all, inside the event: a throttled page still answers.
  if (type === "heartbeat") ask("send", { type: "pong", seq: message.seq, received: now.wall, sent: now.wall });
  s.heard = now;
  if (type === "welcome") welcomed(message);
  else if (type === "heartbeat") heartbeat(message);
  else if (type === "probe_ok") probeAnswered(message.id);
  else if (type === "update") update(message);
  else {
    const hint = type === "go_away" ? number(message.retry_after_ms, -1) : -1;
    // Longer than an hour is a mistake of the server's.
    if (hint >= 0) s.hintMs = Math.min(hint, MAX_HINT_MS);
    else if (type === "degraded") s.degraded = String(message.reason);
    else if (type === "restored") s.degraded = undefined;
    deliver(message);
  }
  const { at, heartbeatMs } = s;
  if (at.status !== "live") return;
  // The watchdog: too many heartbeats are overdue.
  arm(heartbeatMs * s.missLimit + Math.min(5_000, heartbeatMs / 4));
  if (now.mono - at.since >= s.figures.stableMs) s.attempt = 0;
}

function heartbeat({ time, stream_position }: OtherMessage): void {
  const { at, stream } = s;
  s.refused = false;
  if (at.status === "verifying") {
    const { samples, offsetMs, errorMs } = estimateOf(s.samples);
    if (samples && number(time) - offsetMs - errorMs > at.doubted.wall) verified();
    // A probe along with the pong: its answer gives the round trip.
  } else if (time) probe(number(time));
  if (s.tokenExpires !== undefined && s.tokenExpires - now.mono < RENEW_MARGIN_MS + s.heartbeatMs) {
    ask("renew");
  }
  // Updates were lost, or the server has another stream now.
  if (stream && number(stream_position, stream.position) !== stream.position) ended(4103, 4103);
}

function update(message: OtherMessage): void {
  const { stream, replayHead } = s;
  if (!stream) deliver(message);
  // What a poll brought while the socket was under way comes again with the replay.
  else if (!advance(message) && number(message.stream_position) > Math.min(stream.position, replayHead)) {
    ended(4103, 4103);
  }
}

/** Deliver an update if it is the next one. */
function advance(message: OtherMessage): boolean {
  const { stream } = s;
  const position = stream && stream.position + 1;
  if (!position || message?.stream_position !== position) return false;
  s.stream = { ...stream, position };
  deliver(message);
  refresh();
  return true;
}

// --- doubt ---

/** The connection may be dead: ask. Frames that were on their way before prove nothing. */
function doubt(): void {
  const { at, heard } = s;
  const again = at.status === "verifying";
  if (at.status !== "live" && !(again && !at.again)) return;
  if (now.wall - heard.wall > s.heartbeatMs) becomeStale(heard.wall);
  s.at = { status: "verifying", since: at.since, doubted: now, again };
  probe();
  arm(s.figures.probeTimeoutMs);
}

function probe(time?: number): void {
  const id = `${s.generation}.${++s.count}`;
  ask("send", { type: "probe", id });
  s.ping = { id, ...now, ...(time && { time }) };
}

function probeAnswered(id: unknown): void {
  const { ping } = s;
  if (!ping || id !== ping.id) return;
  s.ping = undefined;
  takeSample(ping, ping.time, ping.wall);
  verified();
}

/** A time stamp of the server's that was made while a round trip began at `from`, and arrived at `wall`. */
function takeSample(from: Instant, time: unknown, wall: number): void {
  if (number(time) && !jumpBetween(from, now))
    s.samples = withSample(s.samples, number(time), wall, now.mono - from.mono);
}

function verified(): void {
  if (s.at.status !== "verifying") return;
  s.at = { status: "live", since: s.at.since };
  refresh();
}

// --- the end of a connection or an attempt ---

function ended(code: number, closeWith = 0, clean = false, detail?: string, cause?: Cause): void {
  const { at, refused, figures } = s;
  leave(code, closeWith, clean, detail, cause);
  if (at.status === "connecting" && ++s.failures >= figures.pollAfter && s.pollingSince === undefined) {
    s.pollingSince = now.mono;
    poll();
  }
  const needsNew = NEW_TOKEN.includes(code);
  if (needsNew) s.refused = true;
  if (needsNew ? refused || !s.needsToken : code >= 4500 || FINAL.includes(code)) fail(s.end?.cause as Cause);
  // As long as polls keep the page up to date, nobody is to stop them.
  else if (s.attempt >= figures.maxAttempts && (s.pollingSince === undefined || s.staleSinceWall))
    fail("retries_exhausted");
  else {
    s.attempt++;
    wait(needsNew ? undefined : delayFor(s.attempt, figures, now.random));
  }
}

/** Let go of the socket without waiting for its close event, which may never come. */
function leave(
  code: number,
  closeWith: number,
  clean = false,
  detail?: string,
  cause: Cause | undefined = REASONS[code],
): void {
  const { at } = s;
  const otherwise = !isOpen(at) ? "attempt_failed" : s.network === "offline" ? "network_offline" : "unknown";
  s.end = { code: code || undefined, clean, detail: detail || undefined, cause: cause ?? otherwise };
  if (isOpen(at)) {
    s.previous = { ...s.end, connectionId: s.connectionId };
    startDowntime();
    becomeStale(code === 4100 || code === 4101 ? s.heard.wall : now.wall);
  } else if (at.status === "connecting") s.previous ??= { cause: s.end.cause };
  s.generation++;
  s.ping = undefined;
  ask("timer", "timer");
  ask("drop", closeWith);
}

/** Wait for the next attempt: as long as the server said, else `delay`, else not longer than its jitter. */
function wait(delay = now.random * s.figures.backoffJitterMs): void {
  const { hintMs } = s;
  const ms = hintMs ?? delay;
  s.hintMs = undefined;
  s.backoffMs += ms;
  s.at = { status: "waiting", until: now.mono + ms, hinted: hintMs !== undefined };
  arm(ms);
}

function fail(reason: FailureReason): void {
  stopPolling();
  s.at = { status: "failed", reason };
}

// --- sleep ---

function suspend(code: number, closeWith: number): void {
  const { at } = s;
  if (at.status === "idle" || at.status === "closed" || at.status === "failed") return;
  leave(code, closeWith);
  if (at.status === "waiting" && at.hinted) s.hintMs = Math.max(0, at.until - now.mono);
  stopPolling();
  s.at = { status: "suspended" };
}

/** Somebody looks again, or the network is back: no reason to sit out a long wait, unless the server asked for it. */
function hurry(): void {
  const { at, figures } = s;
  const failed = at.status === "failed" && at.reason === "retries_exhausted";
  const long = at.status === "waiting" && !at.hinted && at.until - now.mono > figures.backoffJitterMs;
  if (at.status !== "suspended" && !((failed || long) && mayHurry())) return;
  if (failed) startAnew();
  wait();
}

/** Once a second at most. */
function mayHurry(): boolean {
  if (now.mono - s.hurriedAt < ONCE_MS) return false;
  s.hurriedAt = now.mono;
  return true;
}

// --- what the page shows ---

function startDowntime(): void {
  s.downSince ??= now.mono;
  s.seenSince ??= now.mono;
}

function becomeStale(sinceWall: number): void {
  s.staleSinceWall ??= sinceWall;
}

/** The data is up to date again when what was missed has been applied, not when the socket opens. */
function refresh(): void {
  if (s.gap || (s.stream && s.stream.position < s.replayHead)) return;
  if (s.at.status === "live" || s.pollingSince !== undefined) s.staleSinceWall = undefined;
}

// --- polling ---

/** Ask, and be there to ask again whether there is an answer or not. */
function poll(): void {
  ask("poll");
  armPoll();
}

function armPoll(atLeast = 0): void {
  const ms = s.figures.pollMs * (0.8 + 0.4 * now.random);
  ask("timer", "poll", Math.max(ms, Math.min(atLeast, MAX_HINT_MS)));
}

function stopPolling(): void {
  if (s.pollingSince === undefined) return;
  s.pollingSince = undefined;
  ask("timer", "poll");
  if (s.at.status !== "live") becomeStale(now.wall);
}

function caughtUp({ stream_epoch: epoch, stream_position, resumed, updates }: Polled): void {
  const goesOn = resumed && s.stream?.epoch === epoch;
  if (goesOn) for (const message of updates) advance(message as Update & OtherMessage);
  follow(epoch, stream_position, goesOn);
}

// --- effects ---

function ask(...effect: Effect): void {
  effects.push(effect);
}

function deliver(message: OtherMessage): void {
  ask("deliver", message);
}
