/** The present of a machine and its GPUs, as tiles show it. Pure. */
import { freshMs } from "../device/fresh.ts";
import type { Device, Gpu } from "../device/schema.ts";
import { CGROUP, MACHINE } from "../sample/subject.ts";
import { formatAgo } from "./format.ts";
import { formatReading } from "./units.ts";

export type Freshness = "live" | "stale" | "offline";

const STALE_FOR_MS = 50_000;

type Seen = Pick<Device, "last_seen" | "source" | "os">;

/** How old what is shown is: a number that stands still must not pass for the present. */
export function freshnessOf(device: Seen, now: number): Freshness {
  const age = now - Date.parse(device.last_seen);
  if (age <= freshMs(device)) return "live";
  return age <= freshMs(device) + STALE_FOR_MS ? "stale" : "offline";
}

export function freshnessWords(device: Seen, now: number): string {
  const fresh = freshnessOf(device, now);
  const age = formatAgo(now - Date.parse(device.last_seen));
  return fresh === "live" ? "Live" : fresh === "stale" ? `No news, ${age}` : `Offline, last seen ${age}`;
}

export type Values = Readonly<Record<string, number>>;

/** Newest values of a subject, unless they are no longer the present. */
export const valuesOf = (device: Device, subject: string): Values => device.latest[subject]?.values ?? {};

export interface Gauge {
  label: string;
  text: string;
  /** 0 to 1; undefined: there is nothing to fill. */
  share: number | undefined;
  /** Near its end is near trouble; a processor that is busy is none. */
  scarce?: boolean;
}

const share = (value: number | undefined, whole: number | null | undefined) =>
  value === undefined || !whole ? undefined : Math.min(1, Math.max(0, value / whole));

const ofWhole = (value: number | undefined, whole: number | null | undefined): string => {
  if (value === undefined) return "—";
  const text = formatReading("B", value);
  return whole ? `${text} of ${formatReading("B", whole)}` : text;
};

const flow = (values: Values, forth: string, back: string, words: [string, string]): string | undefined => {
  const parts = [forth, back].flatMap((reading, i) => {
    const value = values[reading];
    return value === undefined ? [] : [`${formatReading("B/s", value)} ${words[i]}`];
  });
  return parts.length > 0 ? parts.join(", ") : undefined;
};

/** What a machine's tile tells; what was not read is left out, but for the first two. */
export function machineGauges(device: Device): Gauge[] {
  const values = valuesOf(device, MACHINE);
  const container = valuesOf(device, CGROUP);
  const cpu = values["cpu.utilization"];
  const total = values["memory.total"] ?? device.memory ?? undefined;
  const used = values["memory.used"];
  const inUse = values["memory.utilization"];
  const gauges: Gauge[] = [
    { label: "Processor", text: cpu === undefined ? "—" : formatReading("ratio", cpu), share: cpu },
    {
      label: "Memory",
      text: used === undefined && inUse !== undefined ? formatReading("ratio", inUse) : ofWhole(used, total),
      share: share(used, total) ?? inUse,
      scarce: true,
    },
  ];
  const limit = container["memory.total"];
  if (container["memory.used"] !== undefined && limit !== undefined && limit < (total ?? Infinity))
    gauges.push({
      label: "Container",
      text: ofWhole(container["memory.used"], limit),
      share: share(container["memory.used"], limit),
      scarce: true,
    });
  const disk = flow(values, "disk.read", "disk.write", ["read", "written"]);
  if (disk !== undefined) gauges.push({ label: "Disks", text: disk, share: undefined });
  const network = flow(values, "network.receive", "network.transmit", ["in", "out"]);
  if (network !== undefined) gauges.push({ label: "Network", text: network, share: undefined });
  return gauges;
}

export function gpuGauges(device: Device, gpu: Gpu): Gauge[] {
  const values = gpu.lost ? {} : valuesOf(device, gpu.uuid);
  const use = values["gpu.utilization"];
  const active = values["gpu.sm.active"];
  const used = values["gpu.memory.used"];
  const total = values["gpu.memory.total"] ?? gpu.memory;
  const power = values["gpu.power"];
  const limit = values["gpu.power.limit"] ?? gpu.power_limit;
  const temperature = values["gpu.temperature"];
  const gauges: Gauge[] = [
    // Instances of a GPU have no utilization, but what their SMs do.
    use === undefined && active !== undefined
      ? { label: "SMs active", text: formatReading("ratio", active), share: active }
      : { label: "Use", text: use === undefined ? "—" : formatReading("ratio", use), share: use },
    { label: "Memory", text: ofWhole(used, total), share: share(used, total), scarce: true },
  ];
  if (power !== undefined)
    gauges.push({
      label: "Power",
      text: limit ? `${Math.round(power)} of ${formatReading("W", limit)}` : formatReading("W", power),
      share: share(power, limit),
    });
  if (temperature !== undefined)
    gauges.push({
      label: "Temperature",
      text: formatReading("°C", temperature),
      share: share(temperature, gpu.slowdown_temperature),
      scarce: true,
    });
  return gauges;
}

/** NVML's bits for why clocks are held down; idleness, display and settings of a person are no reasons to worry. */
const throttleReasons: [bit: number, words: string][] = [
  [0x4, "power cap"],
  [0x8, "hardware slowdown"],
  [0x10, "sync boost"],
  [0x20, "heat"],
  [0x40, "heat, by hardware"],
  [0x80, "power brake"],
];

export const throttleWords = (bits: number): string[] =>
  throttleReasons.filter(([bit]) => (bits & bit) !== 0).map(([, words]) => words);

export interface GpuNote {
  tone: "bad" | "warn" | "info";
  text: string;
}

/** What is not as it should be with a GPU. What it never had is no news. */
export function gpuNotes(device: Device, gpu: Gpu): GpuNote[] {
  const notes: GpuNote[] = [];
  const states = Object.values(gpu.states).filter(({ state }) => state !== "ok" && state !== "unsupported");
  const reasons = [...new Set(states.map(({ reason }) => reason))];
  if (gpu.lost) {
    const reason = states.find(({ state }) => state === "lost")?.reason;
    notes.push({ tone: "bad", text: reason ? `Lost: ${reason}` : "Lost: it no longer answers." });
  } else for (const reason of reasons.slice(0, 2)) notes.push({ tone: "warn", text: reason });
  if (gpu.mig) notes.push({ tone: "info", text: "MIG is on: it is read through its instances." });
  const held = throttleWords(valuesOf(device, gpu.uuid)["gpu.throttle"] ?? 0);
  if (held.length > 0) notes.push({ tone: "warn", text: `Clocks held down: ${held.join(", ")}` });
  return notes;
}

/** A line of values between 0 and 1 in a box of 100 by 24; it breaks where there are none. */
export function sparkPath(values: readonly (number | null)[]): string {
  let path = "";
  let drawing = false;
  const last = Math.max(1, values.length - 1);
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = ((i / last) * 100).toFixed(1);
    const y = (23 - Math.min(1, Math.max(0, value)) * 22).toFixed(1);
    path += `${drawing ? "L" : "M"}${x} ${y}`;
    drawing = true;
  });
  return path;
}
