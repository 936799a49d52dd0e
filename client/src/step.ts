import { delayFor } from "./backoff.ts";
import { estimateOf, type Instant, jumpBetween, withSample } from "./clock.ts";
import { type Cause, FINAL, NEW_TOKEN, REASONS } from "./close-codes.ts";
import { number, type OtherMessage, type Polled, type Update } from "./protocol.ts";
import type { Effect, Event, FailureReason, Moment, State, TimerName } from "./state.ts";

/** A timer that fires so much late was held up: by a throttled tab, or by sleep. */
const LATE_MS = 2_000;
const ONCE_MS = 1_000;
const MAX_HINT_MS = 3_600_000;
const RENEW_MARGIN_MS = 30_000;

/** A step under way: the state is a copy, nobody else sees it before it is done. */
interface Turn {
  readonly s: { -readonly [K in keyof State]: State[K] };
  readonly effects: Effect[];
  readonly now: Moment;
}

/**
 * The whole behaviour of the client: what an event at a moment makes of a state, and what is to be done about it.
 *
 * Pure. The effects are carried out in their order, before anybody sees the new state: an update is delivered before
 * the data stops being stale.
 */
export function step(state: State, event: Event, now: Moment): { state: State; effects: readonly Effect[] } {
  const t: Turn = { s: { ...state }, effects: [], now };
  if ("generation" in event && event.generation !== state.generation) return { state, effects: [] };
  noticeTime(t);
  react(t, event);
  return { state: t.s, effects: t.effects };
}

function react(t: Turn, event: Event): void {
  const { s, now, effects } = t;
  const { at } = s;
  switch (event.type) {
    case "connect":
      if (at.status === "idle" || at.status === "closed") attempt(t);
      break;
    case "close":
      leave(t, 1000, 1000, true);
      stopPolling(t);
      s.at = { status: "closed" };
      s.downSince = s.hintMs = undefined;
      s.attempt = s.failures = 0;
      break;
    case "retry_now":
      if (now.mono - s.hurriedAt < ONCE_MS) break;
      if (at.status === "failed") {
        s.attempt = s.failures = 0;
        s.refused = false;
      } else if (at.status !== "waiting") break;
      s.hurriedAt = now.mono;
      attempt(t);
      break;
    case "authenticated":
    case "renewed":
      s.tokenExpires = event.expiresInMs && now.mono + event.expiresInMs;
      if (at.status === "connecting") openSocket(t, at.since);
      break;
    case "unauthenticated":
      ended(t, event.refused ? 4500 : 0);
      break;
    case "opened":
      if (at.status === "connecting") s.at = { ...at, phase: "welcome" };
      break;
    case "message":
      received(t, event.message);
      break;
    case "closed":
      ended(t, event.code, 0, event.clean, event.reason);
      break;
    case "timer":
      if (event.name === "poll") effects.push({ type: "poll" });
      else if (at.status === "waiting") attempt(t);
      else if (at.status === "connecting") ended(t, 0, 4100, false, "", "timeout");
      // Had the watchdog been late, there would be a doubt by now.
      else if (at.status === "live") ended(t, 4100, 4100);
      else if (at.status === "verifying" && now.mono > at.probedAt) {
        if (now.mono - event.due > LATE_MS && at.tries < 2) probe(t, at);
        else ended(t, 4101, 4101);
      }
      break;
    case "polled":
      if (s.pollingSince !== undefined) polled(t, event.polled);
      break;
    case "poll_failed":
      if (s.pollingSince !== undefined) {
        becomeStale(t, now.wall);
        armPoll(t, event.retryAfterMs);
      }
      break;
    case "reloaded":
      if (event.gap === s.gap) s.gap = 0;
      refresh(t);
      break;
    case "hidden":
    case "visible":
      s.visibility = event.type;
      if (event.type === "visible") hurry(t);
      break;
    case "resume":
    case "pageshow":
      hurry(t);
      break;
    case "freeze":
      suspend(t, 4102, 4102);
      break;
    case "pagehide":
      // A page that goes away for good is closed by its browser, with 1001: "asleep" would mislead.
      if (event.persisted) suspend(t, 4102, 4102);
      else suspend(t, 1001, 0);
      break;
    case "online":
    case "offline":
      s.network = event.type;
      if (event.type === "offline") doubt(t);
      else if (at.status !== "suspended") hurry(t);
  }
}

// --- time ---

