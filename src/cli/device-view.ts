import type { Device, Gpu, RunDevice } from "../device/schema.ts";
import { throttleNames, type ThrottleReason } from "../sample/reading.ts";
import { CGROUP, MACHINE, subjectOfRun } from "../sample/subject.ts";
import { oneLine } from "./cells.ts";
import { bar, table, toLine, trend, type Column, type Look, type Span, type Style } from "./frame.ts";
import { localTime } from "./text.ts";
import { age, bytes, bytesASecond, bytesOf, percent, tenths, wattHours, whole } from "./units.ts";

type Values = Readonly<Record<string, number>>;

export interface KnownRun {
  name: string;
  /** What it has used of this device so far. */
  use: RunDevice | undefined;
}

/** All that a picture of a device shows. */
export interface DeviceView {
  device: Device;
  /** The newest sample of each subject, however old; times are ms since the epoch. */
  samples: ReadonlyMap<string, { time: number; values: Values }>;
  /** What is known of runs, by their id. */
  runs: ReadonlyMap<string, KnownRun>;
  /** How busy each GPU was of late, second by second, the newest last. */
  trends?: ReadonlyMap<string, readonly number[]> | undefined;
  /** Now, by the collector's clock. */
  now: number;
  /** Most bytes a second that went over the network of late; undefined: not known yet. */
  networkPeak?: number | undefined;
  /** The connection to the collector is lost, for so many ms. */
  lostFor?: number | undefined;
  /** What happened last, and when. */
  event?: { time: number; text: string } | undefined;
}

export interface Size {
  width: number;
  /** Infinity where the lines just go on. */
  height: number;
}

/** Samples come every second: later than this, something is wrong. */
const STALE_MS = 5000;
/** And after this they are history: their values are no longer shown. */
const OLD_MS = 60_000;
/** Lines. */
const LOW = 16;
const EVENT_MS = 60_000;
export const TREND_SECONDS = 30;

/** The device as lines, none wider and no more than there is room for. */
export function renderDevice(view: DeviceView, { width, height }: Size, look: Look): string[] {
  // In a low terminal, what changes goes before what does not.
  const isLow = height < LOW;
  const head = [
    ...header(view, width).slice(0, isLow ? 1 : 2),
    ...warnings(view),
    ...(isLow ? [] : [[]]),
    ...meters(view, width, look),
  ];
  const gpus = gpuLines(view, width, look);
  const runs = runLines(view, width, look);
  const room = Math.max(0, height - head.length);
  const lines = [...head, ...share(gpus, runs, room)];
  return lines.slice(0, height).map((spans) => toLine(spans, width, look));
}

type Lines = Span[][];

const dim = (text: string): Span => ({ text, style: "dim" });

function header({ device, now }: DeviceView, width: number): Lines {
  const facts = [
    `${device.os} ${device.kernel}`,
    device.processor,
    `${device.cores} ${device.cores === 1 ? "core" : "cores"}`,
    bytes(device.memory),
  ].filter((fact) => fact !== null);
  const clock = localTime(now).slice(-8);
  const name = oneLine(device.name);
  const text = ` · ${facts.map(oneLine).join(" · ")}`;
  const { driver, cuda } = device.gpu_reader;
  const reader = driver === null ? [] : [[dim(`NVIDIA ${driver}${cuda === null ? "" : ` · CUDA ${cuda}`}`)]];
  return [
    width < 40
      ? [{ text: name, style: "bold" }]
      : [{ text: `${clock}  `, style: "dim" }, { text: name, style: "bold" }, { text }],
    ...reader,
  ];
}

function warnings({ device, samples, now, lostFor, event }: DeviceView): Lines {
  const lines: Lines = [];
  if (lostFor !== undefined)
    lines.push([
      {
        text: `The collector has not answered for ${age(lostFor)}: waiting for it to come back.`,
        style: "bad",
      },
    ]);
  const newest = Math.max(...[...samples.values()].map(({ time }) => time));
  const unseen = now - Date.parse(device.last_seen);
  if (samples.size === 0)
    lines.push([
      {
        text:
          unseen > OLD_MS
            ? `Nothing is read here now: the last time was ${age(unseen)} ago.`
            : "The first values are on their way.",
        style: "warn",
      },
    ]);
  else if (now - newest > STALE_MS)
    lines.push([
      { text: `Stale: nothing was read for ${age(now - newest)}; these are the last values.`, style: "warn" },
    ]);
  if (event && now - event.time < EVENT_MS)
    lines.push([{ text: `${localTime(event.time).slice(-8)}  ${oneLine(event.text)}`, style: "warn" }]);
  return lines;
}

/** The values of a subject, unless they are too old to mean anything. */
function valuesOf({ samples, now }: DeviceView, subject: string): Values {
  const sample = samples.get(subject);
  return sample && now - sample.time <= OLD_MS ? sample.values : {};
}

const joined = (...parts: (string | false | undefined)[]) => parts.filter(Boolean).join(" · ");
const known = (value: number | undefined) => value !== undefined;

