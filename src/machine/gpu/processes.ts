/** The processes on a GPU. */
import { Code } from "./codes.ts";
import type { GpuProcess } from "./message.ts";
import type { Device, Nvml, ProcessInfo, ProcessUtilization, Result } from "./nvml.ts";

/** What a list says of one process is said once, though it has compute and graphics contexts and so is in two lists. */
export function mergeProcesses(
  lists: readonly (readonly ProcessInfo[])[],
  utilizations: readonly ProcessUtilization[],
  exists: (pid: number) => boolean,
): GpuProcess[] {
  const byPid = new Map<number, GpuProcess>();
  for (const list of lists)
    for (const { pid, usedGpuMemory: memory } of list) {
      const known = byPid.get(pid);
      if (!known) byPid.set(pid, { pid, memory, utilization: null });
      else if (memory !== null) known.memory = Math.max(known.memory ?? 0, memory);
    }
  // In containers the two may count in different namespaces, and join by a number that means two processes.
  for (const [pid, utilization] of newestByPid(utilizations)) {
    const known = byPid.get(pid);
    if (known && exists(pid)) known.utilization = utilization;
  }
  return [...byPid.values()];
}

function newestByPid(utilizations: readonly ProcessUtilization[]): Map<number, number> {
  const newest = new Map<number, ProcessUtilization>();
  for (const sample of utilizations)
    if ((newest.get(sample.pid)?.timeStamp ?? -1) < sample.timeStamp) newest.set(sample.pid, sample);
  return new Map(
    [...newest].map(([pid, { smUtil }]) => [pid, Math.min(Math.max(smUtil, 0), 100) / 100] as const),
  );
}

export interface ProcessLister {
  /** undefined: none of the lists can be had; `code` says why. */
  list(exists: (pid: number) => boolean): { code: number; processes: GpuProcess[] | undefined };
}

const lists = ["deviceGetComputeRunningProcesses", "deviceGetGraphicsRunningProcesses"] as const;
const mps = "deviceGetMPSComputeRunningProcesses";

/** `shares`: whether the driver estimates each process's share; it does not on divided GPUs. */
export function createProcessLister(nvml: Nvml, device: Device, shares: boolean): ProcessLister {
  /** Lists that this GPU does not have are not asked for again. */
  const asked = new Set<(typeof lists)[number] | typeof mps>([...lists, mps]);
  let hasShares = shares;
  // What the driver kept from before is a window of minutes that ends before now.
  let lastSeen = (Date.now() - 1000) * 1000;

  function ask(name: (typeof lists)[number] | typeof mps): Result<ProcessInfo[]> {
    const result = nvml[name](device);
    if (result.code === Code.NOT_SUPPORTED || result.code === Code.FUNCTION_NOT_FOUND) asked.delete(name);
    return result;
  }

  function utilizations(): ProcessUtilization[] {
    if (!hasShares) return [];
    const { code, value } = nvml.deviceGetProcessUtilization(device, lastSeen);
    if (code === Code.NOT_SUPPORTED || code === Code.FUNCTION_NOT_FOUND || code === Code.NO_PERMISSION)
      hasShares = false;
    for (const { timeStamp } of value ?? []) lastSeen = Math.max(lastSeen, timeStamp);
    return value ?? [];
  }

  return {
    list(exists) {
      let failure: number = Code.NOT_SUPPORTED;
      const found: ProcessInfo[][] = [];
      for (const name of asked) {
        const { code, value } = ask(name);
        if (value) found.push(value);
        // Half of the processes would look like all of them. An old driver without MPS lists has told all it can.
        else if (asked.has(name)) return { code, processes: undefined };
        else failure = code;
      }
      if (found.length === 0) return { code: failure, processes: undefined };
      return { code: Code.SUCCESS, processes: mergeProcesses(found, utilizations(), exists) };
    },
  };
}
