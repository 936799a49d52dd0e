/** What all scenarios share: a service with its database, and one Chromium. */

import { existsSync } from "node:fs";
import { type BrowserServer, chromium } from "@playwright/test";
import { Service } from "./service.ts";

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Nothing of its own goes over the network, and no sandbox, which root does not get. */
export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The Chromium of this machine, whichever there is. */
export function executable(): string | undefined {
  return BROWSERS.find((path) => existsSync(path));
}

/** It, or the one that Playwright has installed. */
export async function launch(): Promise<BrowserServer> {
  return chromium.launchServer({ executablePath: executable(), args: FLAGS });
}

export default async function setup(): Promise<() => Promise<void>> {
  const service = new Service();
  let browser: BrowserServer | undefined;
  const stop = async () => {
    await browser?.close();
    await service.remove();
  };
  try {
    await service.start();
    browser = await launch();
  } catch (error) {
    await stop();
    throw error;
  }
  process.env.LAB_BROWSER = browser.wsEndpoint();
  process.env.LAB_PORT = String(service.port);
  process.env.LAB_DATA_DIR = service.environment.PULSETRAIL_DATA_DIR;
  process.env.LAB_DATABASE_URL = service.databaseUrl;
  return stop;
}
