/** Takes the README's pictures of the Monitor page: live, reconnecting and failed; dark, light, and on a phone. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Chaos } from "./lab/chaos.ts";
import { Monitor } from "./lab/monitor.ts";
import { expect, test } from "./lab/scenario.ts";
import { ROOT, Service } from "./lab/service.ts";

const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const VIEWS = [
  { name: "dark", colorScheme: "dark", viewport: DESKTOP },
  { name: "light", colorScheme: "light", viewport: DESKTOP },
  { name: "phone", colorScheme: "dark", viewport: PHONE },
] as const;
/** So long the charts fill before the first picture. */
const HISTORY_MS = 90_000;
const ATTEMPTS = 40;
const LONGEST_WAIT_MS = 61_000;

test("pictures of the Monitor page, live, reconnecting and failed", async ({ chromiumOfAll }) => {
  test.setTimeout(300_000);
  const service = new Service({}, "demo");
  await service.start();
  const chaos = await Chaos.inFrontOf(service);
  const views = await Promise.all(
    VIEWS.map(async ({ name, ...options }) => {
      const context = await chromiumOfAll.newContext(options);
      return { name, context, monitor: await Monitor.open(context, chaos.origin) };
    }),
  );
  const take = async (state: string) => {
    for (const { name, monitor } of views) {
      await monitor.page.screenshot({ path: join(ROOT, "docs", "images", `monitor-${state}-${name}.png`) });
    }
  };
  const banners = async (state: string) => {
    for (const { monitor } of views) {
      await expect(monitor.banner).toHaveAttribute("data-state", state, { timeout: 10_000 });
    }
  };
  try {
    for (const { monitor } of views) await monitor.live();
    await sleep(HISTORY_MS);
    await take("live");
    await chaos.apply({ fault: "refuse" });
    await chaos.apply({ fault: "reset" });
    await banners("paused");
    await sleep(4_000);
    await take("reconnecting");
    // Thirty attempts take 23 minutes: the pages' clocks are turned forward.
    for (const { monitor } of views) await monitor.page.clock.install();
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      for (const { monitor } of views) await monitor.page.clock.fastForward(LONGEST_WAIT_MS);
      await sleep(200);
    }
    await banners("failed");
    await take("failed");
  } finally {
    for (const { context } of views) await context.close();
    await chaos.stop();
    await service.remove();
  }
});
