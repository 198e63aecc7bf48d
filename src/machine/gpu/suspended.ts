/** GPUs that sleep to save power, as the kernel knows without asking them: a call of the library would wake them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const NVIDIA = "0x10de";
/** Class 0x03: display controllers, 3D controllers among them. */
const DISPLAY = "0x03";

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return undefined;
  }
}

const devicesFolder = (root: string) => join(root, "sys/bus/pci/devices");

/** Addresses of the NVIDIA GPUs, as the kernel writes them: "0000:3b:00.0". */
export function pciGpus(root = "/"): string[] {
  let names: string[];
  try {
    names = readdirSync(devicesFolder(root));
  } catch {
    return [];
  }
  return names
    .filter((name) => textOf(join(devicesFolder(root), name, "vendor")) === NVIDIA)
    .filter((name) => textOf(join(devicesFolder(root), name, "class"))?.startsWith(DISPLAY))
    .sort();
}

/** The kernel's form of the library's address: "00000000:3B:00.0" is "0000:3b:00.0". */
export function kernelAddress(busId: string): string {
  const [domain, ...rest] = busId.toLowerCase().split(":");
  return [Number.parseInt(domain!, 16).toString(16).padStart(4, "0"), ...rest].join(":");
}

/** The other way round. */
export function libraryAddress(address: string): string {
  const [domain, ...rest] = address.toUpperCase().split(":");
  return [domain!.padStart(8, "0"), ...rest].join(":");
}

export const isSuspended = (address: string, root = "/"): boolean =>
  textOf(join(devicesFolder(root), address, "power/runtime_status")) === "suspended";

/** Only a GPU whose power the kernel manages can be suspended; the others are not worth looking at each second. */
export const maySuspend = (address: string, root = "/"): boolean =>
  textOf(join(devicesFolder(root), address, "power/control")) === "auto";
