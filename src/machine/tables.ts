/**
 * What the kernel counts beside the readings of a run's machine: sockets, protocols, links, open files. Nothing here is stored;
 * /metrics serves it, because the boards that people have draw it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Link {
  name: string;
  up: boolean;
  carrier?: boolean;
  /** Bytes a second; absent where the interface has no speed of its own, as a virtual one. */
  speed?: number;
  mtu?: number;
  queueLength?: number;
  /** Packets for which nobody was there. */
  unhandled?: number;
}

export interface SoftnetProcessor {
  cpu: number;
  processed: number;
  dropped: number;
  squeezed: number;
  steered?: number;
  flowLimited?: number;
}

export interface SchedulerProcessor {
  cpu: number;
  runningSeconds: number;
  waitingSeconds: number;
  timeslices: number;
}

/** This very process. */
export interface OwnProcess {
  cpuSeconds: number;
  residentBytes: number;
  virtualBytes: number;
  threads: number;
  /** Seconds from boot to its start. */
  startedAfterBoot: number;
  openFiles?: number;
  maxFiles?: number;
  maxVirtualBytes?: number;
}

export interface KernelTables {
  /** ms since the epoch, from before the first read. */
  time: number;
  /** Seconds that reading them took. */
  took: number;
  /** Of /proc/net/sockstat, as "TCP_inuse"; `mem` counts pages. */
  sockets?: Map<string, number>;
  /** Of /proc/net/netstat and snmp, as "Tcp_InSegs". */
  protocols?: Map<string, number>;
  softnet?: SoftnetProcessor[];
  /** Absent where the kernel keeps no schedstat. */
  scheduler?: SchedulerProcessor[];
  files?: { allocated: number; maximum: number };
  entropy?: { available: number; poolSize: number };
  connections?: { entries: number; limit: number };
  /** Seconds in which interrupts kept all tasks from running; newer kernels only. */
  interruptStall?: number;
  /** Neighbours known to each interface. */
  arp?: Map<string, number>;
  links?: Link[];
  own?: OwnProcess;
}

/** 1/USER_HZ s, and bytes a page, on every usual build. */
const TICKS = 100;
const PAGE = 4096;

export interface TablesOptions {
  root?: string;
  /** ms from one reading to the next. */
  every?: number;
  /** Reading ends when nobody has asked for so long, ms. */
  idle?: number;
}

export interface Tables {
  /** What was read last; undefined until there is something. Asking keeps them being read. */
  current(): KernelTables | undefined;
  close(): void;
}

/**
 * Reads them beside whoever asks, never while somebody waits, and only while somebody asks: they cost as much as a whole
 * sample of the machine.
 */
export function createTables({ root = "/", every = 5000, idle = 300_000 }: TablesOptions = {}): Tables {
  let tables: KernelTables | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = 0;
  function tick(): void {
    timer = undefined;
    // What is no longer read is no longer true.
    tables = performance.now() - asked > idle ? undefined : readTables(root);
    if (tables !== undefined) schedule(every);
  }
  function schedule(ms: number): void {
    timer = setTimeout(tick, ms);
    timer.unref?.();
  }
  return {
    current() {
      asked = performance.now();
      if (timer === undefined) schedule(0);
      return tables;
    },
    close() {
      clearTimeout(timer);
    },
  };
}

/** Everything of it that this machine has; what can't be read is absent. */
export function readTables(root: string): KernelTables {
  const time = Date.now();
  const begun = performance.now();
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(join(root, path), "utf8");
    } catch {
      return undefined;
    }
  };
  const number = (path: string): number | undefined => {
    const text = read(path)?.trim();
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
  };
  const both = (first: string, second: string): [number, number] | undefined => {
    const one = number(first);
    const other = one === undefined ? undefined : number(second);
    return one === undefined || other === undefined ? undefined : [one, other];
  };
  const sockets = read("/proc/net/sockstat");
  const netstat = read("/proc/net/netstat");
  const snmp = read("/proc/net/snmp");
  const softnet = read("/proc/net/softnet_stat");
  const scheduler = read("/proc/schedstat");
  const files = read("/proc/sys/fs/file-nr")?.trim().split(/\s+/).map(Number);
  const entropy = both("/proc/sys/kernel/random/entropy_avail", "/proc/sys/kernel/random/poolsize");
  const connections = both(
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
  );
  const arp = read("/proc/net/arp");
  const stall = /^full .*total=(\d+)/m.exec(read("/proc/pressure/irq") ?? "")?.[1];
  const links = readLinks(root, read);
  const own = readOwn(root, read);
  return {
    time,
    ...(sockets !== undefined && { sockets: parseSockets(sockets) }),
    ...((netstat ?? snmp) !== undefined && {
      protocols: parseProtocols(`${netstat ?? ""}\n${snmp ?? ""}`),
    }),
    ...(softnet !== undefined && { softnet: parseSoftnet(softnet) }),
    ...(scheduler !== undefined && { scheduler: parseScheduler(scheduler) }),
    ...(files?.length === 3 && { files: { allocated: files[0]!, maximum: files[2]! } }),
    ...(entropy && { entropy: { available: entropy[0], poolSize: entropy[1] } }),
    ...(connections && { connections: { entries: connections[0], limit: connections[1] } }),
    ...(stall !== undefined && { interruptStall: Number(stall) / 1e6 }),
    ...(arp !== undefined && { arp: parseArp(arp) }),
    ...(links && { links }),
    ...(own && { own }),
    took: (performance.now() - begun) / 1000,
  };
}

