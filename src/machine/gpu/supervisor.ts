/** Starts the process that reads the GPUs, watches it, ends it when a call of its does not return, and starts the next one. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { isReading, type Gpu, type GpuReader, type GpuStatus } from "../../device/schema.ts";
import { libraryCandidates } from "./library.ts";
import type { GpuSource, ReaderMessage } from "./message.ts";
import { absent, respawnAfter, retryAfter, statusOf, type Versions } from "./status.ts";
import { pciGpus } from "./suspended.ts";

export interface SuperviseOptions {
  /** Command line of the reader process. */
  command: string[];
  /** Said to it beside the little it gets of our own environment: where native addons lie, which library to take. */
  env?: Record<string, string>;
  /** No GPU is to be read. */
  off?: boolean;
  onDiagnostic(line: string): void;
  /** How long a second is, ms. */
  second?: number;
  limits?: Partial<Limits>;
  hasLibrary?: () => boolean;
  hasHardware?: () => boolean;
  hasDriver?: () => boolean;
  /** SIGKILL; a process inside the driver may survive it. */
  kill?: (child: ChildProcess) => void;
}

/** Seconds. */
export interface Limits {
  /** A reader that says nothing for so long is in a call that does not return. */
  silence: number;
  /** The same before it has told of its GPUs: the first call to a GPU that nobody keeps awake takes seconds. */
  start: number;
  /** After SIGKILL. */
  abandon: number;
  /** A reader that lived so long is well: the next failure counts as the first. */
  health: number;
  /** To end when asked to. */
  close: number;
  /** Between two attempts; by default longer after each. */
  pause: number | undefined;
}

const defaultLimits: Limits = { silence: 5, start: 30, abandon: 2, health: 60, close: 0.5, pause: undefined };

/** Readers that SIGKILL does not end, at the most: one more is tried beside the first, then none. */
const MOST_STUCK = 2;
/** Bytes of a line; a list of a thousand processes has 60 kB. */
const LONGEST_LINE = 8 * 2 ** 20;
const STDERR_LINES = 20;
const STDERR_LINE = 300;
/** Of attempts without a driver that are due, so many are skipped while it is not loaded. */
const SKIPPED = 10;

/** Of our environment only what finding the library may need. */
const inherited = ["BINNACLE_NVML", "LD_LIBRARY_PATH"];

/**
 * Compiling what runs for 2 ms a second costs more memory than it saves time, and so do threads and timers that collect its
 * little garbage. A small heap is collected early, where one sized for the machine's memory grows for hours. With these the
 * reader of eight GPUs keeps below 47 MB in the place of 54, and uses half as much processor time.
 */
const sparing = {
  BUN_JSC_useJIT: "0",
  BUN_JSC_useConcurrentGC: "0",
  BUN_JSC_numberOfGCMarkers: "1",
  BUN_JSC_forceRAMSize: String(4 * 2 ** 20),
  BUN_GC_TIMER_DISABLE: "1",
};

interface Life {
  child: ChildProcess;
  /** Seconds since it last said something. */
  silent: number;
  /** It has told of its GPUs. */
  told: boolean;
  /** The status that it ended itself with. */
  farewell: GpuStatus | undefined;
  sampledFor: number;
  killed: boolean;
  gone: boolean;
}

