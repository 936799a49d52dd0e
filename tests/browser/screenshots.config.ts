import { defineConfig } from "@playwright/test";
import scenarios from "./playwright.config.ts";

/** `make screenshots`: the pictures of docs/images/. */
export default defineConfig(scenarios, {
  testMatch: "screenshots.spec.ts",
  testIgnore: [],
  workers: 1,
  globalTimeout: 400_000,
});