/** Look at the clocks before anything else: after sleep, what comes first is old news. */
function noticeTime(t: Turn): void {
  const { s, now } = t;
  const { last } = s;
  s.last = now;
  if (s.downSince !== undefined && s.visibility === "visible" && s.at.status !== "suspended") {
    s.seenMs += now.mono - last.mono;
  }
  if (last.wall && jumpBetween(last, now)) {
    s.samples = [];
    doubt(t);
  } else if (now.mono - deadline(s) > LATE_MS) doubt(t);
}

/** When too many heartbeats are overdue. */
function deadline(s: State): number {
  return s.heard.mono + s.heartbeatMs * s.missLimit + Math.min(5_000, s.heartbeatMs / 4);
}

// --- an attempt ---

function attempt(t: Turn): void {
  const { s, now, effects } = t;
  s.generation++;
  startDowntime(t);
  timer(t, s.figures.attemptTimeoutMs);
  s.at = { status: "connecting", phase: "auth", since: now.mono, socket: now };
  if (s.needsToken) effects.push({ type: "authenticate", force: s.refused });
  else openSocket(t, now.mono);
}

function openSocket(t: Turn, since: number): void {
  const { s, now, effects } = t;
  const { stream, previous } = s;
  s.at = { status: "connecting", phase: "socket", since, socket: now };
  effects.push({
    type: "open",
    query: {
      since: stream?.position,
      since_epoch: stream?.epoch,
      ...(previous && {
        prev: previous.connectionId,
        prev_code: previous.code || undefined,
        prev_clean: previous.clean,
        cause: previous.cause,
        attempt: s.attempt,
        backoff_ms: Math.round(s.backoffMs),
        downtime_ms: Math.round(now.mono - (s.downSince ?? now.mono)),
      }),
    },
  });
}

function welcomed(t: Turn, message: OtherMessage): void {
  const { s, now, effects } = t;
  const { at, stream, figures } = s;
  if (at.status !== "connecting") return;
  const time = number(message.time, 0);
  if (time && !jumpBetween(at.socket, now)) {
    s.samples = withSample(s.samples, time, now.wall, now.mono - at.socket.mono);
  }
  s.connectionId = String(message.connection);
  s.heartbeatMs = number(message.heartbeat_ms, 0) || figures.heartbeatMs;
  s.missLimit = number(message.miss_limit, 0) || figures.missLimit;
  s.at = { status: "live", since: now.mono };
  s.failures = s.backoffMs = s.seenMs = 0;
  s.downSince = s.previous = s.hintMs = s.degraded = undefined;
  stopPolling(t);
  armWatchdog(t);
  effects.push({ type: "deliver", message });
  const { stream_epoch: epoch } = message;
  // A server without a stream of positions is served too: there is nothing to resume then.
  if (typeof epoch !== "string") refresh(t);
  else follow(t, epoch, number(message.stream_position, 0), message.resumed === true && stream?.epoch === epoch);
}

/** Go on from a place in the stream; where it does not continue the application has to fill the gap by itself. */
function follow(t: Turn, epoch: string, head: number, resumed: boolean): void {
  const { s, effects } = t;
  if (resumed && s.stream) s.replayHead = Math.max(head, s.stream.position);
  else {
    if (s.stream) s.gap = ++s.probes;
    s.stream = { epoch, position: head };
    s.replayHead = head;
  }
  // One that could not be filled is reported again.
  if (s.gap) effects.push({ type: "gap", gap: s.gap });
  refresh(t);
}

// --- messages ---

function received(t: Turn, message: OtherMessage): void {
  const { s, now, effects } = t;
  const { type } = message;
  // First of all, inside the event: a throttled page still answers.
  if (type === "heartbeat") {
    send(t, { type: "pong", seq: message.seq, received: now.wall, sent: now.wall });
  }
  s.heard = now;
  armWatchdog(t);
  if (type === "welcome") welcomed(t, message);
  else if (type === "heartbeat") heartbeat(t, message);
  else if (type === "probe_ok") probeAnswered(t, message.id);
  else if (type === "update") update(t, message as unknown as Update);
  else {
    if (type === "go_away") {
      // Longer than an hour is a mistake of the server's, and would overflow a timer.
      const hint = number(message.retry_after_ms, -1);
      if (hint >= 0) s.hintMs = Math.min(hint, MAX_HINT_MS);
    } else if (type === "degraded") s.degraded = String(message.reason);
    else if (type === "restored") s.degraded = undefined;
    effects.push({ type: "deliver", message });
  }
}

