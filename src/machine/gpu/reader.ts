/** Reads all GPUs tick by tick, and tells what it finds. Runs in a process of its own: any call may never return. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { GpuReader } from "../../device/schema.ts";
import { createBoardOpener, unitsOf, type Board, type Unit } from "./board.ts";
import { actionOf, Code, codeName } from "./codes.ts";
import { createEvents, type Events } from "./events.ts";
import { driverVersions } from "./library.ts";
import type { ReaderMessage } from "./message.ts";
import { instancesOf, isDivided, sameInstances } from "./mig.ts";
import { EventType, type Device, type Nvml } from "./nvml.ts";
import { FULL_PACE, LONG_TICK_MS, nextTurn, paceAfter, tiers } from "./schedule.ts";
import { noGpu, statusOf, statusOfInit, type Verdict, type Versions } from "./status.ts";
import { isSuspended, libraryAddress, pciGpus } from "./suspended.ts";

export interface ReaderOptions {
  nvml: Nvml;
  send(message: ReaderMessage): void;
  /** Called between calls that can take seconds each. */
  beat(): void;
  /** How long a second is, ms. */
  second?: number;
  /** Where /sys and /proc are. */
  root?: string;
  now?: () => number;
  monotonic?: () => number;
}

/** "end": this process can do no more; what it sent last says why. */
export type Step = "on" | "end";

export interface Reader {
  /** Initialises the library, and reads once. */
  start(): Step;
  tick(): Step;
  /** Seconds between ticks. */
  every(): number;
  /** ms before the next tick at which `lead` is to be called. */
  leadMs(): number | undefined;
  lead(): void;
}

/** Ticks in a row in which a GPU answers "unknown error" and nothing else. */
const UNKNOWN_TICKS = 3;
/** Probes of a lost GPU, a minute apart, before a new process tries. */
const PROBES = 10;
/** Seconds between looks at GPUs that all sleep. */
const SLEEP_LOOK = 5;

const SUSPENDED = "The GPU is suspended to save power; reading it would wake it.";

