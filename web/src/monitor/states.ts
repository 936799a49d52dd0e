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

/** Whether the service let nobody in for want of a good token. */
export function asksForToken({ status, reason }: Pick<Snapshot, "status" | "reason">): boolean {
  return status === "failed" && (reason === "unauthorized" || reason === "token_expired");
}
