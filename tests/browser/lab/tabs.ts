/**
 * A Chromium with tabs that are really hidden and frozen. Playwright makes each of its pages believe that it is in front,
 * so this one is talked to directly: the DevTools protocol, one JSON text and a NUL each way over two pipes.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { end } from "./service.ts";
import { executable, FLAGS } from "./setup.ts";

type Fields = Readonly<Record<string, unknown>>;

interface Answer {
  readonly id?: number;
  readonly result?: Fields;
  readonly error?: { readonly message: string };
}

const SECOND = 1_000;

export class Browser {
  private readonly directory = mkdtempSync(join(tmpdir(), "pulsetrail-tabs-"));
  private readonly process: ChildProcess;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private asked = 0;
  private text = "";

  constructor() {
    const own = ["--headless", "--remote-debugging-pipe", `--user-data-dir=${this.directory}`];
    this.process = spawn(executable() ?? "chromium", [...FLAGS, ...own, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    (this.process.stdio[4] as Readable).setEncoding("utf8").on("data", (text: string) => this.hear(text));
  }

  async send(method: string, params: Fields = {}, sessionId?: string): Promise<Fields> {
    const id = ++this.asked;
    const answered = new Promise<Answer>((resolve) => this.waiting.set(id, resolve));
    (this.process.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { error, result } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  /** Open a tab; the one that was in front is hidden by it. */
  async open(url: string): Promise<Tab> {
    const { targetId } = await this.send("Target.createTarget", { url });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    return new Tab(this, String(targetId), String(sessionId));
  }

  async close(): Promise<void> {
    await end(this.process);
    // Its children write into the directory for a moment after it has ended.
    await rm(this.directory, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }

  private hear(text: string): void {
    const messages = (this.text + text).split("\0");
    this.text = messages.pop() ?? "";
    for (const message of messages) {
      const answer = JSON.parse(message) as Answer;
      if (answer.id !== undefined) this.waiting.get(answer.id)?.(answer);
    }
  }
}

export class Tab {
  constructor(
    private readonly browser: Browser,
    private readonly targetId: string,
    private readonly sessionId: string,
  ) {}

  /** Put it in front; the others are hidden. */
  async show(): Promise<void> {
    await this.browser.send("Target.activateTarget", { targetId: this.targetId });
  }

  /** What Chromium does with a tab that was hidden for long. It takes hidden ones only. */
  async freeze(): Promise<void> {
    await this.browser.send("Page.setWebLifecycleState", { state: "frozen" }, this.sessionId);
  }

  async thaw(): Promise<void> {
    await this.browser.send("Page.setWebLifecycleState", { state: "active" }, this.sessionId);
  }

  async evaluate<Value>(expression: string): Promise<Value> {
    const { result } = await this.browser.send("Runtime.evaluate", { expression, returnByValue: true }, this.sessionId);
    return (result as { value: Value }).value;
  }

  /** Wait until an expression gives something else than nothing. */
  async until<Value>(expression: string, patience = 20 * SECOND): Promise<Value> {
    for (const until = Date.now() + patience; Date.now() < until; await sleep(100)) {
      const value = await this.evaluate<Value | null | false>(expression);
      if (value) return value;
    }
    throw new Error(`It never came to: ${expression}`);
  }
}