function heartbeat(t: Turn, message: OtherMessage): void {
  const { s, now, effects } = t;
  const { at } = s;
  const time = number(message.time, 0);
  s.refused = false;
  if (at.status === "verifying") {
    const clock = estimateOf(s.samples);
    if (clock.samples && time - clock.offsetMs - clock.errorMs > at.doubted.wall) verified(t);
  } else if (time) {
    // A probe along with the pong: its answer gives the round trip.
    s.ping = { id: sendProbe(t), time, ...now };
  }
  if (s.tokenExpires !== undefined && s.tokenExpires - now.mono < RENEW_MARGIN_MS + s.heartbeatMs) {
    effects.push({ type: "authenticate", force: true, renew: true });
  }
  if (s.stream && number(message.stream_position, 0) > s.stream.position) ended(t, 4103, 4103);
}

function update(t: Turn, message: Update): void {
  const { s, effects } = t;
  const position = number(message.stream_position, 0);
  if (!s.stream) effects.push({ type: "deliver", message: message as unknown as OtherMessage });
  else if (!advance(t, message) && position > Math.min(s.stream.position, s.replayHead)) ended(t, 4103, 4103);
}

/** Deliver an update if it is the next one. */
function advance(t: Turn, message: Update): boolean {
  const { s, effects } = t;
  const { stream } = s;
  if (!stream || message.stream_position !== stream.position + 1) return false;
  s.stream = { ...stream, position: message.stream_position };
  effects.push({ type: "deliver", message: message as unknown as OtherMessage });
  refresh(t);
  return true;
}

// --- doubt ---

/** The connection may be dead: ask. Frames that were on their way before prove nothing. */
function doubt(t: Turn): void {
  const { s, now } = t;
  if (s.at.status !== "live") return;
  if (now.wall - s.heard.wall > s.heartbeatMs) becomeStale(t, s.heard.wall);
  probe(t, { since: s.at.since, doubted: now, tries: 0 });
}

function probe(t: Turn, { since, doubted, tries }: { since: number; doubted: Instant; tries: number }): void {
  const { s, now } = t;
  s.at = {
    status: "verifying",
    since,
    doubted,
    probe: sendProbe(t),
    probedAt: now.mono,
    tries: tries + 1,
  };
  timer(t, s.figures.probeTimeoutMs);
}

function sendProbe(t: Turn): string {
  const id = `${t.s.generation}.${++t.s.probes}`;
  send(t, { type: "probe", id });
  return id;
}

function probeAnswered(t: Turn, id: unknown): void {
  const { s, now } = t;
  const { at, ping } = s;
  if (at.status === "verifying" && id === at.probe) verified(t);
  if (ping && id === ping.id) {
    s.ping = undefined;
    if (!jumpBetween(ping, now)) s.samples = withSample(s.samples, ping.time, ping.wall, now.mono - ping.mono);
  }
}

function verified(t: Turn): void {
  const { s } = t;
  if (s.at.status !== "verifying") return;
  s.at = { status: "live", since: s.at.since };
  armWatchdog(t);
  refresh(t);
}

// --- the end of a connection or an attempt ---

function ended(t: Turn, code: number, closeWith = 0, clean = false, detail = "", cause?: Cause): void {
  const { s } = t;
  const { figures } = s;
  const connecting = s.at.status === "connecting";
  leave(t, code, closeWith, clean, detail, cause);
  if (connecting && ++s.failures >= figures.pollAfter) startPolling(t);
  const needsNew = NEW_TOKEN.includes(code);
  const known = REASONS[code];
  const last = FINAL.includes(code) || (needsNew ? s.refused || !s.needsToken : !known && code >= 4500 && code <= 4999);
  s.refused = needsNew;
  if (last) fail(t, s.end?.cause as FailureReason);
  else if (s.attempt >= figures.maxAttempts) fail(t, "retries_exhausted");
  else {
    s.attempt++;
    wait(t, needsNew ? undefined : delayFor(s.attempt, figures, t.now.random));
  }
}

