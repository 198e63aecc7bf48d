/** The GPUs of a machine and of a run on it: their names, and which are shown. Pure. */
import type { Device, Gpu, RunDevice } from "../device/schema.ts";
import type { HardwareView } from "./hardware-view.ts";

export const gpuLabel = (gpu: Gpu): string =>
  gpu.parent === null
    ? `GPU ${gpu.index}`
    : `GPU ${gpu.index} · ${gpu.profile ?? "MIG"} ${gpu.gpu_instance ?? ""}`.trimEnd();

/** Without the maker, and without the profile of a MIG instance, which its label has. */
export const shortName = (name: string): string =>
  name.replace(/^NVIDIA (GeForce )?/, "").replace(/ MIG \S+$/, "");

/** Of the machine, and those of the run that it no longer has. */
export function gpusOf(device: Device | undefined, use: RunDevice | undefined): Gpu[] {
  const known = device?.gpus ?? [];
  const gone = (use?.gpus ?? []).filter(({ uuid }) => !known.some((gpu) => gpu.uuid === uuid));
  return [...known, ...gone.map(({ uuid, index, name }) => ({ ...unknownGpu, uuid, index, name }))];
}

/** UUIDs of those that a view shows; without a run all of the machine are its own. */
export function shownGpus(
  { gpus }: Pick<HardwareView, "gpus">,
  all: readonly Gpu[],
  use: RunDevice | undefined,
): string[] {
  const uuids = all.map(({ uuid }) => uuid);
  if (gpus === "all" || (gpus === "run" && !use)) return uuids;
  return gpus === "run" ? use!.gpus.map(({ uuid }) => uuid) : uuids.filter((uuid) => gpus.includes(uuid));
}

const unknownGpu: Omit<Gpu, "uuid" | "index" | "name"> = {
  vendor: "nvidia",
  pci: null,
  minor: null,
  architecture: null,
  cores: null,
  memory: null,
  power_limit: null,
  max_clock_sm: null,
  max_clock_memory: null,
  slowdown_temperature: null,
  parent: null,
  gpu_instance: null,
  compute_instance: null,
  profile: null,
  mig: false,
  lost: false,
  states: {},
};
