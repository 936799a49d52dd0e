/**
 * The real service for the tests in this folder, started once for all of them from the checkout's virtual environment.
 * Without one (`make setup`) they are skipped.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

const python = fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));

export interface Service {
  /** `127.0.0.1:8000` */
  readonly host: string;
  readonly dataDir: string;
  readonly python: string;
}

declare module "vitest" {
  interface ProvidedContext {
    service: Service | undefined;
  }
}

/** Signs the bearer tokens of the tests. */
export const JWT_KEY = "a secret of the tests that is long enough for HS256";

/** What the service is started with: short times, and a rate of telemetry that a test can exceed. */
const SETTINGS = {
  PULSETRAIL_AUTH_MODE: "ticket",
  PULSETRAIL_JWT_KEY: JWT_KEY,
  PULSETRAIL_HEARTBEAT_INTERVAL: "0.5",
  PULSETRAIL_DRAIN_SECONDS: "0.2",
  PULSETRAIL_LIVE_FIGURES_INTERVAL: "0",
  PULSETRAIL_TELEMETRY_RATE_PER_ADDRESS: "25 per 2 second",
};

/** Starts a program that says where it listens; returns the process and what it said. */
export async function started(args: readonly string[], says: RegExp, env: NodeJS.ProcessEnv, cwd: string) {
  const child = spawn(python, ["-m", "pulsetrail.cli", ...args], { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => {
      output += data;
    });
  }
  let said: RegExpExecArray | null = null;
  for (const end = Date.now() + 60_000; !said; await sleep(20)) {
    said = says.exec(output);
    if (Date.now() > end || child.exitCode !== null) throw new Error(`pulsetrail ${args[0]} did not start:\n${output}`);
  }
  return { child, said };
}

export async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await gone;
}

export function environment(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: process.env.HOME, ...more };
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!existsSync(python)) {
    project.provide("service", undefined);
    return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), "pulsetrail-client-"));
  const dataDir = join(folder, "data");
  const { child, said } = await started(
    ["serve", "--port", "0", "--data-dir", dataDir],
    /ws:\/\/(127\.0\.0\.1:\d+)/,
    environment(SETTINGS),
    folder,
  );
  project.provide("service", { host: said[1] as string, dataDir, python });
  return async () => {
    await stopped(child);
    rmSync(folder, { recursive: true, force: true });
  };
}