/** Let go of the socket without waiting for its close event, which may never come. */
function leave(t: Turn, code: number, closeWith: number, clean = false, detail = "", cause?: Cause): void {
  const { s, now, effects } = t;
  const { at } = s;
  const open = at.status === "live" || at.status === "verifying";
  const offline = s.network === "offline" ? "network_offline" : "unknown";
  s.end = { code, clean, detail, cause: cause ?? REASONS[code] ?? (open ? offline : "attempt_failed") };
  if (open) {
    s.previous = { ...s.end, connectionId: s.connectionId as string };
    if (now.mono - at.since >= s.figures.stableMs) s.attempt = 0;
    startDowntime(t);
    becomeStale(t, code === 4100 || code === 4101 ? s.heard.wall : now.wall);
  } else if (at.status === "connecting") s.previous ??= { cause: s.end.cause };
  s.generation++;
  s.ping = undefined;
  effects.push({ type: "cancel", name: "status" }, { type: "drop", code: closeWith });
}

/** Wait for the next attempt: as long as the server said, else `delay`, else not longer than its jitter. */
function wait(t: Turn, delay?: number): void {
  const { s, now } = t;
  const { hintMs, figures } = s;
  const ms = hintMs ?? delay ?? now.random * figures.backoffJitterMs;
  s.hintMs = undefined;
  s.backoffMs += ms;
  s.at = { status: "waiting", until: now.mono + ms, hinted: hintMs !== undefined };
  timer(t, ms);
}

function fail(t: Turn, reason: FailureReason): void {
  stopPolling(t);
  t.s.at = { status: "failed", reason };
}

// --- sleep ---

function suspend(t: Turn, code: number, closeWith: number): void {
  const { s, now } = t;
  const { at } = s;
  const { status } = at;
  if (status !== "connecting" && status !== "live" && status !== "verifying" && status !== "waiting") return;
  if (status === "waiting" && at.hinted) s.hintMs = Math.max(0, at.until - now.mono);
  leave(t, code, closeWith);
  stopPolling(t);
  if (s.stream) becomeStale(t, now.wall);
  s.at = { status: "suspended", wall: now.wall };
}

/** Somebody looks again, or the network is back: no reason to sit out a long wait, unless the server asked for it. */
function hurry(t: Turn): void {
  const { s, now } = t;
  const { at, figures } = s;
  if (at.status === "suspended") wait(t);
  else if (at.status === "waiting" && !at.hinted && at.until - now.mono > figures.backoffJitterMs) {
    if (now.mono - s.hurriedAt < ONCE_MS) return;
    s.hurriedAt = now.mono;
    wait(t);
  }
}

// --- what the page shows ---

function startDowntime(t: Turn): void {
  t.s.downSince ??= t.now.mono;
}

function becomeStale(t: Turn, sinceWall: number): void {
  t.s.staleSinceWall ??= sinceWall;
}

/** The data is up to date again when what was missed has been applied, not when the socket opens. */
function refresh(t: Turn): void {
  const { s } = t;
  if (s.gap || (s.stream && s.stream.position < s.replayHead)) return;
  if (s.at.status === "live" || s.pollingSince !== undefined) s.staleSinceWall = undefined;
}

// --- polling ---

function startPolling(t: Turn): void {
  if (t.s.pollingSince !== undefined) return;
  t.s.pollingSince = t.now.mono;
  t.effects.push({ type: "poll" });
}

function stopPolling(t: Turn): void {
  const { s, now, effects } = t;
  if (s.pollingSince === undefined) return;
  s.pollingSince = undefined;
  effects.push({ type: "cancel", name: "poll" });
  if (s.at.status !== "live") becomeStale(t, now.wall);
}

function polled(t: Turn, answer: Polled): void {
  const resumed = answer.resumed && t.s.stream?.epoch === answer.stream_epoch;
  if (resumed) for (const message of answer.updates) advance(t, message);
  follow(t, answer.stream_epoch, answer.stream_position, resumed);
  armPoll(t);
}

function armPoll(t: Turn, atLeast = 0): void {
  const ms = t.s.figures.pollMs * (0.8 + 0.4 * t.now.random);
  timer(t, Math.max(ms, Math.min(atLeast, MAX_HINT_MS)), "poll");
}

// --- effects ---

function armWatchdog(t: Turn): void {
  if (t.s.at.status === "live") timer(t, deadline(t.s) - t.now.mono);
}

function timer(t: Turn, ms: number, name: TimerName = "status"): void {
  t.effects.push({ type: "timer", name, ms });
}

function send(t: Turn, message: OtherMessage): void {
  t.effects.push({ type: "send", message });
}
