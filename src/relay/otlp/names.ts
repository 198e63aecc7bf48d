/**
 * Readings under OpenTelemetry's names (semantic conventions 1.44). What has none there keeps its own behind "binnacle.": rates
 * where OpenTelemetry has counters, clocks, activity of parts of a GPU.
 */
import { readingOf, splitKey, type ReadingName, type Unit } from "../../sample/reading.ts";
import { CGROUP, MACHINE, runOfSubject } from "../../sample/subject.ts";

export interface Instrument {
  name: string;
  /** UCUM. */
  unit: string;
  /** It only rises, from an unknown beginning on. */
  isCounter: boolean;
  attributes: Record<string, string>;
}

type Known = Pick<Instrument, "name" | "unit"> & Partial<Instrument>;

const GPU = { "hw.type": "gpu" };

const hostNames: Partial<Record<ReadingName, Known>> = {
  "cpu.utilization": { name: "system.cpu.utilization", unit: "1" },
  "load.1": { name: "system.cpu.load_average.1m", unit: "{thread}" },
  "load.5": { name: "system.cpu.load_average.5m", unit: "{thread}" },
  "load.15": { name: "system.cpu.load_average.15m", unit: "{thread}" },
  "memory.used": {
    name: "system.memory.usage",
    unit: "By",
    attributes: { "system.memory.state": "used" },
  },
  "memory.cached": {
    name: "system.memory.usage",
    unit: "By",
    attributes: { "system.memory.state": "cached" },
  },
  "memory.total": { name: "system.memory.limit", unit: "By" },
  "swap.used": {
    name: "system.paging.usage",
    unit: "By",
    attributes: { "system.paging.state": "used" },
  },
  "filesystem.used": {
    name: "system.filesystem.usage",
    unit: "By",
    attributes: { "system.filesystem.state": "used" },
  },
  "filesystem.total": { name: "system.filesystem.limit", unit: "By" },
};

const containerNames: Partial<Record<ReadingName, Known>> = {
  "cpu.cores": { name: "container.cpu.usage", unit: "{cpu}" },
  "memory.used": { name: "container.memory.usage", unit: "By" },
  "memory.working_set": { name: "container.memory.working_set", unit: "By" },
};

const gpuTask = (task: string): Known => ({
  name: "hw.gpu.utilization",
  unit: "1",
  attributes: { "hw.gpu.task": task },
});
const gpuErrors = (type: string): Known => ({
  name: "hw.errors",
  unit: "{error}",
  isCounter: true,
  attributes: { ...GPU, "error.type": type },
});

const gpuNames: Partial<Record<ReadingName, Known>> = {
  "gpu.utilization": gpuTask("general"),
  "gpu.encoder": gpuTask("encoder"),
  "gpu.decoder": gpuTask("decoder"),
  "gpu.memory.used": { name: "hw.gpu.memory.usage", unit: "By" },
  "gpu.memory.total": { name: "hw.gpu.memory.limit", unit: "By" },
  "gpu.temperature": {
    name: "hw.temperature",
    unit: "Cel",
    attributes: { ...GPU, "hw.sensor_location": "gpu" },
  },
  "gpu.memory.temperature": {
    name: "hw.temperature",
    unit: "Cel",
    attributes: { ...GPU, "hw.sensor_location": "memory" },
  },
  "gpu.power": { name: "hw.power", unit: "W", attributes: GPU },
  "gpu.energy": { name: "hw.energy", unit: "J", isCounter: true, attributes: GPU },
  "gpu.fan": { name: "hw.fan.speed_ratio", unit: "1", attributes: GPU },
  "gpu.ecc.corrected": gpuErrors("corrected"),
  "gpu.ecc.uncorrected": gpuErrors("uncorrected"),
};

const unitNames: Record<Unit, string> = {
  ratio: "1",
  B: "By",
  "B/s": "By/s",
  "/s": "1/s",
  "°C": "Cel",
  W: "W",
  J: "J",
  MHz: "MHz",
  rpm: "{revolution}/min",
  count: "1",
  cores: "{cpu}",
  bits: "1",
};

const partNames: Record<string, string> = {
  disk: "system.device",
  mount: "system.filesystem.mountpoint",
  interface: "network.interface.name",
  core: "cpu.logical_number",
  gpu: "hw.id",
  port: "hw.port",
};

/** A reading of a subject, by the key that it is stored under. */
export function instrumentOf(subject: string, key: string): Instrument {
  const { name, part } = splitKey(key);
  const reading = readingOf(name);
  const known = namesFor(subject)[name as ReadingName];
  const partName = part === null ? undefined : (partNames[reading?.part ?? ""] ?? "binnacle.part");
  return {
    name: known?.name ?? (subject === CGROUP ? `binnacle.container.${name}` : `binnacle.${name}`),
    unit: known?.unit ?? (reading ? unitNames[reading.unit] : ""),
    isCounter: known?.isCounter ?? false,
    attributes: {
      ...known?.attributes,
      ...(isGpu(subject) && { "hw.id": subject }),
      ...(partName !== undefined && { [partName]: part! }),
    },
  };
}

function namesFor(subject: string): Partial<Record<ReadingName, Known>> {
  if (subject === MACHINE) return hostNames;
  if (subject === CGROUP) return containerNames;
  return isGpu(subject) ? gpuNames : {};
}

const isGpu = (subject: string): boolean =>
  subject !== MACHINE && subject !== CGROUP && runOfSubject(subject) === undefined;
