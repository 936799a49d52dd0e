import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it, vi } from "vitest";
import packageJson from "../package.json" with { type: "json" };
import { DEFAULTS, figuresFrom } from "../src/index.ts";
import { SDK } from "../src/telemetry/index.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const readme = readFileSync(here("../README.md"), "utf8");
const folder = here("snippets");

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("README.md", () => {
  it("has samples that type-check as they stand", () => {
    const samples = [...readme.matchAll(/```(tsx?)\n(.*?)```/gs)];
    expect(samples.length).toBeGreaterThan(5);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    samples.forEach(([, kind, code], index) => {
      writeFileSync(`${folder}/sample${index}.${kind}`, `${code}\nexport {};\n`);
    });
    const sources = Object.fromEntries(
      ["", "/react", "/telemetry", "/testing"].map((path) => [`pulsetrail${path}`, [`../../src${path}/index.ts`]]),
    );
    const compilerOptions = { paths: sources, noUnusedLocals: false };
    writeFileSync(
      `${folder}/tsconfig.json`,
      JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["."] }),
    );
    try {
      execFileSync(here("../node_modules/.bin/tsc"), ["-p", folder], { encoding: "utf8" });
    } catch (error) {
      throw new Error((error as { stdout: string }).stdout);
    }
  });

  it("names every figure with its default, and its variable", () => {
    for (const [key, value] of Object.entries(DEFAULTS)) {
      expect(readme).toContain(`| \`${key}\` | ${value} |`);
      expect(readme).toContain(`\`VITE_PULSETRAIL_${key.replace(/[A-Z]/g, "_$&").toUpperCase()}\``);
    }
  });
});

describe("figuresFrom", () => {
  it("reads what is set and leaves out the rest", () => {
    const environment = { VITE_PULSETRAIL_BACKOFF_CAP_MS: "30000", VITE_PULSETRAIL_POLL_MS: "", MODE: "test" };
    expect(figuresFrom(environment)).toEqual({ backoffCapMs: 30_000 });
  });

  it("does not take nonsense for a number", () => {
    for (const value of ["soon", "-1", "NaN"]) {
      expect(() => figuresFrom({ VITE_PULSETRAIL_POLL_MS: value })).toThrow(RangeError);
    }
  });
});

describe("the package", () => {
  it("calls itself by its version in telemetry", () => {
    expect(SDK).toBe(`pulsetrail/${packageJson.version}`);
  });

  it("does nothing when it is imported: no timer, no listener, no random value", async () => {
    const spies = [
      vi.spyOn(globalThis, "setTimeout"),
      vi.spyOn(globalThis, "setInterval"),
      vi.spyOn(EventTarget.prototype, "addEventListener"),
      vi.spyOn(crypto, "getRandomValues"),
      vi.spyOn(Math, "random"),
    ];
    vi.resetModules();
    const before = spies.map((spy) => spy.mock.calls.length);
    await import("../src/index.ts");
    await import("../src/react/index.ts");
    await import("../src/telemetry/index.ts");
    await import("../src/testing/index.ts");
    const used = spies.map((spy, index) => spy.mock.calls.slice(before[index]));
    expect(used.flat()).toEqual([]);
  });

  it("touches window and document in one file only, and has no dependency", () => {
    const offenders = execFileSync("grep", ["-rlE", "\\b(window|document)\\b[.)]", here("../src")], {
      encoding: "utf8",
    });
    expect(offenders.trim().split("\n")).toEqual([here("../src/env/browser.ts")]);
    expect(packageJson).not.toHaveProperty("dependencies");
  });
});
