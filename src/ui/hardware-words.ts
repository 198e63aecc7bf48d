/** What pages say where there is nothing to draw, and how a run's processes were told. Pure. */
import type { Device, GpuReader, RunDevice } from "../device/schema.ts";
import type { Run } from "../run/schema.ts";

export interface Nothing {
  title: string;
  text: string;
  /** The time that was chosen is at fault: all of it may be asked for. */
  narrow?: boolean;
}

export interface NothingFacts {
  /** Undefined on a device's own page. */
  run: (Pick<Run, "device"> & { ended: boolean }) | undefined;
  devices: readonly Pick<Device, "name" | "local">[];
  /** Devices on which the run was seen. */
  uses: number;
  /** A part of the time was chosen. */
  narrow: boolean;
}

/** Why there are no charts, and what to do about it. */
export function whyNothing({ run, devices, uses, narrow }: NothingFacts): Nothing {
  if (devices.length === 0)
    return {
      title: "This collector records no hardware",
      text: "It was started with its readings switched off, or has only just begun. Start it again without --no-hardware, and charts appear here by themselves.",
    };
  if (narrow)
    return {
      title: "Nothing was recorded in this time",
      text: "There may be samples before it or after it.",
      narrow: true,
    };
  if (!run)
    return { title: "Nothing recorded yet", text: "The first samples come within ten seconds of the start." };
  const local = devices.find(({ local }) => local);
  const isElsewhere = run.device !== null && !devices.some(({ name }) => name === run.device);
  if (uses === 0 && isElsewhere)
    return {
      title: "The run is on another machine",
      text: `It runs on ${run.device}. A collector reads the machine that it runs on${local ? `, here ${local.name}` : ""}: start one on ${run.device} to have this run's hardware recorded.`,
    };
  if (!run.ended)
    return {
      title: "Nothing recorded yet",
      text: "The first samples come within ten seconds of the start, if the run's processes are on this machine.",
    };
  if (uses === 0)
    return {
      title: "No hardware was recorded for this run",
      text: "None of its processes was seen: it was over too soon, was recorded elsewhere, or before this collector read its machine.",
    };
  return {
    title: "The samples of this run are gone",
    text: "They were older than is kept, or sampling was off while the run went on. What the run used in all is still known.",
  };
}

export const attributionWords: Record<NonNullable<RunDevice["attribution"]>, string> = {
  cgroup: "their own control group",
  descendants: "descent from the first",
  environment: "an environment variable",
};

export interface ReaderNotice {
  bad: boolean;
  text: string;
  advice: string | null;
}

/** What to say of GPUs that can't be read; undefined while all is well. */
export function readerNotice({ status, reason, advice }: GpuReader): ReaderNotice | undefined {
  if (status === "ok") return undefined;
  const quiet = status === "off" || status === "absent" || status === "no_gpu" || status === "starting";
  return { bad: !quiet, text: reason ?? readerWords[status], advice };
}

const readerWords: Record<Exclude<GpuReader["status"], "ok">, string> = {
  off: "Reading of GPUs is switched off.",
  absent: "This machine has no NVIDIA driver.",
  no_driver: "The NVIDIA driver is not loaded.",
  no_gpu: "This machine has no NVIDIA GPU.",
  mismatch: "The NVIDIA library and the kernel module are of different versions.",
  container_lost: "The container has lost access to its GPUs.",
  starting: "The GPUs are about to be read.",
  hung: "A call into the NVIDIA driver does not return.",
  degraded: "The GPUs answer slowly, and are read less often.",
  failed: "The GPUs can't be read.",
};
