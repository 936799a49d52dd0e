// What each entry point costs a page: bundled, minified and gzipped, with react and the core left out of the others.
// Exits with 1 if one is over its budget.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const KIB = 1024;
const BUDGETS = [
  { name: "core", entry: "index.js", budget: 5 * KIB, external: [] },
  { name: "react", entry: "react/index.js", budget: 2 * KIB, external: ["react", "react/jsx-runtime"] },
  { name: "telemetry", entry: "telemetry/index.js", budget: 3 * KIB, external: [] },
];
const dist = new URL("../dist/", import.meta.url).pathname;

/** A subpath finds the core in the page already. */
const coreIsThere = {
  name: "core is there",
  setup(bundle) {
    bundle.onResolve({ filter: /^\.\.\/[^/]+\.js$/ }, ({ path }) => ({ path, external: true }));
  },
};

let over = false;
for (const { name, entry, budget, external } of BUDGETS) {
  const { outputFiles } = await build({
    entryPoints: [dist + entry],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    external,
    plugins: name === "core" ? [] : [coreIsThere],
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  const verdict = size <= budget ? "ok" : "OVER";
  console.log(`${name.padEnd(10)} ${String(size).padStart(5)} of ${budget} bytes min+gzip  ${verdict}`);
  over ||= size > budget;
}
process.exitCode = over ? 1 : 0;