/** "TCP: inuse 6 orphan 0 …". */
export function parseSockets(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [protocol, ...fields] = line.split(/[:\s]+/).filter((field) => field !== "");
    for (let at = 0; at + 1 < fields.length; at += 2)
      values.set(`${protocol}_${fields[at]}`, Number(fields[at + 1]));
  }
  return values;
}

/** Two lines a protocol: "Tcp: InSegs …" and "Tcp: 9259768 …". */
export function parseProtocols(text: string): Map<string, number> {
  const values = new Map<string, number>();
  const lines = text.split("\n").filter((line) => line !== "");
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [protocol, ...names] = lines[at]!.split(/\s+/);
    const [same, ...numbers] = lines[at + 1]!.split(/\s+/);
    if (protocol !== same) continue;
    for (const [index, name] of names.entries())
      if (numbers[index] !== undefined)
        values.set(`${protocol!.slice(0, -1)}_${name}`, Number(numbers[index]));
  }
  return values;
}

/** A line a processor, hexadecimal; columns were added over the years, the number of the processor among them. */
export const parseSoftnet = (text: string): SoftnetProcessor[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line, index) => {
      const fields = line
        .trim()
        .split(/\s+/)
        .map((field) => parseInt(field, 16));
      return {
        cpu: fields[12] ?? index,
        processed: fields[0]!,
        dropped: fields[1]!,
        squeezed: fields[2]!,
        ...(fields[9] !== undefined && { steered: fields[9] }),
        ...(fields[10] !== undefined && { flowLimited: fields[10] }),
      };
    });

/** "cpu0 0 0 0 0 0 0 RUNNING WAITING SLICES", in ns. */
export const parseScheduler = (text: string): SchedulerProcessor[] =>
  [...text.matchAll(/^cpu(\d+)(?: \d+){6} (\d+) (\d+) (\d+)/gm)].map(
    ([, cpu, running, waiting, timeslices]) => ({
      cpu: Number(cpu),
      runningSeconds: Number(running) / 1e9,
      waitingSeconds: Number(waiting) / 1e9,
      timeslices: Number(timeslices),
    }),
  );

export function parseArp(text: string): Map<string, number> {
  const byDevice = new Map<string, number>();
  for (const line of text.split("\n").slice(1)) {
    const device = line.trim().split(/\s+/)[5];
    if (device !== undefined) byDevice.set(device, (byDevice.get(device) ?? 0) + 1);
  }
  return byDevice;
}

function readLinks(root: string, read: (path: string) => string | undefined): Link[] | undefined {
  let names: string[];
  try {
    names = readdirSync(join(root, "/sys/class/net"));
  } catch {
    return undefined;
  }
  const links: Link[] = [];
  for (const name of names) {
    const field = (file: string) => read(`/sys/class/net/${name}/${file}`)?.trim();
    const state = field("operstate");
    // A file that stands there among the interfaces, such as bonding_masters.
    if (state === undefined) continue;
    // Unreadable while the interface is down.
    const carrier = field("carrier");
    const megabits = Number(field("speed") ?? -1);
    const mtu = field("mtu");
    const queueLength = field("tx_queue_len");
    const unhandled = field("statistics/rx_nohandler");
    links.push({
      name,
      up: state === "up",
      ...(carrier !== undefined && { carrier: carrier === "1" }),
      ...(megabits > 0 && { speed: (megabits * 1e6) / 8 }),
      ...(mtu !== undefined && { mtu: Number(mtu) }),
      ...(queueLength !== undefined && { queueLength: Number(queueLength) }),
      ...(unhandled !== undefined && { unhandled: Number(unhandled) }),
    });
  }
  return links;
}

function readOwn(root: string, read: (path: string) => string | undefined): OwnProcess | undefined {
  const stat = read("/proc/self/stat");
  if (stat === undefined) return undefined;
  // The name stands in parentheses and may hold any character.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const field = (number: number) => Number(fields[number - 3]);
  const limits = read("/proc/self/limits");
  const limit = (name: string) => {
    const value = limits && new RegExp(`^${name} +(\\d+|unlimited)`, "m").exec(limits)?.[1];
    return value === undefined || value === "" ? undefined : value === "unlimited" ? 2 ** 64 : Number(value);
  };
  const maxFiles = limit("Max open files");
  const maxVirtualBytes = limit("Max address space");
  const openFiles = count(join(root, "/proc/self/fd"));
  return {
    cpuSeconds: (field(14) + field(15)) / TICKS,
    residentBytes: field(24) * PAGE,
    virtualBytes: field(23),
    threads: field(20),
    startedAfterBoot: field(22) / TICKS,
    ...(openFiles !== undefined && { openFiles }),
    ...(maxFiles !== undefined && { maxFiles }),
    ...(maxVirtualBytes !== undefined && { maxVirtualBytes }),
  };
}

function count(folder: string): number | undefined {
  try {
    return readdirSync(folder).length;
  } catch {
    return undefined;
  }
}
