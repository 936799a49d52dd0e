import "../design/tokens.css";
import "../design/page.css";
import "./monitor.css";
import { createClient } from "pulsetrail";
import { startTelemetry } from "pulsetrail/telemetry";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { followTheme } from "../design/theme.ts";
import { followFigures } from "../live/store.ts";
import { credentials } from "./credentials.ts";
import { Monitor } from "./Monitor.tsx";

followTheme();

const access = credentials();
const client = createClient(new URL("ws/updates?watch=telemetry", document.baseURI).href, {
  app: "monitor",
  ...access.options,
});
const figures = followFigures(client, access.token);
// Before it connects, so that the first attempt is on record too.
startTelemetry(client);

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Monitor client={client} figures={figures} access={access} />
    </StrictMode>,
  );
}
