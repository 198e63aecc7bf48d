import type { Collector } from "../../collector.ts";
import type { DeviceFacts } from "../../device/schema.ts";
import { deviceOfStream, Encoding, isRunStream, type Entry } from "../../entry.ts";
import type { LogLine } from "../../log/schema.ts";
import { decodeBatch } from "../../metric/decode.ts";
import { isLive, type RunStatus } from "../../run/schema.ts";
import type { SpanRow } from "../../span/schema.ts";
import { unpackLines } from "../../store/log-chunk.ts";
import { unpackSamples } from "../../store/sample-batch.ts";
import type { Frame } from "../contract.ts";
import type { Share } from "../foreign.ts";
import type { HeldRun } from "../held.ts";
import { readVersion } from "./artifact.ts";
import { hardwareMessages, type Machine } from "./hardware.ts";
import type { Message } from "./message.ts";
import { readJson } from "./json.ts";
import { metricMessages } from "./metrics.ts";
import { spanMessages } from "./spans.ts";
import { statusMessages } from "./statuses.ts";

export type Signal = "messages" | "logs";

/** What an entry says to the platform. */
export interface Prepared {
  frame: Frame;
  /** The same ones each time they are asked for: a batch of many is written while it is sent. */
  messages: (() => Iterable<Message>) | undefined;
  lines: readonly LogLine[];
  /** How its run is from here on: what came before is sent before. */
  isStatus: boolean;
}

export interface Machines {
  of(device: string): Machine;
}

/** Throws where the entry can't be read. */
export function prepare(frame: Frame, machines: Machines): Prepared {
  const nothing: Prepared = { frame, messages: undefined, lines: [], isStatus: false };
  const { run, kind } = frame;
  switch (kind) {
    case "metric.appended": {
      const batch = decodeBatch(frame as Entry);
      return { ...nothing, messages: () => metricMessages(run, batch) };
    }
    case "log.appended":
      return { ...nothing, lines: unpackLines(frame as Entry) };
    case "sample.appended": {
      // Written now: it counts on from the one before it.
      const messages = [...hardwareMessages(machines.of(deviceOf(frame)), unpackSamples(frame))];
      return messages.length === 0 ? nothing : { ...nothing, messages: () => messages };
    }
    case "span.recorded": {
      const rows = readJson(frame) as SpanRow[];
      return { ...nothing, messages: () => spanMessages(run, rows) };
    }
    case "run.created":
    case "run.changed": {
      const { status, reason } = readJson(frame) as { status?: RunStatus; reason?: string | null };
      if (status === undefined) return nothing;
      const messages = statusMessages(run, { status, reason, time: frame.time });
      return { ...nothing, messages: () => messages, isStatus: true };
    }
    case "artifact.logged":
    case "artifact.held":
      // Its files go beside; but whether it can be read is known here.
      readVersion(frame);
      return nothing;
    case "run.held": {
      const { row } = readJson(frame) as HeldRun;
      // How it has ended is said behind all that it has.
      const status = isLive(row.status) ? row.status : "RUNNING";
      const messages = statusMessages(run, { status, reason: null, time: row.created });
      return { ...nothing, messages: () => messages, isStatus: true };
    }
    default:
      return nothing;
  }
}

/** Of facts of history: how runs have ended. */
export const endingsOf = (frames: readonly Frame[]): Frame[] =>
  frames.flatMap((frame) => {
    if (frame.kind !== "run.held") return [];
    const { status, reason, finished } = (readJson(frame) as HeldRun).row;
    if (isLive(status)) return [];
    const payload = new TextEncoder().encode(JSON.stringify({ status, reason }));
    const time = finished ?? frame.time;
    return [{ ...frame, kind: "run.changed", version: 1, time, encoding: Encoding.json, payload }];
  });

/** Messages and lines in turn, such that a run ends behind its output. */
export function sharesOf(all: readonly Prepared[]): Share<Signal, Prepared>[] {
  const shares: Share<Signal, Prepared>[] = [];
  let current: Prepared[] = [];
  const finish = () => {
    for (const signal of ["messages", "logs"] as const) {
      const prepared = current.filter((one) => speaks(signal, one));
      if (prepared.length > 0) shares.push({ signal, prepared });
    }
    current = [];
  };
  for (const prepared of all) {
    if (prepared.isStatus && current.some(({ lines }) => lines.length > 0)) finish();
    current.push(prepared);
  }
  finish();
  return shares;
}

export const speaks = (signal: Signal, { messages, lines }: Prepared): boolean =>
  signal === "messages" ? messages !== undefined : lines.length > 0;

/** Changes of a run that are more than its status, which the platform has no message for. */
const PERSONAL = ["name", "project", "config", "tags", "notes"];

/** Why nothing of an entry goes there; undefined: it does, or there is nothing in it that a person would miss. */
export function whyLeft(frame: Frame): string | undefined {
  switch (frame.kind) {
    case "run.changed": {
      const change = readJson(frame) as Record<string, unknown>;
      return change["status"] === undefined && PERSONAL.some((name) => name in change)
        ? "FedML has no message for a run's name, project, config, tags and notes"
        : undefined;
    }
    case "run.deleted":
      return "FedML has no message by which a run is deleted";
    case "event.recorded":
      return "FedML has no message for events of a machine";
    case "artifact.changed":
    case "artifact.used":
    case "artifact.deleted":
      return "FedML has no message for what is done with models and artifacts later";
    default:
      return undefined;
  }
}

function deviceOf({ run }: Frame): string {
  const device = deviceOfStream(run);
  if (device === undefined || isRunStream(run)) throw new Error(`${run} is no device.`);
  return device;
}

/** What is known of each machine that readings come of. */
export function createMachines({ connection }: Collector): Machines {
  const select = connection.prepare("SELECT facts FROM device WHERE id = ?");
  const machineOf = new Map<string, Machine>();
  return {
    of(id) {
      const machine = machineOf.get(id) ?? { id, facts: undefined, traffic: 0, counted: undefined };
      const row = select.get(id) as { facts: string } | undefined;
      machine.facts = row && (JSON.parse(row.facts) as DeviceFacts);
      machineOf.set(id, machine);
      return machine;
    },
  };
}
