import { defineConfig } from "@playwright/test";

/** Scenarios mostly wait, for outages to end: many at once, all in one Chromium. */
export default defineConfig({
  testDir: ".",
  testIgnore: "screenshots.spec.ts",
  outputDir: "results",
  globalSetup: "./lab/setup.ts",
  fullyParallel: true,
  workers: 4,
  timeout: 120_000,
  globalTimeout: 240_000,
  expect: { timeout: 10_000 },
  reporter: [["list"]],
  forbidOnly: true,
});