export function superviseGpus(options: SuperviseOptions): GpuSource {
  const { command, off = false, onDiagnostic, second = 1000 } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const hasLibrary =
    options.hasLibrary ??
    (() =>
      libraryCandidates({ path: options.env?.["BINNACLE_NVML"] ?? process.env["BINNACLE_NVML"] }).length > 0);
  const hasHardware = options.hasHardware ?? (() => existsSync("/dev/nvidiactl") || pciGpus().length > 0);
  const hasDriver =
    options.hasDriver ??
    (() => ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"].some((path) => existsSync(path)));
  const kill = options.kill ?? ((child) => void child.kill("SIGKILL"));

  const listeners = new Set<(message: ReaderMessage) => void>();
  let reader = statusOf(off ? "off" : "starting", off ? "Reading GPUs is switched off." : null);
  let gpus: readonly Gpu[] = [];
  let life: Life | undefined;
  const stuck = new Set<ChildProcess>();
  let failures = 0;
  let skipped = 0;
  let closed = false;
  let next: ReturnType<typeof setTimeout> | undefined;
  let watch: ReturnType<typeof setInterval> | undefined;

  function emit(message: ReaderMessage): void {
    for (const listener of listeners) {
      try {
        listener(message);
      } catch (error) {
        onDiagnostic(`GPUs: ${(error as Error).message}`);
      }
    }
  }

  function become(now: GpuReader): void {
    if (now.status === reader.status && now.reason === reader.reason) return;
    tellChange(now);
    reader = now;
    emit({ kind: "status", time: Date.now(), reader });
  }

  function tellChange({ status, reason, advice }: GpuReader): void {
    if (reason !== null) onDiagnostic(`GPUs: ${[reason, advice].filter(Boolean).join(" ")}`);
    else if (status === "ok" && reader.reason !== null) onDiagnostic("GPUs: they are read again.");
  }

  const versions = (): Versions => ({
    driver: reader.driver,
    cuda: reader.cuda,
    library: reader.library,
  });

  function startIn(seconds: number): void {
    clearTimeout(next);
    next = setTimeout(start, seconds * second);
    // Nobody waits for GPUs to end the collector.
    next.unref();
  }

  function start(): void {
    if (closed || life) return;
    if (!hasLibrary()) {
      const hardware = hasHardware();
      become(absent(hardware));
      // A machine without such a GPU does not get one while it is up.
      if (hardware) startIn(retryAfter("absent"));
      return;
    }
    if (reader.status === "no_driver" && !hasDriver() && ++skipped < SKIPPED)
      return startIn(retryAfter("no_driver"));
    skipped = 0;
    launch();
  }

  function launch(): void {
    const [file, ...args] = command;
    const child = spawn(file!, args, { env: environment(), stdio: ["pipe", "pipe", "pipe"] });
    const started: Life = {
      child,
      silent: 0,
      told: false,
      farewell: undefined,
      sampledFor: 0,
      killed: false,
      gone: false,
    };
    life = started;
    child.stdin?.on("error", () => {});
    eachLine(child.stdout!, LONGEST_LINE, (line) => hear(started, line));
    let said = 0;
    eachLine(child.stderr!, STDERR_LINE, (line) => {
      if (++said <= STDERR_LINES) onDiagnostic(`GPU reader: ${line.slice(0, STDERR_LINE)}`);
    });
    child.once("error", (error) => ended(started, error.message));
    // What it said last is in the pipe yet when it has ended.
    child.once("close", (code, signal) => ended(started, signal ?? `exit code ${code}`));
    child.once("exit", () => stuck.has(child) && ended(started, ""));
    watch ??= setInterval(listen, second);
    watch.unref();
  }

  function environment(): Record<string, string> {
    const env: Record<string, string> = { ...sparing };
    for (const name of inherited) if (process.env[name] !== undefined) env[name] = process.env[name];
    return { ...env, ...options.env };
  }

  /**
   * Counts our own seconds: after the machine has slept, or while this process was held up, the reader's words wait in the
   * pipe and it is not to blame.
   */
  function listen(): void {
    if (!life || life.killed) return;
    life.silent++;
    if (life.silent <= (life.told ? limits.silence : limits.start)) return;
    const { child } = life;
    const hung = life;
    hung.killed = true;
    kill(child);
    become(
      statusOf(
        "hung",
        "A call into NVIDIA's driver does not return; the process that made it was ended.",
        "It is tried again by and by. If it stays so, look for NVRM and Xid in `dmesg`; a reboot cures it.",
        versions(),
      ),
    );
    const timer = setTimeout(() => abandon(hung), limits.abandon * second);
    timer.unref();
  }

  /** The kernel does not let it go: it waits for the driver where no signal reaches it. */
  function abandon(hung: Life): void {
    if (hung.gone || closed) return;
    const { child } = hung;
    stuck.add(child);
    release(child);
    life = undefined;
    if (stuck.size < MOST_STUCK) return startIn(pauseAfterFailure());
    become(
      statusOf(
        "hung",
        `${stuck.size} processes that read the GPUs wait in NVIDIA's driver and can't be ended; no more are started.`,
        "Reboot the machine, or wait: once one of them ends, it is tried again.",
        versions(),
      ),
    );
  }

  function pauseAfterFailure(): number {
    failures++;
    return limits.pause ?? respawnAfter(failures);
  }

  function ended(gone: Life, how: string): void {
    if (gone.gone) return;
    gone.gone = true;
    if (stuck.delete(gone.child)) {
      if (!life && stuck.size === MOST_STUCK - 1) startIn(limits.pause ?? respawnAfter(failures));
      return;
    }
    if (life === gone) life = undefined;
    if (closed) return;
    if (gone.killed) return startIn(pauseAfterFailure());
    const { farewell } = gone;
    if (farewell === undefined) {
      const why = `The process that reads the GPUs ended unexpectedly (${how}).`;
      become(statusOf("failed", why, "It is started again by and by.", versions()));
      return startIn(pauseAfterFailure());
    }
    if (farewell !== "starting") return startIn(limits.pause ?? retryAfter(farewell));
    // It asked for a successor. One that asks again and again has to wait as if it had failed.
    startIn(gone.sampledFor >= limits.health ? 1 : pauseAfterFailure());
  }

  function hear(from: Life, line: string): void {
    from.silent = 0;
    if (from !== life || from.killed || closed) return;
    let message: ReaderMessage;
    try {
      message = JSON.parse(line) as ReaderMessage;
    } catch {
      return onDiagnostic(`GPU reader: ${line.slice(0, STDERR_LINE)}`);
    }
    take(from, message);
  }

  function take(from: Life, message: ReaderMessage): void {
    switch (message.kind) {
      case "beat":
        return;
      case "status":
        if (!isReading(message.reader)) from.farewell = message.reader.status;
        return become(message.reader);
      case "inventory":
        from.told = true;
        return takeInventory(message);
      case "samples":
        if (++from.sampledFor >= limits.health) failures = 0;
        break;
      case "state":
        change(message.uuid, (gpu) => {
          const states = { ...gpu.states };
          if (message.state === "ok") delete states[message.reading];
          else states[message.reading] = { state: message.state, reason: message.reason };
          return { ...gpu, states };
        });
        break;
      case "lost":
      case "back":
        change(message.uuid, (gpu) => ({ ...gpu, lost: message.kind === "lost" }));
        break;
    }
    emit(message);
  }

  function change(uuid: string, to: (gpu: Gpu) => Gpu): void {
    gpus = gpus.map((gpu) => (gpu.uuid === uuid ? to(gpu) : gpu));
  }

  /** A GPU that was there before, and is not in the list of a new reader, is lost; its place is kept. */
  function takeInventory(message: ReaderMessage & { kind: "inventory" }): void {
    const { time } = message;
    const before = new Map(gpus.map((gpu) => [gpu.uuid, gpu]));
    const here = new Set(message.gpus.map(({ uuid }) => uuid));
    const missing = gpus.filter(({ uuid, parent }) => parent === null && !here.has(uuid));
    // All GPUs sleep, and are not looked at: they are as they were.
    const asleep = message.gpus.length === 0;
    const kept = missing.map((gpu) => (asleep ? gpu : { ...gpu, lost: true }));
    gpus = inOrder([...message.gpus, ...kept]);
    tellChange(message.reader);
    reader = message.reader;
    emit({ ...message, gpus: [...gpus] });
    for (const { uuid, lost } of gpus) {
      const was = before.get(uuid);
      if (was && lost && !was.lost)
        emit({ kind: "lost", time, uuid, reason: "The driver does not list it any more." });
      if (was && !lost && was.lost) emit({ kind: "back", time, uuid, reason: "The GPU answers again." });
    }
  }

  /** Nothing of it holds this process any more. */
  function release(child: ChildProcess): void {
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
    child.unref();
  }

  // Not at once: who finds its port taken has nothing to say about GPUs.
  if (!off) startIn(0);

  return {
    reader: () => reader,
    gpus: () => gpus,
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      closed = true;
      clearTimeout(next);
      clearInterval(watch);
      const last = life;
      if (!last || last.gone) return;
      const gone = new Promise<void>((resolve) => last.child.once("exit", () => resolve()));
      last.child.stdin?.end();
      if (await within(gone, limits.close * second)) return;
      kill(last.child);
      if (!(await within(gone, limits.abandon * second))) release(last.child);
    },
  };
}

/** GPUs by number, each before its instances. */
function inOrder(gpus: Gpu[]): Gpu[] {
  const indexes = new Map(gpus.map(({ uuid, index }) => [uuid, index]));
  const wholeOf = ({ parent, index }: Gpu) => (parent === null ? index : (indexes.get(parent) ?? index));
  const placeOf = ({ parent, index }: Gpu) => (parent === null ? -1 : index);
  return gpus.sort((a, b) => wholeOf(a) - wholeOf(b) || placeOf(a) - placeOf(b));
}

/** Whether it happened in time. */
function within(event: Promise<void>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    void event.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

/** Lines of at most so many characters; what is longer is cut. */
function eachLine(stream: NodeJS.ReadableStream, longest: number, take: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!.slice(0, longest);
    for (const line of lines) if (line !== "") take(line);
  });
  stream.on("error", () => {});
}
