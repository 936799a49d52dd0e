/** axe finds nothing wrong with the page, whatever state it is in, dark or light. */

import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { Monitor } from "./lab/monitor.ts";
import { expect, test } from "./lab/scenario.ts";

async function violations(page: Page): Promise<string[]> {
  const found: string[] = [];
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme });
    const results = await new AxeBuilder({ page }).analyze();
    for (const { id, help, nodes } of results.violations) {
      found.push(...nodes.map(({ target }) => `${colorScheme}: ${id} (${help}) at ${target}`));
    }
  }
  return found;
}

test("live and reconnecting", async ({ chaos, monitor }) => {
  expect(await violations(monitor.page)).toEqual([]);
  await chaos.apply({ fault: "refuse" });
  await chaos.apply({ fault: "reset" });
  await expect(monitor.banner).toHaveAttribute("data-state", "paused", { timeout: 10_000 });
  expect(await violations(monitor.page)).toEqual([]);
});

test("failed", async ({ context, ownService }) => {
  const service = await ownService({
    PULSETRAIL_AUTH_MODE: "jwt",
    PULSETRAIL_JWT_KEY: "a key that nobody has a token of",
  });
  const monitor = await Monitor.open(context, `http://127.0.0.1:${service.port}`);
  await expect(monitor.banner).toHaveAttribute("data-state", "failed", { timeout: 20_000 });
  expect(await violations(monitor.page)).toEqual([]);
});
