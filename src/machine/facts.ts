/** What does not change about a machine while it is up. */
import { machine as architectureOf } from "node:os";
import { join } from "node:path";
import type { DeviceFacts } from "../device/schema.ts";
import { readKernelText } from "./kernel-file.ts";

export type MachineFacts = Omit<DeviceFacts, "gpu_reader" | "gpus" | "cores" | "memory"> & {
  cores: number;
  memory: number;
};

export function readFacts(root: string): Omit<MachineFacts, "cores" | "memory" | "container"> {
  const text = (path: string) => {
    try {
      return readKernelText(join(root, path));
    } catch {
      // Kept from us; what is read each second must not fail for a name.
      return undefined;
    }
  };
  const release = text("etc/os-release") ?? text("usr/lib/os-release") ?? "";
  return {
    name: text("proc/sys/kernel/hostname") ?? "",
    os: parseOsRelease(release) ?? "Linux",
    kernel: text("proc/sys/kernel/osrelease") ?? "",
    architecture: architectureOf(),
    boot: text("proc/sys/kernel/random/boot_id") ?? null,
    processor: parseProcessorName(text("proc/cpuinfo") ?? ""),
  };
}

export function parseOsRelease(text: string): string | undefined {
  const [, value] = /^PRETTY_NAME=(.*)$/m.exec(text) ?? [];
  return value?.trim().replace(/^(["'])(.*)\1$/, "$2");
}

/** Arm's processors give numbers for a name: implementer and part. These are in servers. */
const armNames: Record<string, string> = {
  "0x41/0xd0c": "Arm Neoverse N1",
  "0x41/0xd40": "Arm Neoverse V1",
  "0x41/0xd49": "Arm Neoverse N2",
  "0x41/0xd4f": "Arm Neoverse V2",
  "0xc0/0xac3": "Ampere One",
};

export function parseProcessorName(cpuinfo: string): string | null {
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, "m").exec(cpuinfo)?.[1]?.trim();
  const named = field("model name") ?? field("cpu model");
  if (named) return named;
  return armNames[`${field("CPU implementer")}/${field("CPU part")}`] ?? null;
}
