/** `pulsetrail serve` as a user starts it, with heartbeats of seconds instead of half minutes: the same rules, sooner. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

export const ROOT = join(import.meta.dirname, "..", "..", "..");
export const PULSETRAIL = [join(ROOT, ".venv", "bin", "python"), "-m", "pulsetrail.cli"] as const;

const FAST = {
  PULSETRAIL_HEARTBEAT_INTERVAL: "2",
  PULSETRAIL_IDLE_TIMEOUT: "8",
  PULSETRAIL_NODE_LEASE: "5",
  PULSETRAIL_DRAIN_SECONDS: "0.5",
};
const READY_MS = 60_000;
const STOP_MS = 30_000;

/** What another process needs in order to use a running service. */
export interface Address {
  readonly port: number;
  readonly environment: NodeJS.ProcessEnv;
}

export class Service implements Address {
  readonly environment: NodeJS.ProcessEnv;
  port = 0;
  private readonly directory = mkdtempSync(join(tmpdir(), "pulsetrail-browser-"));
  private process: ChildProcess | undefined;
  private output = "";

  /**
   * `settings` are environment variables; without `DATABASE_URL` the service has a database of its own. `demo` is `serve`
   * with simulated clients.
   */
  constructor(
    settings: NodeJS.ProcessEnv = {},
    private readonly command: "serve" | "demo" = "serve",
  ) {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(PULSETRAIL_|.*DATABASE_URL$)/.test(name));
    const data = join(this.directory, "data");
    mkdirSync(data);
    this.environment = { ...Object.fromEntries(inherited), ...FAST, ...settings, PULSETRAIL_DATA_DIR: data };
  }

  /** Start it, again on the same port, and wait until it is ready. */
  async start(): Promise<void> {
    this.output = "";
    const [program, ...arguments_] = PULSETRAIL;
    const child = spawn(program, [...arguments_, this.command, "--port", String(this.port)], {
      cwd: this.directory,
      env: this.environment,
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.process = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.output += text;
    });
    const until = Date.now() + READY_MS;
    while (Date.now() < until) {
      if (child.exitCode !== null) throw new Error(`serve ended with ${child.exitCode}:\n${this.output}`);
      this.port ||= Number(/ws:\/\/[^:]+:(\d+)\//.exec(this.output)?.[1] ?? 0);
      if (this.port && (await ready(this.port))) return;
      await sleep(100);
    }
    throw new Error(`serve was not ready in ${READY_MS / 1_000} s:\n${this.output}`);
  }

  /** Its database, as another service can use it. */
  get databaseUrl(): string {
    const url = /^ +database +(\S+)$/m.exec(this.output)?.[1];
    if (!url) throw new Error(`serve did not say where its database is:\n${this.output}`);
    return url;
  }

  /** End it in order; it can be started again. */
  async stop(): Promise<void> {
    await end(this.process);
  }

  /** End it, and remove its data. */
  async remove(): Promise<void> {
    try {
      await this.stop();
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}

async function ready(port: number): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1_000) })).ok;
  } catch {
    return false;
  }
}

/** Ask a child to end, and make it. */
export async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await ended;
  clearTimeout(late);
}

const run = promisify(execFile);

/** What a command prints with `--json`; `undefined` while nothing is on record. */
export async function ask(service: Address, ...arguments_: string[]): Promise<unknown> {
  const [program, ...module] = PULSETRAIL;
  try {
    const { stdout } = await run(program, [...module, ...arguments_, "--json"], {
      env: service.environment,
      maxBuffer: 64 << 20,
    });
    return JSON.parse(stdout);
  } catch (error) {
    if (error instanceof Error && "stderr" in error && String(error.stderr).includes("on record")) return undefined;
    throw error;
  }
}
