import type { Gpu } from "../device/schema.ts";
import { subjectOfRun } from "../sample/subject.ts";
import { oneLine } from "./cells.ts";
import { gpuNumber, inOrder } from "./device-gpus.ts";
import {
  dim,
  known,
  valuesOf,
  type DeviceView,
  type KnownRun,
  type Lines,
  type Values,
} from "./device-values.ts";
import { table, type Column, type Look, type Span } from "./frame.ts";
import { bytes, bytesASecond, tenths, wattHours } from "./units.ts";

/** A row for each run that is live there. */
export function runLines(view: DeviceView, width: number, look: Look): Lines {
  const { device, runs } = view;
  if (device.runs.length === 0) return [[], [dim("No run is live here.")]];
  const rows = device.runs.map((id) => ({ id, values: valuesOf(view, subjectOfRun(id)) }));
  const cells = (cell: (values: Values, id: string) => string): Span[][] =>
    rows.map(({ id, values }) => [{ text: cell(values, id) }]);
  const columns: Column[] = [
    { title: "RUN", rank: 0, cells: cells((_, id) => id) },
    { title: "NAME", rank: 2, cells: cells((_, id) => oneLine(runs.get(id)?.name ?? "-")) },
    { title: "CORES", rank: 0, right: true, least: 6, cells: cells((values) => tenths(values["run.cpu"])) },
    {
      title: "MEMORY",
      rank: 1,
      right: true,
      least: 8,
      cells: cells((values) => bytes(values["run.memory.pss"] ?? values["run.memory.rss"])),
    },
    { title: "GPU MEMORY", rank: 1, right: true, cells: cells((values) => bytes(gpuMemory(values))) },
    {
      title: "GPUS",
      rank: 3,
      right: true,
      cells: cells((values, id) => gpusOf(values, runs.get(id), device.gpus)),
    },
    {
      title: "READ",
      rank: 5,
      right: true,
      least: 10,
      cells: cells((values) => bytesASecond(values["run.disk.read"])),
    },
    {
      title: "WRITTEN",
      rank: 5,
      right: true,
      least: 10,
      cells: cells((values) => bytesASecond(values["run.disk.write"])),
    },
    {
      title: "GPU ENERGY",
      rank: 6,
      right: true,
      least: 10,
      cells: cells((_, id) => wattHours(energyOf(runs.get(id)))),
    },
    { title: "PROCESSES", rank: 4, right: true, cells: cells((values) => count(values["run.processes"])) },
  ];
  return [[], ...table(columns, width, look)];
}

const count = (value: number | undefined) => (value === undefined ? "-" : String(value));

const GPU_MEMORY = "run.gpu.memory@";

function gpuMemory(values: Values): number | undefined {
  const parts = Object.entries(values).filter(([key]) => key.startsWith(GPU_MEMORY));
  return parts.length > 0 ? parts.reduce((sum, [, value]) => sum + value, 0) : undefined;
}

/** The GPUs that are its own or on which it has memory, by their numbers: "0,1,4". */
function gpusOf(values: Values, run: KnownRun | undefined, gpus: Gpu[]): string {
  const own = new Set(run?.use?.gpus.map(({ uuid }) => uuid));
  const numbers = inOrder(gpus)
    .filter(({ uuid }) => own.has(uuid) || known(values[GPU_MEMORY + uuid]))
    .map((gpu) => gpuNumber(gpu, gpus));
  return numbers.length > 0 ? numbers.join(",") : "-";
}

/** What its GPUs took since it began. */
function energyOf(run: KnownRun | undefined): number | undefined {
  const joules = (run?.use?.gpus ?? []).flatMap(({ energy }) => (energy === null ? [] : [energy]));
  return joules.length > 0 ? joules.reduce((sum, energy) => sum + energy, 0) : undefined;
}
