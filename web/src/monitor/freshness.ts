import type { Snapshot } from "pulsetrail";
import { useEffect, useState } from "react";

/** As for the banner: what is over sooner nobody has to know. */
const LATE_MS = 5_000;

/**
 * Milliseconds for which the page, although it is connected, has got nothing newer than `newest`; `undefined` while
 * newer ones come, and while the connection itself is what is missing.
 */
export function useLateness(snapshot: Snapshot, newest: number | undefined): number | undefined {
  const live = snapshot.status === "live" && !snapshot.stale;
  // By the page's own clock: it and the server's may differ.
  const [since, setSince] = useState(() => performance.now());
  const [now, setNow] = useState(since);
  // biome-ignore lint/correctness/useExhaustiveDependencies: each newer one, and each time of being live, begins it anew
  useEffect(() => {
    setSince(performance.now());
    setNow(performance.now());
    if (!live) return;
    const timer = setInterval(() => setNow(performance.now()), 1_000);
    return () => clearInterval(timer);
  }, [live, newest]);
  return live && now - since >= LATE_MS ? now - since : undefined;
}
