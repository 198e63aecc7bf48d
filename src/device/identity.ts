import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { hostname as readHostname } from "node:os";
import { join } from "node:path";
import { DeviceId } from "./schema.ts";

export interface IdentityOptions {
  hostname?: string;
  /** What the system calls this installation; undefined where it calls it nothing. */
  machineId?: () => string | undefined;
}

/**
 * This machine's id: the same after every boot, and whatever data folder it writes to. With the host's name, since cloned
 * machines often keep the id of their original. A container that has none keeps one in its data folder.
 */
export function readDeviceId(
  dataDir: string,
  { hostname = readHostname(), machineId = readMachineId }: IdentityOptions = {},
): string {
  const machine = machineId();
  if (machine !== undefined)
    return createHash("sha256").update(`${machine}\n${hostname}`).digest("hex").slice(0, 16);
  return readKeptId(join(dataDir, "device"));
}

function readKeptId(path: string): string {
  const kept = readText(path);
  if (kept !== undefined && DeviceId.safeParse(kept).success) return kept;
  const id = randomBytes(8).toString("hex");
  writeFileSync(path, `${id}\n`, { mode: 0o600 });
  return id;
}

function readMachineId(): string | undefined {
  if (process.platform === "darwin") return readPlatformId();
  const id = readText("/etc/machine-id") ?? readText("/var/lib/dbus/machine-id");
  // An image that was made to be cloned says "uninitialized", or nothing.
  return id !== undefined && /^[0-9a-f]{32}$/.test(id) ? id : undefined;
}

/** Once, at the start: macOS tells it in no file. */
function readPlatformId(): string | undefined {
  try {
    const output = execFileSync("/usr/sbin/ioreg", ["-rd1", "-c", "IOPlatformExpertDevice"], {
      encoding: "utf8",
      timeout: 2000,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return /"IOPlatformUUID" = "([0-9A-F-]+)"/i.exec(output)?.[1];
  } catch {
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}
