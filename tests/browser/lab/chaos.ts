/** `pulsetrail chaos serve`, and orders for it: one line of JSON each way. */

import { type ChildProcess, spawn } from "node:child_process";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { type LogEvent, named } from "./log.ts";
import { type Address, end, PULSETRAIL } from "./service.ts";

export type Fault =
  | { readonly fault: "refuse" | "reset" | "fin" | "drop-heartbeats" }
  | { readonly fault: "blackhole"; readonly direction?: "up" | "down" | "both" }
  | { readonly fault: "http"; readonly status?: number; readonly upgrades_only?: boolean };

export interface Status {
  /** Whose the proxy's events are. */
  readonly page_id: string;
  readonly connections: number;
  readonly faults: readonly { readonly fault: string }[];
  readonly waiting: number;
}

interface Reply {
  readonly error?: string;
  readonly status?: Status;
}

export class Chaos {
  private constructor(
    private readonly child: ChildProcess,
    /** What pages use in the place of the service. */
    readonly origin: string,
    readonly controlPort: number,
  ) {}

  static async inFrontOf(service: Address): Promise<Chaos> {
    const free = "127.0.0.1:0";
    const [program, ...module] = PULSETRAIL;
    const command = ["chaos", "serve", "--listen", free, "--control", free, "--target", `127.0.0.1:${service.port}`];
    const child = spawn(program, [...module, ...command, "--json"], {
      env: service.environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-1_000);
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const { listen, control } = JSON.parse(line) as { listen: string; control: string };
      return new Chaos(child, `http://${listen}`, Number(control.split(":").pop()));
    }
    throw new Error(`The chaos proxy did not start: ${complaint}`);
  }

  /** Put a fault in force, for a time or until it is lifted; without a time a reset and a FIN happen once. */
  async apply(fault: Fault, seconds?: number): Promise<Status> {
    return this.order({ do: "apply", fault, for_ms: seconds === undefined ? null : seconds * 1_000 });
  }

  async lift(): Promise<Status> {
    return this.order({ do: "lift" });
  }

  async status(): Promise<Status> {
    return this.order({ do: "status" });
  }

  /** The faults that this proxy has told the log of, of these events. */
  async faultsIn(events: readonly LogEvent[]): Promise<unknown[]> {
    const { page_id } = await this.status();
    return named(events, "chaos.applied")
      .filter((event) => event.page_id === page_id)
      .map(({ payload }) => payload.fault);
  }

  async stop(): Promise<void> {
    await end(this.child);
  }

  private async order(order: object): Promise<Status> {
    const socket = connect(this.controlPort, "127.0.0.1");
    socket.write(`${JSON.stringify(order)}\n`);
    for await (const line of createInterface({ input: socket })) {
      const { error, status } = JSON.parse(line) as Reply;
      if (status === undefined) throw new Error(error ?? "The chaos proxy did not say how it stands.");
      return status;
    }
    throw new Error("The chaos proxy hung up.");
  }
}
