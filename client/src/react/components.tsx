import { type CSSProperties, type ReactNode, useEffect, useState } from "react";
import type { Client } from "../api.ts";
import { useClient, useConnection, useNow, useRetryCountdown } from "./hooks.ts";

/** By script and not in a style element, which a page's Content-Security-Policy may forbid. */
const SPINNER: CSSProperties = {
  display: "none",
  width: ".8em",
  height: ".8em",
  border: "2px solid",
  borderInlineEndColor: "transparent",
  borderRadius: "50%",
};

/** Shows and turns the spinner, for those who did not ask for reduced motion. */
function spin(element: HTMLElement | null): void {
  if (!element?.animate || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  element.style.display = "inline-block";
  element.animate([{ transform: "rotate(1turn)" }], { duration: 1_000, iterations: Infinity });
}

/** What a user reads for a reason that is a word of the protocol. */
const WHY: Readonly<Record<string, string>> = {
  retries_exhausted: "The server could not be reached.",
  unauthorized: "You are not signed in any more.",
  token_expired: "You are not signed in any more.",
  forbidden: "You are not allowed to see them.",
  connection_limit: "There are too many connections.",
};

export interface ConnectionBannerProps {
  readonly client?: Client;
  readonly className?: string;
  readonly style?: CSSProperties;
  /** The words, for other languages. */
  readonly paused?: ReactNode;
  readonly stopped?: (reason: string) => ReactNode;
  readonly retryLabel?: ReactNode;
  readonly countdown?: (seconds: number) => ReactNode;
}

/** Whether there was enough visible downtime for a banner, by a timer that failed retries do not put off. */
function useBanner(client: Client): "" | "paused" | "failed" {
  const status = useConnection((snapshot) => snapshot.status, client);
  const seenSince = useConnection((snapshot) => snapshot.seenSince, client);
  const visibility = useConnection((snapshot) => snapshot.visibility, client);
  const [due, setDue] = useState(false);
  useEffect(() => {
    if (seenSince === undefined) return setDue(false);
    if (visibility === "hidden" || status === "suspended") return;
    const { env, figures } = client;
    const timer = env.setTimer(() => setDue(true), seenSince + figures.bannerAfterMs - env.now().mono);
    return () => env.clearTimer(timer);
  }, [client, seenSince, visibility, status]);
  return status === "failed" ? "failed" : seenSince !== undefined && due ? "paused" : "";
}

/**
 * Says that live updates are paused, when the next attempt is, and that they have stopped. Always in the page, so that
 * a screen reader notices when its text changes.
 */
export function ConnectionBanner({
  client,
  className = "pulsetrail-banner",
  style,
  paused = "Live updates paused, attempting to reconnect…",
  stopped = (reason) => `Live updates stopped. ${WHY[reason] ?? `The server ended them (${reason}).`}`,
  retryLabel = "Retry",
  countdown = (seconds) => `Next attempt in ${seconds} s`,
}: ConnectionBannerProps): ReactNode {
  const found = useClient(client);
  const banner = useBanner(found);
  const reason = useConnection((snapshot) => snapshot.reason ?? "", found);
  const seconds = useRetryCountdown(found);
  const shown = banner !== "";
  useEffect(() => {
    if (!shown) return;
    const { env } = found;
    const since = env.now().mono;
    found.tell("banner", [true, since - (found.getSnapshot().seenSince as number)]);
    return () => found.tell("banner", [false, env.now().mono - since]);
  }, [found, shown]);
  return (
    <div className={className} style={style} data-state={banner || "hidden"}>
      {banner === "paused" && <span className="pulsetrail-spinner" style={SPINNER} ref={spin} aria-hidden="true" />}
      <span role="status">{banner === "failed" ? stopped(reason) : banner && paused}</span>
      {banner === "paused" && seconds !== undefined && (
        <span role="timer" aria-live="off">
          {countdown(seconds)}
        </span>
      )}
      {shown && (
        <button type="button" onClick={() => found.retryNow()}>
          {retryLabel}
        </button>
      )}
    </div>
  );
}

/** An age as people say it. */
function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3_600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3_600)} h`;
}

export interface StaleProps {
  readonly client?: Client;
  /** How old data may be before it counts, in milliseconds; the banner's delay by default, so that a blip shows nothing. */
  readonly after?: number;
}

/** Milliseconds since when the data may be out of date, once that is worth telling. */
function useStaleAge({ client, after }: StaleProps): number | undefined {
  const found = useClient(client);
  const since = useConnection((snapshot) => snapshot.staleSince, found);
  const { wall } = useNow(found, since !== undefined);
  const old = since === undefined ? 0 : wall - since;
  return since !== undefined && old >= (after ?? found.figures.bannerAfterMs) ? old : undefined;
}

export interface StaleBadgeProps extends StaleProps {
  readonly className?: string;
  readonly label?: (age: string) => ReactNode;
}

/** The age of data that may be out of date, in words. Nothing while it is fresh. */
export function StaleBadge({
  client,
  after,
  className = "pulsetrail-stale-badge",
  label = (old) => `Stale, ${old} old`,
}: StaleBadgeProps): ReactNode {
  const old = useStaleAge({ ...(client && { client }), ...(after !== undefined && { after }) });
  return old === undefined ? null : <span className={className}>{label(age(old))}</span>;
}

export interface StaleComponentProps extends StaleBadgeProps {
  readonly children: ReactNode;
}

/** Shows its children grey, with a badge, while they may be out of date: colour is never the only sign. */
export function Stale({ children, ...props }: StaleComponentProps): ReactNode {
  const old = useStaleAge(props);
  const stale = old !== undefined;
  return (
    <div data-stale={stale} style={stale ? { filter: "grayscale(1)" } : undefined}>
      <StaleBadge {...props} />
      {children}
    </div>
  );
}