export function createReader(options: ReaderOptions): Reader {
  const { nvml, send, beat, second = 1000, root = "/" } = options;
  const now = options.now ?? Date.now;
  const monotonic = options.monotonic ?? (() => performance.now());

  let boards: Board[] = [];
  let events: Events | undefined;
  let versions: Versions = { driver: null, cuda: null, library: nvml.path };
  /** GPUs of the driver's list that gave no handle, with its answer. */
  let silent = new Map<number, number>();
  let listedGpus = 0;
  /** Addresses of GPUs that slept when the others were found. */
  let leftAsleep: string[] = [];
  let isRunning = false;
  let initialisedAt = -Infinity;
  let inventoryTurn: number | undefined;
  let sleepTurn = 0;
  let pace = FULL_PACE;
  /** Those whose states the collector has; of the others the inventory tells. */
  const announced = new Set<string>();
  let inventoryDue = false;

  const { openBoard, openInstances } = createBoardOpener({
    nvml,
    root,
    second,
    processExists: (pid) => existsSync(join(root, "proc", String(pid))),
    onOpened: (uuid) => void announced.delete(uuid),
    onState(uuid, change) {
      if (announced.has(uuid)) send({ kind: "state", time: now(), uuid, ...change });
    },
    onThrottle: (uuid, reasons) => send({ kind: "throttle", time: now(), uuid, reasons }),
  });
  const units = () => boards.flatMap(unitsOf);

  function start(): Step {
    const asleep = sleeping();
    if (asleep.length > 0 && asleep.length === pciGpus(root).length) {
      send({ kind: "inventory", time: now(), reader: statusOf("ok", allAsleep(asleep.length)), gpus: [] });
      isRunning = false;
      return "on";
    }
    const code = nvml.init();
    initialisedAt = monotonic();
    if (code !== Code.SUCCESS) return endWith(failedInit(code));
    isRunning = true;
    readVersions();
    const failed = findGpus(asleep);
    if (failed !== undefined) return endWith(failedInit(failed));
    if (boards.length === 0 && silent.size === 0) return endWith(noGpu(versions));
    inventoryDue = true;
    return tick();
  }

  function endWith(reader: GpuReader): Step {
    send({ kind: "status", time: now(), reader });
    return "end";
  }

  const restart = (why: string) => endWith(statusOf("starting", why, null, versions));

  function failedInit(code: number): GpuReader {
    const module = join(root, "proc/driver/nvidia/version");
    return statusOfInit(code, versions, driverVersions(nvml.path, module));
  }

  const sleeping = () => pciGpus(root).filter((address) => isSuspended(address, root));
  const allAsleep = (count: number) =>
    `${count === 1 ? "The GPU is" : "All GPUs are"} suspended to save power; reading would wake ${count === 1 ? "it" : "them"}.`;

  function readVersions(): void {
    const cuda = nvml.systemGetCudaDriverVersion().value;
    versions = {
      driver: nvml.systemGetDriverVersion().value ?? null,
      cuda: cuda === undefined ? null : `${Math.floor(cuda / 1000)}.${Math.floor((cuda % 1000) / 10)}`,
      library: nvml.path,
    };
  }

  /** Answers with a code where not even their number can be had. */
  function findGpus(asleep: string[]): number | undefined {
    closeAll();
    silent = new Map();
    leftAsleep = asleep;
    const count = nvml.deviceGetCount();
    if (count.value === undefined) return count.code;
    listedGpus = count.value;
    const found: { device: Device; index: number }[] = [];
    // The list wakes whom it is asked for. An address that is not ours to see is refused.
    const awake = asleep.length > 0 ? pciGpus(root).filter((address) => !asleep.includes(address)) : [];
    for (const [index, address] of awake.entries()) {
      beat();
      const { value } = nvml.deviceGetHandleByPciBusId(libraryAddress(address));
      if (value !== undefined) found.push({ device: value, index });
    }
    for (let index = 0; asleep.length === 0 && index < listedGpus; index++) {
      beat();
      const { code, value } = nvml.deviceGetHandleByIndex(index);
      if (value !== undefined) found.push({ device: value, index });
      else silent.set(index, code);
    }
    for (const [at, { device, index }] of found.entries()) {
      beat();
      const board = openBoard(device, index, at, found.length);
      if (board) boards.push(board);
      else silent.set(index, Code.GPU_IS_LOST);
    }
    boards.sort((a, b) => a.unit.meter.facts.index - b.unit.meter.facts.index);
    listen();
    return undefined;
  }

  function listen(): void {
    events?.close();
    const heard = boards.filter(({ unit }) => !unit.lost).map(({ device }) => device);
    events = createEvents(nvml, heard);
  }

  function closeAll(): void {
    for (const { meter } of units()) meter.close();
    boards = [];
    announced.clear();
  }

  function tick(): Step {
    if (!isRunning) return sleepOn();
    const time = now();
    const began = monotonic();
    inventoryTurn ??= began + tiers.inventory * second;
    if (began >= inventoryTurn) {
      inventoryTurn = began + tiers.inventory * second;
      const why = takeStock();
      if (why !== undefined) return restart(why);
    }
    tellEvents();
    const samples: { uuid: string; values: Record<string, number> }[] = [];
    const lists: ReaderMessage[] = [];
    let verdict: Verdict = "on";
    const unknown: Unit[] = [];
    let isOneWell = false;
    for (const unit of units()) {
      const { uuid } = unit.meter.facts;
      if (unit.lost || isAsleep(unit)) continue;
      const read = unit.meter.read(monotonic());
      if (read.lost !== undefined) lose(unit, read.lost);
      if (Object.keys(read.values).length > 0) samples.push({ uuid, values: read.values });
      if (read.processes) lists.push({ kind: "processes", time, uuid, processes: read.processes });
      if (read.verdict !== "on" && verdict !== "restart") verdict = read.verdict;
      unit.unknown = read.unknown ? unit.unknown + 1 : Object.keys(read.values).length > 0 ? 0 : unit.unknown;
      if (unit.unknown >= UNKNOWN_TICKS) unknown.push(unit);
      isOneWell ||= unit.unknown === 0 && Object.keys(read.values).length > 0;
    }
    // While others are read it is this GPU that fails; a new process would only lose theirs.
    if (isOneWell) for (const unit of unknown.splice(0)) lose(unit, Code.UNKNOWN);
    const took = Math.round((monotonic() - began) * 10) / 10;
    const isFirst = inventoryDue;
    if (inventoryDue) tellInventory();
    for (const list of lists) send(list);
    if (samples.length > 0) send({ kind: "samples", time, took, gpus: samples });
    else beat();
    if (verdict === "restart") return restart("The driver answers that it is not loaded any more.");
    if (verdict === "initialise") return initialiseOnce();
    if (unknown.length > 0) return restart("The driver answers with unknown errors (999) only.");
    // The first one reads everything, the slow things too.
    if (!isFirst) adapt(took);
    return "on";
  }

  function initialiseOnce(): Step {
    if (monotonic() - initialisedAt < 60 * second)
      return restart("The driver forgets that its library was initialised.");
    return start();
  }

  function adapt(took: number): void {
    const before = pace;
    pace = paceAfter(pace, took);
    if (pace.every !== before.every) send({ kind: "status", time: now(), reader: present(took) });
  }

  /** How it fares while it runs. */
  function present(took = 0): GpuReader {
    if (pace.every > 1)
      return statusOf(
        "degraded",
        `Reading the GPUs takes long${took > LONG_TICK_MS ? ` (${Math.round(took)} ms)` : ""}: it is done every ${pace.every} s.`,
        "Other programs that ask the driver often, such as nvidia-smi in a loop, hold it up.",
        versions,
      );
    if (silent.size === 0) return statusOf("ok", null, null, versions);
    const [[index, code]] = [...silent] as [[number, number]];
    return statusOf(
      "ok",
      silent.size === 1
        ? `GPU ${index} does not answer (${codeName(code)}).`
        : `${silent.size} GPUs do not answer (${codeName(code)}).`,
      "Look for NVRM and Xid in `dmesg`; a GPU that has fallen off the bus needs a reboot.",
      versions,
    );
  }

  function tellInventory(): void {
    inventoryDue = false;
    const gpus = units().map(({ meter, lost }) => {
      announced.add(meter.facts.uuid);
      return { ...meter.facts, lost, states: meter.states.report() };
    });
    send({ kind: "inventory", time: now(), reader: present(), gpus });
  }

  function tellEvents(): void {
    for (const { device, eventType, eventData } of events?.poll() ?? []) {
      const board = boards.find((board) => board.device === device);
      if (!board) continue;
      const { uuid } = board.unit.meter.facts;
      if (eventType === EventType.xid) send({ kind: "xid", time: now(), uuid, xid: eventData });
      if (eventType === EventType.migChange) renewInstances(board);
    }
  }

  function renewInstances(board: Board): void {
    const divided = isDivided(nvml, board.device);
    if (divided !== board.divided) {
      const { index, uuid } = board.unit.meter.facts;
      for (const { meter } of unitsOf(board)) meter.close();
      announced.delete(uuid);
      const at = boards.indexOf(board);
      const renewed = openBoard(board.device, index, at, boards.length);
      if (renewed) boards[at] = renewed;
      inventoryDue = true;
      return;
    }
    if (!divided || sameInstances(board.instances, instancesOf(nvml, board.device))) return;
    openInstances(board);
    inventoryDue = true;
  }

  /** What comes and goes: instances, GPUs that were lost, GPUs. Answers with why a new process is needed. */
  function takeStock(): string | undefined {
    const count = nvml.deviceGetCount();
    if (count.value !== undefined && count.value !== listedGpus)
      return `The driver lists ${count.value} GPUs, before ${listedGpus}.`;
    for (const index of silent.keys()) {
      beat();
      const { code, value } = nvml.deviceGetHandleByIndex(index);
      if (value !== undefined && nvml.deviceGetUUID(value).value !== undefined)
        return `GPU ${index} answers again.`;
      silent.set(index, code);
    }
    for (const address of leftAsleep.filter((address) => !isSuspended(address, root))) welcome(address);
    for (const board of boards) {
      if (!board.unit.lost && !isAsleep(board.unit)) renewInstances(board);
      for (const unit of unitsOf(board)) {
        if (!unit.lost) continue;
        beat();
        if (!findAgain(board, unit) && ++unit.probes >= PROBES && !unit.neverSeen)
          return "A GPU is lost; a reader that begins anew may find it.";
      }
    }
    return undefined;
  }

  /** A GPU that slept is awake. */
  function welcome(address: string): void {
    leftAsleep = leftAsleep.filter((other) => other !== address);
    const { value: device } = nvml.deviceGetHandleByPciBusId(libraryAddress(address));
    const board = device && openBoard(device, boards.length, boards.length, boards.length + 1);
    if (!board) return;
    boards.push(board);
    boards.sort((a, b) => a.unit.meter.facts.index - b.unit.meter.facts.index);
    listen();
    inventoryDue = true;
  }

  function findAgain(board: Board, unit: Unit): boolean {
    const { uuid } = unit.meter.facts;
    const { value: device } = nvml.deviceGetHandleByUUID(uuid);
    if (device === undefined) return false;
    const { code } = nvml.deviceGetMemoryInfo(device);
    if (code === Code.UNKNOWN || actionOf(code) === "lost") return false;
    const isBoard = unit === board.unit;
    announced.delete(uuid);
    unit.meter.close();
    if (isBoard) {
      const at = boards.indexOf(board);
      const renewed = openBoard(device, unit.meter.facts.index, at, boards.length);
      if (!renewed) return false;
      for (const { meter } of board.instanceUnits) meter.close();
      boards[at] = renewed;
      listen();
    } else {
      openInstances(board);
    }
    inventoryDue = true;
    send({ kind: "back", time: now(), uuid, reason: "The GPU answers again." });
    return true;
  }

  function lose(unit: Unit, code: number): void {
    const { uuid } = unit.meter.facts;
    unit.lost = true;
    unit.probes = 0;
    unit.neverSeen = !announced.has(uuid);
    if (!unit.neverSeen)
      send({ kind: "lost", time: now(), uuid, reason: `The driver answered ${codeName(code)} (${code}).` });
  }

  function isAsleep(unit: Unit): boolean {
    if (unit.address === undefined) return false;
    const suspended = isSuspended(unit.address, root);
    if (suspended !== unit.suspended) {
      unit.suspended = suspended;
      const { uuid } = unit.meter.facts;
      const state = suspended ? "transient" : "ok";
      send({ kind: "state", time: now(), uuid, reading: "gpu", state, reason: suspended ? SUSPENDED : "" });
    }
    return suspended;
  }

  /** All GPUs sleep: a look from time to time whether one woke up. */
  function sleepOn(): Step {
    beat();
    const at = monotonic();
    if (at < sleepTurn) return "on";
    sleepTurn = nextTurn(at, SLEEP_LOOK, 0, second);
    return sleeping().length === pciGpus(root).length ? "on" : start();
  }

  return {
    start,
    tick,
    every: () => pace.every,
    leadMs() {
      let most: number | undefined;
      for (const { meter, lost, suspended } of units()) {
        const lead = lost || suspended ? undefined : meter.leadMs();
        if (lead !== undefined) most = Math.min(most ?? Infinity, lead);
      }
      return most;
    },
    lead() {
      for (const { meter, lost, suspended } of units())
        if (!lost && !suspended && meter.leadMs() !== undefined) meter.lead(monotonic());
    },
  };
}
