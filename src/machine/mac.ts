/**
 * A Mac, through systeminformation: that starts a few programs for each look, so there is one every ten seconds only.
 * What it does not tell is absent. Linux never loads it.
 */
import { readdirSync, statfsSync } from "node:fs";
import { cpus, hostname, loadavg, machine as architectureOf, release, totalmem } from "node:os";
import { join } from "node:path";
import type { MachineFacts } from "./facts.ts";
import type { MachineOptions, MachineSource } from "./machine.ts";
import type { CpuTimes, Disk, FileSystem, MachineReading, NetworkInterface } from "./reading.ts";

type Library = typeof import("systeminformation");

const INTERVAL_MS = 10_000;

export function createMac({ cores = false }: Pick<MachineOptions, "cores"> = {}): MachineSource {
  let fresh: MachineReading | undefined;
  let os = "macOS";
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isClosed = false;

  async function poll(): Promise<void> {
    // CommonJS: the functions are what it exports as a whole.
    const loaded = await import("systeminformation");
    const library = (loaded as { default?: Library }).default ?? loaded;
    const { distro, release: version } = await library.osInfo();
    if (version) os = `${distro || "macOS"} ${version}`;
    while (!isClosed) {
      const began = performance.now();
      fresh = await look(library, cores);
      await new Promise<void>((resolve) => {
        timer = setTimeout(resolve, INTERVAL_MS - (performance.now() - began));
        timer.unref();
      });
    }
  }
  // Told with the first reading; without the library there is none.
  let problem: string | undefined;
  poll().catch((error: unknown) => {
    problem = String(error);
  });

  return {
    read() {
      const reading =
        problem === undefined
          ? fresh
          : { ...begin(), failed: { systeminformation: problem }, ...processor(cores) };
      fresh = undefined;
      return reading;
    },
    facts: (): MachineFacts => ({
      name: hostname(),
      os,
      kernel: release(),
      architecture: architectureOf(),
      boot: null,
      processor: cpus()[0]?.model ?? null,
      cores: cpus().length,
      memory: totalmem(),
      container: false,
    }),
    close() {
      isClosed = true;
      clearTimeout(timer);
    },
  };
}

const begin = (): MachineReading => ({
  time: Date.now(),
  monotonic: performance.now(),
  interval: INTERVAL_MS,
  took: {},
  failed: {},
});

async function look(library: Library, cores: boolean): Promise<MachineReading> {
  const reading = begin();
  const sources: Record<string, () => Promise<Partial<MachineReading>> | Partial<MachineReading>> = {
    processor: () => processor(cores),
    load: () => load(),
    memory: () => memory(library),
    disk: () => disks(library),
    network: () => network(library),
    file_system: () => ({ fileSystems: fileSystems() }),
  };
  for (const [name, read] of Object.entries(sources)) {
    const began = performance.now();
    try {
      Object.assign(reading, await read());
    } catch (error) {
      reading.failed[name] = (error as Error).message;
    }
    reading.took[name] = (performance.now() - began) / 1000;
  }
  return reading;
}

const MODES = { user: "user", nice: "nice", sys: "system", idle: "idle" } as const;

function processor(cores: boolean): Pick<MachineReading, "cpu"> {
  const total: CpuTimes = { user: 0, nice: 0, system: 0, idle: 0 };
  const byCore = new Map<number, CpuTimes>();
  for (const [core, { times }] of cpus().entries()) {
    const own: CpuTimes = { user: 0, nice: 0, system: 0, idle: 0 };
    for (const [from, to] of Object.entries(MODES) as [keyof typeof MODES, "user"][]) {
      own[to] = times[from] / 1000;
      total[to] += own[to];
    }
    byCore.set(core, own);
  }
  return { cpu: { total, byCore, each: cores } };
}

function load(): Pick<MachineReading, "load"> {
  const [one = 0, five = 0, fifteen = 0] = loadavg();
  return { load: { one, five, fifteen } };
}

/** Under Linux's names, which is what readings are made of. */
async function memory(library: Library): Promise<Pick<MachineReading, "memory">> {
  const { total, available, swaptotal, swapfree } = await library.mem();
  return {
    memory: new Map([
      ["MemTotal", total],
      ["MemAvailable", available],
      ["SwapTotal", swaptotal],
      ["SwapFree", swapfree],
    ]),
  };
}

/** Sums over all disks. */
async function disks(library: Library): Promise<Pick<MachineReading, "disks">> {
  const bytes = await library.fsStats();
  const operations = await library.disksIO();
  // Zeros are what the library says where it could not ask.
  if (!bytes || !operations || bytes.rx + bytes.wx === 0) return {};
  const disk: Disk = {
    name: "disks",
    readBytes: bytes.rx,
    writtenBytes: bytes.wx,
    reads: operations.rIO,
    writes: operations.wIO,
    counted: true,
  };
  return { disks: [disk] };
}

async function network(library: Library): Promise<Pick<MachineReading, "network">> {
  const found = await library.networkStats("*");
  const interfaces = found
    // Typed as numbers, and null where it could not ask.
    .filter(({ rx_bytes, tx_bytes }) => Number.isFinite(rx_bytes) && Number.isFinite(tx_bytes))
    .map((one): NetworkInterface => ({
      name: one.iface,
      receiveBytes: one.rx_bytes,
      receiveErrors: one.rx_errors,
      receiveDrops: one.rx_dropped,
      transmitBytes: one.tx_bytes,
      transmitErrors: one.tx_errors,
      transmitDrops: one.tx_dropped,
      // Wi-Fi and cables; the rest are tunnels and bridges over these.
      counted: /^en\d+$/.test(one.iface),
    }));
  return interfaces.length > 0 ? { network: interfaces } : {};
}

/** Asked of the system itself: the library runs `diskutil list` for it, and waits for that. */
function fileSystems(): FileSystem[] {
  let volumes: string[] = [];
  try {
    volumes = readdirSync("/Volumes", { withFileTypes: true })
      // The starting volume is a link to "/".
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join("/Volumes", name));
  } catch {
    // Only the starting volume, then.
  }
  return ["/", ...volumes].flatMap((mount) => {
    try {
      const { bsize, blocks, bfree, bavail } = statfsSync(mount);
      return [
        {
          device: mount,
          mount,
          type: "",
          size: blocks * bsize,
          free: bfree * bsize,
          available: bavail * bsize,
          counted: true,
        },
      ];
    } catch {
      return [];
    }
  });
}
