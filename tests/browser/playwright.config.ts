import { defineConfig } from "@playwright/test";

/** Scenarios mostly wait, for outages to end: many at once, all in one Chromium. */
export default defineConfig({
  testDir: ".",
  outputDir: "results",
  globalSetup: "./lab/setup.ts",
  fullyParallel: true,
  workers: 10,
  timeout: 120_000,
  globalTimeout: 240_000,
  expect: { timeout: 10_000 },
  reporter: [["list"]],
  forbidOnly: true,
});
