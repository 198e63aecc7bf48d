/** Instances of a GPU that is divided. */
import type { Gpu } from "../../device/schema.ts";
import { instanceFacts } from "./facts.ts";
import type { Device, Nvml } from "./nvml.ts";

export const isDivided = (nvml: Nvml, device: Device): boolean =>
  nvml.deviceGetMigMode(device).value?.current === true;

export interface Instance {
  device: Device;
  uuid: string;
  /** In the GPU's list, which has holes. */
  index: number;
}

export function instancesOf(nvml: Nvml, gpu: Device): Instance[] {
  const instances: Instance[] = [];
  const most = nvml.deviceGetMaxMigDeviceCount(gpu).value ?? 0;
  for (let index = 0; index < most; index++) {
    const device = nvml.deviceGetMigDeviceHandleByIndex(gpu, index).value;
    // A hole. The list does not end there.
    if (device === undefined) continue;
    const uuid = nvml.deviceGetUUID(device).value;
    if (uuid !== undefined) instances.push({ device, uuid, index });
  }
  return instances;
}

export const instanceGpu = (nvml: Nvml, { device, uuid, index }: Instance, parent: Gpu): Gpu =>
  instanceFacts(nvml, device, { uuid, index, parent });

/** The same instances by the same handles: those of instances that were made anew are stale. */
export const sameInstances = (some: readonly Instance[], others: readonly Instance[]): boolean =>
  some.length === others.length &&
  some.every(({ uuid, device }, at) => others[at]!.uuid === uuid && others[at]!.device === device);
