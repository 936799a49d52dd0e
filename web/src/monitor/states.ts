import type { Snapshot } from "pulsetrail";
import type { Tone } from "../live/health.ts";

type Status = Snapshot["status"];

/** The states of a connection as people say them. */
export const STATES: Readonly<Record<Status, string>> = {
  idle: "Not connected",
  connecting: "Connecting",
  live: "Live",
  verifying: "Checking the link",
  waiting: "Reconnecting",
  suspended: "Asleep",
  failed: "Stopped",
  closed: "Closed",
};

/** How a state is to be taken. */
export function toneOfStatus(status: Status): Tone {
  if (status === "live") return "calm";
  return status === "failed" || status === "closed" ? "alarm" : "watch";
}
