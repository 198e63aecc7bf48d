import { isReading, type Device, type Gpu } from "../device/schema.ts";
import { throttleNames, type ThrottleReason } from "../sample/reading.ts";
import { oneLine } from "./cells.ts";
import {
  dim,
  known,
  ratio,
  STALE_MS,
  valuesOf,
  type DeviceView,
  type Lines,
  type Values,
} from "./device-values.ts";
import { bar, table, trend, type Column, type Look, type Span, type Style } from "./frame.ts";
import { age, bytesOf, percent, whole } from "./units.ts";

export const TREND_SECONDS = 30;

/** A row a GPU, and why some can't be read. */
export function gpuLines(view: DeviceView, width: number, look: Look): Lines {
  const { gpus, gpu_reader } = view.device;
  const notes = readerNotes(gpu_reader);
  const lines: Lines = notes.length > 0 ? [[], ...notes] : [];
  if (gpus.length === 0) return lines;
  const rows = inOrder(gpus).map((gpu) => ({ gpu, values: gpu.lost ? {} : valuesOf(view, gpu.uuid) }));
  const cells = (cell: (values: Values, gpu: Gpu) => Span[] | string): Span[][] =>
    rows.map(({ gpu, values }) => {
      const made = cell(values, gpu);
      return typeof made === "string" ? [{ text: made }] : made;
    });
  const barWidth = width >= 110 ? 12 : 8;
  const memoryShare = (values: Values) => ratio(values["gpu.memory.used"], values["gpu.memory.total"]);
  const columns: Column[] = [
    { title: "GPU", rank: 0, right: true, cells: cells((_, gpu) => gpuNumber(gpu, gpus)) },
    { title: "NAME", rank: 6, cells: cells((_, gpu) => gpuName(gpu)) },
    { title: "", rank: 4, cells: cells((values) => bar(values["gpu.utilization"], barWidth, look)) },
    {
      title: "UTIL",
      rank: 0,
      right: true,
      least: 5,
      cells: cells((values) => percent(values["gpu.utilization"])),
    },
    { title: "", rank: 5, cells: cells((values) => bar(memoryShare(values), barWidth, look)) },
    {
      title: "MEMORY",
      rank: 0,
      right: true,
      least: 13,
      cells: cells((values, gpu) =>
        bytesOf(values["gpu.memory.used"], values["gpu.memory.total"] ?? gpu.memory ?? undefined),
      ),
    },
    { title: "TEMP", rank: 1, right: true, least: 5, cells: cells(temperature) },
    {
      title: "POWER",
      rank: 2,
      right: true,
      least: 9,
      cells: cells((values, gpu) =>
        whole(values["gpu.power"], "W", values["gpu.power.limit"] ?? gpu.power_limit ?? undefined),
      ),
    },
    {
      title: "SM",
      rank: 7,
      right: true,
      least: 8,
      cells: cells((values) => whole(values["gpu.clock.sm"], "MHz")),
    },
    {
      title: "MEM CLOCK",
      rank: 8,
      right: true,
      cells: cells((values) => whole(values["gpu.clock.memory"], "MHz")),
    },
    ...(view.trends
      ? [
          {
            title: `LAST ${TREND_SECONDS} S`,
            rank: 9,
            cells: cells((_, gpu) => trend(view.trends?.get(gpu.uuid) ?? [], TREND_SECONDS, look)),
          },
        ]
      : []),
    { title: "STATE", rank: 3, most: 16, cells: cells((values, gpu) => gpuState(view, gpu, values)) },
  ];
  return [...lines, [], ...table(columns, width, look)];
}

const parentOf = (gpu: Gpu, gpus: Gpu[]) => gpus.find(({ uuid }) => uuid === gpu.parent);

