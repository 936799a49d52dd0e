import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    restoreMocks: true,
    // Those with the real service wait most of their time.
    maxWorkers: 4,
    projects: [
      {
        extends: true,
        test: { name: "unit", include: ["test/**/*.test.{ts,tsx}"], exclude: ["test/real/**"], testTimeout: 10_000 },
      },
      {
        extends: true,
        test: {
          name: "real",
          include: ["test/real/*.test.ts"],
          globalSetup: ["test/real/service.ts"],
          testTimeout: 30_000,
          hookTimeout: 70_000,
        },
      },
    ],
  },
});
