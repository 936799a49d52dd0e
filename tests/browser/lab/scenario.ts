/** What a scenario gets: the shared service, a chaos proxy of its own in front of it, and a browser profile of its own. */

import { type Browser, type BrowserContext, test as base, chromium } from "@playwright/test";
import { Chaos } from "./chaos.ts";
import { Monitor } from "./monitor.ts";
import { type Address, Service } from "./service.ts";

interface Lab {
  /** The service that all scenarios share. */
  readonly service: Address;
  /** A proxy in front of it. */
  readonly chaos: Chaos;
  /** The page behind the proxy, connected. */
  readonly monitor: Monitor;
  /** A browser profile. */
  readonly context: BrowserContext;
  /** Starts a service of the scenario's own, on the shared database. */
  readonly ownService: (settings: NodeJS.ProcessEnv) => Promise<Service>;
}

function shared(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: the scenarios' setup did not run.`);
  return value;
}

export const test = base.extend<Lab, { readonly chromiumOfAll: Browser }>({
  chromiumOfAll: [
    async ({}, use) => {
      const browser = await chromium.connect(shared("LAB_BROWSER"));
      await use(browser);
      await browser.close();
    },
    { scope: "worker" },
  ],
  context: async ({ chromiumOfAll }, use) => {
    const context = await chromiumOfAll.newContext({ reducedMotion: "reduce" });
    await use(context);
    await context.close();
  },
  service: async ({}, use) => {
    await use({
      port: Number(shared("LAB_PORT")),
      environment: { ...process.env, PULSETRAIL_DATA_DIR: shared("LAB_DATA_DIR") },
    });
  },
  chaos: async ({ service }, use) => {
    const chaos = await Chaos.inFrontOf(service);
    await use(chaos);
    await chaos.stop();
  },
  monitor: async ({ context, chaos }, use) => {
    const monitor = await Monitor.open(context, chaos.origin);
    await monitor.live();
    await use(monitor);
  },
  ownService: async ({}, use) => {
    const services: Service[] = [];
    await use(async (settings) => {
      const service = new Service({ DATABASE_URL: shared("LAB_DATABASE_URL"), ...settings });
      services.push(service);
      await service.start();
      return service;
    });
    await Promise.all(services.map((service) => service.remove()));
  },
});

export { expect } from "@playwright/test";
