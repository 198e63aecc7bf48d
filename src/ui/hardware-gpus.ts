/** The GPUs of a machine and of a run on it: their names, and which are shown. Pure. */
import type { Device, Gpu, RunDevice } from "../device/schema.ts";
import { UNKNOWN_GPU } from "../device/unknown-gpu.ts";
import { readingOf } from "../sample/reading.ts";
import type { HardwareView } from "./hardware-view.ts";

/** "GPU 3"; of a MIG instance, whose index is its place there, the GPU it is part of as well: "GPU 5:0 1g.10gb". */
export function gpuLabel(gpu: Gpu, all: readonly Gpu[]): string {
  if (gpu.parent === null) return `GPU ${gpu.index}`;
  const parent = all.find(({ uuid }) => uuid === gpu.parent);
  return `GPU ${parent?.index ?? "?"}:${gpu.index} ${gpu.profile ?? "MIG"}`;
}

/** Without the maker, and without the profile of a MIG instance, which its label has. */
export const shortName = (name: string): string =>
  name.replace(/^NVIDIA (GeForce )?/, "").replace(/ MIG \S+$/, "");

/** Of the machine, and those of the run that it no longer has. */
export function gpusOf(device: Device | undefined, use: RunDevice | undefined): Gpu[] {
  const known = device?.gpus ?? [];
  const gone = (use?.gpus ?? []).filter(({ uuid }) => !known.some((gpu) => gpu.uuid === uuid));
  return [...known, ...gone.map(({ uuid, index, name }) => ({ ...UNKNOWN_GPU, uuid, index, name }))];
}

/** Of a machine that only tells what it reads of itself nobody knows what of that is the run's: all of it may be. */
export const isTold = (use: RunDevice | undefined): use is RunDevice =>
  use !== undefined && (use.attribution !== null || use.cpu_seconds > 0 || use.gpus.length > 0);

/** UUIDs of those that a view shows; without a run all of the machine are its own. */
export function shownGpus(
  { gpus }: Pick<HardwareView, "gpus">,
  all: readonly Gpu[],
  use: RunDevice | undefined,
): string[] {
  const uuids = all.map(({ uuid }) => uuid);
  if (gpus === "all") return uuids;
  if (gpus === "run") return isTold(use) ? use.gpus.map(({ uuid }) => uuid) : uuids;
  return uuids.filter((uuid) => gpus.includes(uuid));
}

export interface Unread {
  /** Headings of the readings. */
  readings: string[];
  gpus: string[];
  reason: string;
}

/** Readings that GPUs have and that can't be read, by reason. What a GPU never had is no loss, and a lost one says so itself. */
export function unreadOf(all: readonly Gpu[], shown: readonly string[]): Unread[] {
  const byReason = new Map<string, Unread>();
  for (const gpu of all) {
    if (!shown.includes(gpu.uuid) || gpu.lost) continue;
    for (const [reading, { state, reason }] of Object.entries(gpu.states)) {
      if (state !== "denied" && state !== "transient") continue;
      let unread = byReason.get(reason);
      if (!unread) byReason.set(reason, (unread = { readings: [], gpus: [], reason }));
      const title = readingOf(reading)?.title ?? reading;
      const label = gpuLabel(gpu, all);
      if (!unread.readings.includes(title)) unread.readings.push(title);
      if (!unread.gpus.includes(label)) unread.gpus.push(label);
    }
  }
  return [...byReason.values()];
}
