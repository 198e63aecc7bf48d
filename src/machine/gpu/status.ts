/** How the reader of the GPUs fares, in words: what happened, and what a person can do about it. */
import type { GpuReader, GpuStatus } from "../../device/schema.ts";
import { actionOf, Code, codeName } from "./codes.ts";
import type { DriverVersions } from "./library.ts";

export interface Versions {
  driver: string | null;
  cuda: string | null;
  library: string | null;
}

export const NO_VERSIONS: Versions = { driver: null, cuda: null, library: null };

export const statusOf = (
  status: GpuStatus,
  reason: string | null = null,
  advice: string | null = null,
  versions: Versions = NO_VERSIONS,
): GpuReader => ({ status, reason, advice, ...versions });

/** Initialising the library was answered with this code. */
export function statusOfInit(code: number, versions: Versions, files: DriverVersions): GpuReader {
  const say = (status: GpuStatus, reason: string, advice: string) =>
    statusOf(status, reason, advice, versions);
  switch (code) {
    case Code.DRIVER_NOT_LOADED:
      return say(
        "no_driver",
        "NVIDIA's library is here, but its kernel driver is not loaded.",
        "Load it (modprobe nvidia) or reboot after installing it; in a container, start that with the GPUs (--gpus all).",
      );
    case Code.LIBRARY_NOT_FOUND:
      return say(
        "failed",
        "NVIDIA's library misses a part of itself.",
        "Reinstall NVIDIA's driver; in a container, start that with NVIDIA's container toolkit (--gpus all).",
      );
    case Code.LIB_RM_VERSION_MISMATCH: {
      const { module, library } = files;
      const which = module && library ? ` (kernel ${module}, library ${library})` : "";
      return say(
        "mismatch",
        `NVIDIA's library and the loaded kernel driver are of different versions${which}.`,
        "The driver was updated while it was loaded: reboot, or reload its kernel modules.",
      );
    }
    case Code.UNKNOWN:
      return say(
        "container_lost",
        "The driver answers with an unknown error (999), as it does where a container has lost its device files.",
        "Start the container anew: `systemctl daemon-reload` on the host takes a running one its GPUs. Outside of containers, look for NVRM in `dmesg`.",
      );
    case Code.GPU_NOT_FOUND:
      return noGpu(versions);
    case Code.NO_PERMISSION:
    case Code.OPERATING_SYSTEM:
      return say(
        "failed",
        `The system refuses access to the GPUs (${codeName(code)}).`,
        "Give this user access to /dev/nvidia*, and the container its devices.",
      );
    default:
      return say(
        "failed",
        `NVIDIA's library could not be initialised: ${codeName(code)} (${code}).`,
        "Look for NVRM in `dmesg`, and whether nvidia-smi works.",
      );
  }
}

export const noGpu = (versions: Versions): GpuReader =>
  statusOf(
    "no_gpu",
    "NVIDIA's driver is loaded, but finds no GPU.",
    "If there should be one, look for NVRM in `dmesg` and for it in `lspci`; in a container, start that with the GPUs (--gpus all).",
    versions,
  );

export const absent = (hardware: boolean, reason: string | null = null): GpuReader =>
  hardware
    ? statusOf(
        "absent",
        reason ?? "This machine has an NVIDIA GPU, but not NVIDIA's library (libnvidia-ml.so.1).",
        "Install NVIDIA's driver; in a container, start that with NVIDIA's container toolkit (--gpus all).",
      )
    : statusOf("absent", reason ?? "There is no NVIDIA driver on this machine.");

/** Whether the reader can go on after this answer of any call, needs to initialise the library, or has to start anew. */
export type Verdict = "on" | "initialise" | "restart";

export function verdictOf(code: number): Verdict {
  const action = actionOf(code);
  if (action === "initialise") return "initialise";
  return action === "driver" || action === "mismatch" ? "restart" : "on";
}

/** Seconds until the next attempt after that many failures in a row, the first being 1. */
const pauses = [10, 30, 60, 300];
export const respawnAfter = (failures: number): number =>
  pauses[Math.min(Math.max(failures, 1), pauses.length) - 1]!;

/** Seconds until a reader that ended by itself, saying this, is worth starting again. */
export function retryAfter(status: GpuStatus): number {
  switch (status) {
    case "no_driver":
    case "mismatch":
    case "container_lost":
    case "failed":
      return 60;
    default:
      return 600;
  }
}
