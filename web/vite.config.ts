import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const gateway = process.env.PULSETRAIL_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  // The pages work under any prefix that a proxy puts before them.
  base: "./",
  appType: "mpa",
  plugins: [react()],
  resolve: {
    // The client of this checkout, from its source: nothing has to be built or installed in its folder.
    alias: [
      {
        find: /^pulsetrail(\/\w+)?$/,
        replacement: fileURLToPath(new URL("../client/src$1/index.ts", import.meta.url)),
      },
    ],
    dedupe: ["react", "react-dom"],
  },
  build: {
    rolldownOptions: { input: ["monitor.html"] },
    // A file in the page would have to be allowed by the Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // ECharts, in a file of its own; it is loaded after the figures are there.
    chunkSizeWarningLimit: 600,
  },
  server: {
    proxy: {
      "/ws": { target: gateway, ws: true },
      "/v1": gateway,
    },
  },
  test: { include: ["test/**/*.test.ts"] },
});
