import type { Device, Gpu } from "../device/schema.ts";
import { MACHINE } from "../sample/subject.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag, sourceFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { gpuName, gpuNumber, inOrder, readerNotes } from "./device-gpus.ts";
import { listDevices } from "./device-watch.ts";
import { table, toLine, type Column, type Look } from "./frame.ts";
import { print, printJson } from "./output.ts";
import { lookOf } from "./screen.ts";
import { age, bytesOf, percent, whole } from "./units.ts";

export const command = defineCommand({
  name: "device list",
  summary: "List the machines and GPUs that are recorded, with their present values.",
  flags: { ...sourceFlag, ...jsonFlag, ...connectionFlags },
  examples: [
    ["device list", "show each machine, its GPUs, and why GPUs can't be read"],
    ["device list --json | jq -r '.[].gpus[].uuid'", "print the UUID of every GPU"],
  ],
  async run({ values }) {
    const devices = await listDevices(connect(values), values.source);
    if (values.json) await printJson(devices.map(publicDevice));
    else await print(listText(devices, Date.now(), lookOf(process.env, process.stdout.isTTY)));
    return 0;
  },
});

/** The documented fields and no others. */
export function publicDevice(device: Device): Device {
  const { id, name, local, os, kernel, architecture, boot, processor, cores, memory, container } = device;
  const { source, first_seen, last_seen, runs, gpu_reader, gpus, latest } = device;
  const machine = { os, kernel, architecture, boot, processor, cores, memory, container };
  return { id, name, local, source, first_seen, last_seen, ...machine, runs, gpu_reader, gpus, latest };
}

/** As wide as it needs to be: a listing may be piped into grep. */
export function listText(devices: Device[], now: number, look: Look): string {
  if (devices.length === 0) return "No devices yet. A collector lists its own machine once it has read it.\n";
  const lines = [
    ...table(deviceColumns(devices, now), Infinity, look),
    ...gpuTable(devices, look),
    ...devices.flatMap((device) =>
      readerNotes(device.gpu_reader).map((note, index) =>
        index === 0 && devices.length > 1 ? [{ text: `${oneLine(device.name)}: ` }, ...note] : note,
      ),
    ),
  ];
  return lines.map((spans) => `${toLine(spans, Infinity, look)}\n`).join("");
}

const cellsOf = <T>(rows: T[], cell: (row: T) => string) => rows.map((row) => [{ text: cell(row) }]);

function deviceColumns(devices: Device[], now: number): Column[] {
  const values = (device: Device) => device.latest[MACHINE]?.values ?? {};
  const column = (title: string, cell: (device: Device) => string): Column => ({
    title,
    rank: 0,
    cells: cellsOf(devices, cell),
  });
  return [
    column("ID", ({ id }) => id),
    column("NAME", ({ name, local }) => `${oneLine(name)}${local ? " (this collector's)" : ""}`),
    ...(devices.some(({ source }) => source !== null)
      ? [column("SOURCE", ({ source }) => oneLine(source ?? "-"))]
      : []),
    column(
      "CPU",
      (device) =>
        `${percent(values(device)["cpu.utilization"])}${device.cores === null ? "" : ` of ${device.cores}`}`,
    ),
    column("MEMORY", (device) => bytesOf(values(device)["memory.used"], device.memory ?? undefined)),
    column("GPUS", ({ gpus }) => String(gpus.filter(({ parent }) => parent === null).length)),
    column("SEEN", ({ last_seen }) => seen(now - Date.parse(last_seen))),
    column("LIVE RUNS", ({ runs }) => (runs.length === 0 ? "-" : runs.join(" "))),
  ];
}

const seen = (ms: number) => (ms < 10_000 ? "now" : `${age(ms)} ago`);

function gpuTable(devices: Device[], look: Look) {
  const rows = devices.flatMap((device) =>
    inOrder(device.gpus).map((gpu) => ({
      device,
      gpu,
      values: gpu.lost ? {} : (device.latest[gpu.uuid]?.values ?? {}),
    })),
  );
  if (rows.length === 0) return [];
  const column = (title: string, cell: (row: (typeof rows)[number]) => string, right = false): Column => ({
    title,
    rank: 0,
    right,
    cells: cellsOf(rows, cell),
  });
  return [
    [],
    ...table(
      [
        column("GPU", ({ device, gpu }) => gpuNumber(gpu, device.gpus), true),
        ...(devices.length > 1 ? [column("DEVICE", ({ device }) => oneLine(device.name))] : []),
        column("NAME", ({ gpu }) => gpuName(gpu)),
        column("UTIL", ({ values }) => percent(values["gpu.utilization"]), true),
        column(
          "MEMORY",
          ({ gpu, values }) =>
            bytesOf(values["gpu.memory.used"], values["gpu.memory.total"] ?? gpu.memory ?? undefined),
          true,
        ),
        column("TEMP", ({ values }) => whole(values["gpu.temperature"], "°C"), true),
        column(
          "POWER",
          ({ gpu, values }) =>
            whole(values["gpu.power"], "W", values["gpu.power.limit"] ?? gpu.power_limit ?? undefined),
          true,
        ),
        column("STATE", ({ gpu, values }) => stateOf(gpu, values)),
      ],
      Infinity,
      look,
    ),
  ];
}

function stateOf(gpu: Gpu, values: object): string {
  if (gpu.lost) return "lost";
  if (gpu.mig) return "split (MIG)";
  if (gpu.states["gpu"]) return "asleep";
  return Object.keys(values).length > 0 ? "ok" : "no values";
}