function meters(view: DeviceView, width: number, look: Look): Lines {
  const values = valuesOf(view, MACHINE);
  const container = valuesOf(view, CGROUP);
  const barWidth = Math.min(40, Math.max(6, Math.floor(width * 0.3)));
  const meter = (label: string, share: number | undefined, text: string): Span[] => [
    { text: label.padEnd(10), style: "bold" },
    ...bar(share, barWidth, look),
    { text: ` ${percent(share).padStart(5)}  ` },
    { text },
  ];
  const lines: Lines = [
    meter("CPU", values["cpu.utilization"], processorText(values)),
    meter("Memory", ratio(values["memory.used"], values["memory.total"]), memoryText(values)),
  ];
  // Disks and network as far as the machine has them.
  if (known(values["disk.read"]) || known(values["disk.write"]))
    lines.push(
      meter(
        "Disk",
        busiestDisk(values),
        `read ${bytesASecond(values["disk.read"])} · written ${bytesASecond(values["disk.write"])}`,
      ),
    );
  if (known(values["network.receive"]) || known(values["network.transmit"]))
    lines.push(meter("Network", networkShare(view, values), networkText(view, values)));
  if (known(container["cpu.utilization"]) && known(container["cpu.limit"]))
    lines.push(
      meter(
        "Container",
        container["cpu.utilization"],
        `CPU ${tenths(container["cpu.cores"])} of ${tenths(container["cpu.limit"])} cores`,
      ),
    );
  if (known(container["memory.used"]) && known(container["memory.total"]))
    lines.push(
      meter(
        known(container["cpu.limit"]) ? "" : "Container",
        ratio(container["memory.used"], container["memory.total"]),
        `memory ${bytesOf(container["memory.used"], container["memory.total"])}`,
      ),
    );
  return lines;
}

const ratio = (used: number | undefined, total: number | undefined) =>
  used === undefined || total === undefined || total <= 0 ? undefined : used / total;

function processorText(values: Values): string {
  const load = ["load.1", "load.5", "load.15"].map((name) => values[name]);
  const share = (word: string, name: string) => known(values[name]) && `${word} ${percent(values[name])}`;
  return joined(
    load.every(known) && `load ${load.map((value) => value!.toFixed(1)).join(" ")}`,
    share("user", "cpu.user"),
    share("system", "cpu.system"),
    share("waiting", "cpu.iowait"),
    (values["cpu.steal"] ?? 0) > 0.005 && share("stolen", "cpu.steal"),
  );
}

function memoryText(values: Values): string {
  const { "swap.used": swapUsed, "swap.total": swapTotal } = values;
  return joined(
    bytesOf(values["memory.used"], values["memory.total"]),
    swapTotal !== undefined && swapTotal > 0 && `swap ${bytesOf(swapUsed, swapTotal)}`,
  );
}

/** A machine waits for its busiest disk, however idle the others are. */
function busiestDisk(values: Values): number | undefined {
  const shares = Object.entries(values)
    .filter(([key]) => key === "disk.utilization" || key.startsWith("disk.utilization@"))
    .map(([, share]) => share);
  return shares.length > 0 ? Math.max(...shares) : undefined;
}

export const networkRate = (values: Values): number =>
  (values["network.receive"] ?? 0) + (values["network.transmit"] ?? 0);

/** Nobody knows what its networks can carry: a share of the most they did carry of late. */
const networkShare = ({ networkPeak }: DeviceView, values: Values) =>
  networkPeak === undefined || networkPeak <= 0 ? undefined : networkRate(values) / networkPeak;

const networkText = ({ networkPeak }: DeviceView, values: Values) =>
  joined(
    `in ${bytesASecond(values["network.receive"])}`,
    `out ${bytesASecond(values["network.transmit"])}`,
    networkPeak !== undefined && networkPeak > 0 && `peak ${bytesASecond(networkPeak)}`,
  );

function gpuLines(view: DeviceView, width: number, look: Look): Lines {
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
export function readerNotes({ status, reason, advice }: Device["gpu_reader"]): Lines {
  const text = reason ?? (status === "ok" ? undefined : wordByStatus[status]);
  if (text === undefined) return [];
  // A machine without GPUs lacks nothing.
  const isQuiet = advice === null && quiet.has(status);
  const isPartly = isQuiet || status === "ok" || status === "degraded" || quiet.has(status);
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

function runLines(view: DeviceView, width: number, look: Look): Lines {
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

/** Both where both fit; else the GPUs first, and each says how much of it is not shown. */
function share(gpus: Lines, runs: Lines, room: number): Lines {
  if (gpus.length + runs.length <= room) return [...gpus, ...runs];
  const forRuns = Math.min(runs.length, Math.floor(room / 3));
  const forGpus = Math.min(gpus.length, room - (forRuns < LEAST_LINES ? 0 : forRuns));
  return [...shorten(gpus, forGpus), ...shorten(runs, room - forGpus)];
}

/** A blank, a heading, a row and the word of what is hidden. */
const LEAST_LINES = 4;

function shorten(lines: Lines, room: number): Lines {
  if (lines.length <= room) return lines;
  if (room < LEAST_LINES) return [];
  return [...lines.slice(0, room - 1), [dim(`${lines.length - room + 1} more`)]];
}
