/** One look at this machine. Each source stands alone: what one of them can't read, the others still tell. */
import { totalmem } from "node:os";
import { join } from "node:path";
import { findCgroup, type CgroupSource } from "./cgroup.ts";
import { DiskTopology, readDisks } from "./disk.ts";
import { readFacts, type MachineFacts } from "./facts.ts";
import { FileSystems } from "./file-system.ts";
import { findPorts, readPorts, type PortFiles } from "./infiniband.ts";
import { KernelFile } from "./kernel-file.ts";
import { readLoad } from "./load.ts";
import { createMac } from "./mac.ts";
import { readMemory, readVmstat } from "./memory.ts";
import { NetworkTopology, readNetwork } from "./network.ts";
import { machinePressure, readPressure } from "./pressure.ts";
import { readProcessor } from "./processor.ts";
import type { MachineReading } from "./reading.ts";

export interface MachineSource {
  /** undefined: nothing new since the last call, as between the slow looks at a Mac. */
  read(): MachineReading | undefined;
  facts(): MachineFacts;
  close(): void;
}

export interface MachineOptions {
  /** Where the machine's files are, if it is not the one we see: as /host, where a container has its host mounted. */
  root?: string;
  /** Readings of each core are asked for. */
  cores?: boolean;
  /** Whose control group is read. */
  pid?: number | "self";
  /** ms between two readings, as they are meant to be. */
  interval?: number;
}

export const createMachine = (options: MachineOptions = {}): MachineSource =>
  process.platform === "darwin" && options.root === undefined ? createMac(options) : createLinux(options);

/** How long what disks, interfaces, ports and groups there are is taken to stay so, ms. */
const TOPOLOGY_MS = 30_000;

function createLinux({
  root = "/",
  cores = false,
  pid = "self",
  interval = 1000,
}: MachineOptions): MachineSource {
  const list = (path: string) => new KernelFile(join(root, path));
  const record = (path: string) => new KernelFile(join(root, path), { isOneRecord: true });
  const files = {
    stat: record("proc/stat"),
    meminfo: record("proc/meminfo"),
    vmstat: list("proc/vmstat"),
    diskstats: list("proc/diskstats"),
    network: list("proc/net/dev"),
    loadavg: record("proc/loadavg"),
  };
  const pressureFiles = machinePressure(root);
  const disks = new DiskTopology(root);
  const interfaces = new NetworkTopology(root);
  const fileSystems = new FileSystems(root);
  let ports: PortFiles[] = [];
  let cgroup: CgroupSource | undefined;
  let cgroupProblem: Error | undefined;
  let lookedAt = -Infinity;
  let isStale = true;
  let last: MachineReading | undefined;
  const constant = readFacts(root);

  /** In this order: the control group's limits are below or not below what the first ones found. */
  const sources: Record<string, (reading: MachineReading) => Partial<MachineReading> | undefined> = {
    processor() {
      const found = readProcessor(files.stat);
      return found && { cpu: { ...found.cpu, each: cores }, kernel: found.kernel };
    },
    memory: () => optional("memory", readMemory(files.meminfo)),
    vmstat: () => optional("vmstat", readVmstat(files.vmstat)),
    load: () => optional("load", readLoad(files.loadavg)),
    pressure: () => optional("pressure", readPressure(pressureFiles)),
    disk() {
      if (isStale) disks.forget();
      return optional("disks", readDisks(files.diskstats, disks));
    },
    network() {
      if (isStale) interfaces.forget();
      return optional("network", readNetwork(files.network, interfaces));
    },
    infiniband() {
      if (isStale) {
        closePorts();
        ports = findPorts(root);
      }
      return optional("infiniband", readPorts(ports));
    },
    file_system(reading) {
      const answer = fileSystems.read(reading.monotonic);
      if (answer?.problem !== undefined) reading.failed["file_system"] = answer.problem;
      return answer && { fileSystems: answer.found };
    },
    cgroup(reading) {
      if (isStale) {
        cgroup?.close();
        // Else one that fails would be read on, closed.
        cgroup = undefined;
        cgroupProblem = undefined;
        try {
          cgroup = findCgroup({ root, pid }, around(reading));
        } catch (error) {
          cgroupProblem = error as Error;
        }
      }
      // It stays so until it is looked for again.
      if (cgroupProblem !== undefined) throw cgroupProblem;
      return cgroup && { cgroup: cgroup.read(around(reading)) };
    },
  };

  function read(): MachineReading {
    const reading: MachineReading = {
      time: Date.now(),
      monotonic: performance.now(),
      interval,
      took: {},
      failed: {},
    };
    isStale = reading.monotonic - lookedAt >= TOPOLOGY_MS;
    if (isStale) lookedAt = reading.monotonic;
    let began = reading.monotonic;
    for (const [name, look] of Object.entries(sources)) {
      try {
        Object.assign(reading, look(reading));
      } catch (error) {
        reading.failed[name] = (error as Error).message;
      }
      const now = performance.now();
      reading.took[name] = (now - began) / 1000;
      began = now;
    }
    last = reading;
    return reading;
  }

  const closePorts = () => {
    for (const { receive, transmit } of ports) {
      receive.close();
      transmit.close();
    }
  };

  return {
    read,
    facts() {
      const reading = last ?? read();
      return {
        ...constant,
        cores: coresOf(reading) ?? 0,
        memory: reading.memory?.get("MemTotal") ?? totalmem(),
        container: reading.cgroup !== undefined,
      };
    },
    close() {
      for (const each of [...Object.values(files), ...Object.values(pressureFiles)]) each.close();
      closePorts();
      cgroup?.close();
    },
  };
}

const coresOf = ({ cpu }: MachineReading) => (cpu === undefined ? undefined : cpu.byCore.size);

/** Nothing, where there is nothing of that name. */
const optional = <K extends keyof MachineReading>(name: K, value: MachineReading[K] | undefined) =>
  value === undefined ? undefined : ({ [name]: value } as Partial<MachineReading>);

function around(reading: MachineReading) {
  const countedByNumber = new Map(
    reading.disks?.map((disk) => [`${disk.major}:${disk.minor}`, disk.counted]),
  );
  return {
    memory: reading.memory?.get("MemTotal"),
    cores: coresOf(reading),
    // One that nobody knows, as where /proc/diskstats is hidden, counts.
    isCounted: (number: string) => countedByNumber.get(number) ?? true,
  };
}