/** Each MIG instance behind its GPU. */
export function inOrder(gpus: Gpu[]): Gpu[] {
  const place = (gpu: Gpu) => parentOf(gpu, gpus)?.index ?? gpu.index;
  const within = (gpu: Gpu) =>
    gpu.parent === null ? -1 : (gpu.gpu_instance ?? 0) * 1000 + (gpu.compute_instance ?? 0);
  return gpus.toSorted((left, right) => place(left) - place(right) || within(left) - within(right));
}

/** "3", or of a MIG instance its GPU's number and its own two: "3/1/0". */
export function gpuNumber(gpu: Gpu, gpus: Gpu[]): string {
  if (gpu.parent === null) return String(gpu.index);
  const numbers = [parentOf(gpu, gpus)?.index, gpu.gpu_instance, gpu.compute_instance];
  return numbers.map((number) => number ?? "?").join("/");
}

export const gpuName = (gpu: Gpu) =>
  gpu.parent === null ? oneLine(gpu.name).replace(/^NVIDIA /, "") : `MIG ${gpu.profile ?? oneLine(gpu.name)}`;

function temperature(values: Values, gpu: Gpu): Span[] {
  const degrees = values["gpu.temperature"];
  const isHot =
    degrees !== undefined && gpu.slowdown_temperature !== null && degrees >= gpu.slowdown_temperature - 3;
  return [{ text: whole(degrees, "°C"), style: isHot ? "bad" : undefined }];
}

function gpuState({ samples, now }: DeviceView, gpu: Gpu, values: Values): Span[] {
  if (gpu.lost) return [{ text: "lost", style: "bad" }];
  if (gpu.mig) return [dim("split (MIG)")];
  if (gpu.states["gpu"]) return [dim("asleep")];
  const sample = samples.get(gpu.uuid);
  if (!sample) return [dim("no values yet")];
  if (now - sample.time > STALE_MS) return [{ text: `${age(now - sample.time)} old`, style: "warn" }];
  const held = throttleNames(values["gpu.throttle"] ?? 0).map((reason) => wordByReason[reason]);
  if (held.length > 0) return [{ text: held.join(", "), style: "warn" }];
  return [known(values["gpu.throttle"]) ? { text: "ok", style: "good" } : dim("-")];
}

const wordByReason: Record<ThrottleReason, string> = {
  "software power cap": "power cap",
  "hardware slowdown": "slowed down",
  "sync boost": "sync boost",
  "software thermal slowdown": "thermal",
  "hardware thermal slowdown": "HW thermal",
  "hardware power brake": "power brake",
};

/** Why GPUs can't be read, and what to do about it; nothing where all are read. */
export function readerNotes(reader: Device["gpu_reader"]): Lines {
  const { status, reason, advice } = reader;
  const text = reason ?? (status === "ok" ? undefined : wordByStatus[status]);
  if (text === undefined) return [];
  // A machine without GPUs lacks nothing.
  const isQuiet = advice === null && quiet.has(status);
  const isPartly = isQuiet || isReading(reader) || quiet.has(status);
  const style: Style | undefined = isQuiet ? "dim" : undefined;
  return [
    [
      {
        text: isPartly ? "GPUs: " : "The GPUs can't be read: ",
        style: isQuiet ? "dim" : isPartly ? "warn" : "bad",
      },
      { text: oneLine(text), style },
    ],
    ...(advice === null ? [] : [[{ text: oneLine(advice), style }]]),
  ];
}

const quiet = new Set<string>(["absent", "off", "starting", "no_gpu"]);

const wordByStatus: Record<Exclude<Device["gpu_reader"]["status"], "ok">, string> = {
  off: "reading them is switched off.",
  absent: "there is no NVIDIA driver here.",
  no_driver: "the NVIDIA driver is not loaded.",
  no_gpu: "the driver sees none.",
  mismatch: "the NVIDIA library and the loaded driver are of different versions.",
  container_lost: "this container has lost access to them.",
  starting: "the first values are on their way.",
  hung: "a call into the driver does not return.",
  degraded: "they are read less often, because reading takes too long.",
  failed: "the reader has failed.",
};
