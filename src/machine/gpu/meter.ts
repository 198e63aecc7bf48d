/** Reads one GPU, or one instance of a divided one. */
import type { Gpu } from "../../device/schema.ts";
import { roundReading, type ReadingName } from "../../sample/reading.ts";
import { actionOf, Code } from "./codes.ts";
import { createRate, wrapWindow, type Rate } from "./counters.ts";
import { createGpm, gpmReadings, type Gpm } from "./gpm.ts";
import type { GpuProcess } from "./message.ts";
import type { Device, FieldRequest, Nvml } from "./nvml.ts";
import { fieldProbes, probes, type FieldProbe, type Probe } from "./probes.ts";
import { createProcessLister, type ProcessLister } from "./processes.ts";
import { isProcessTurn, nextTurn, processesEvery, tiers } from "./schedule.ts";
import { createStates, type StateChange, type States } from "./state.ts";
import { verdictOf, type Verdict } from "./status.ts";
import { createThrottle } from "./throttle.ts";

/** Name of the process list among the states: it is no number, and has none. */
export const PROCESSES = "gpu.processes";

export interface MeterOptions {
  nvml: Nvml;
  device: Device;
  facts: Gpu;
  /** Of an instance: the GPU it is part of. */
  parent: Device | undefined;
  /** Its place among all, and how many there are: they take turns. */
  position: number;
  count: number;
  /** How long a second is, ms. */
  second: number;
  processExists: (pid: number) => boolean;
  onState: (change: StateChange) => void;
  /** Bits; only when they change. */
  onThrottle: (reasons: number) => void;
}

export interface Reading {
  values: Record<string, number>;
  processes: GpuProcess[] | undefined;
  /** The code that says the GPU is lost. */
  lost: number | undefined;
  verdict: Verdict;
  /** Every call was answered with "unknown error". */
  unknown: boolean;
}

export interface Meter {
  readonly facts: Gpu;
  readonly device: Device;
  readonly states: States;
  /** `at`: ms on a clock that nobody sets. */
  read(at: number): Reading;
  /** ms before a tick at which `lead` is to be called; undefined where it need not be. */
  leadMs(): number | undefined;
  /** Narrow counters wrap more often than once a second: their rate is that of the last moment before the tick. */
  lead(at: number): void;
  close(): void;
}

const linkReadings: ReadonlySet<string> = new Set([
  "gpu.pcie.transmit",
  "gpu.pcie.receive",
  "gpu.nvlink.transmit",
  "gpu.nvlink.receive",
]);
const LEAD_MS = 50;

const DIVIDED = "This GPU is divided into MIG instances: they tell it, as far as it can be told.";
const INSTANCE = "Only the whole GPU tells it, not its MIG instances.";
const NO_GPM = "Only Hopper and newer GPUs measure it.";

export function createMeter(options: MeterOptions): Meter {
  const { nvml, device, facts, parent, position, count, second, processExists } = options;
  const isInstance = parent !== undefined;
  const isDivided = facts.mig;
  const isOurs = ({ ofDivided, ofInstance }: Pick<Probe, "ofDivided" | "ofInstance">) =>
    isInstance ? ofInstance : isDivided ? ofDivided : true;

  const states = createStates(options.onState, second);
  const throttle = createThrottle(second);
  const ours = probes.filter(isOurs);
  const gpm = startGpm();
  /** Link readings that GPM does not give. */
  const linkFields = new Set<string>(gpm ? [] : linkReadings);
  const rates = new Map<number, Rate>();
  let energyByCall = false;
  let fields = chooseFields();
  const lister: ProcessLister | undefined = isDivided
    ? undefined
    : createProcessLister(nvml, device, !isInstance);
  exclude();

  /** Readings that are repeated until their next turn. */
  let held: Record<string, number> = {};
  const heldBy = { processes: new Set<string>(), slow: new Set<string>() };
  let slowTurn = -Infinity;
  let processTurn = -Infinity;
  let listed = -Infinity;
  let listTook = 0;
  let memoryThen: number | undefined;

  // What one tick finds out; fields of it rather than arguments of every call.
  let values: Record<string, number> = {};
  /** On the clock that nobody sets, as all times here. */
  let now = 0;
  let lost: number | undefined;
  let verdict: Verdict = "on";
  let answers = 0;
  let unknown = 0;

  function startGpm(): Gpm | undefined {
    if (isDivided) return undefined;
    const { code, value } = nvml.gpmQueryDeviceSupport(parent ?? device);
    const instance = isInstance ? facts.gpu_instance : null;
    if (value === true && (!isInstance || instance !== null))
      return createGpm(nvml, parent ?? device, instance, Math.min(second, 100));
    const old = code === Code.FUNCTION_NOT_FOUND;
    for (const { reading } of Object.values(gpmReadings))
      if (!linkReadings.has(reading))
        states.exclude(reading, old ? "This driver is too old to tell." : NO_GPM);
    return undefined;
  }

  function exclude(): void {
    const reason = isDivided ? DIVIDED : INSTANCE;
    for (const probe of probes)
      if (!isOurs(probe)) for (const reading of probe.readings) states.exclude(reading, reason);
    for (const probe of fieldProbes) if (!isOurs(probe)) states.exclude(probe.reading, reason);
    if (!isDivided) return;
    for (const { reading } of Object.values(gpmReadings)) states.exclude(reading, DIVIDED);
    states.exclude(PROCESSES, DIVIDED);
  }

  /** Those that are worth asking for. */
  function chooseFields(): { probes: FieldProbe[]; requests: FieldRequest[] } {
    const chosen = fieldProbes.filter(
      (probe) =>
        isOurs(probe) &&
        (!linkReadings.has(probe.reading) || linkFields.has(probe.reading)) &&
        !(energyByCall && probe.reading === "gpu.energy") &&
        states.of(probe.reading).retryAt !== Infinity,
    );
    return {
      probes: chosen,
      requests: chosen.map(({ fieldId, scopeId }) => ({ fieldId, scopeId: scopeId ?? 0 })),
    };
  }

  function rateOf({ fieldId, scale, wraps }: FieldProbe): Rate {
    let rate = rates.get(fieldId);
    if (!rate) rates.set(fieldId, (rate = createRate({ scale, wrapsWithin: wraps && linkWindow() })));
    return rate;
  }

  let window: number | undefined;
  function linkWindow(): number {
    return (window ??= wrapWindow(
      nvml.deviceGetMaxPcieLinkGeneration(device).value ?? 5,
      nvml.deviceGetMaxPcieLinkWidth(device).value ?? 16,
    ));
  }

  function put(reading: ReadingName, value: number): void {
    values[reading] = roundReading(reading, value);
    if (reading !== "gpu.throttle") return;
    const changed = throttle(value, now);
    if (changed !== undefined) options.onThrottle(changed);
  }

  /** What an answer means beyond its own reading. */
  function judge(code: number): void {
    answers++;
    if (code === Code.UNKNOWN) unknown++;
    if (actionOf(code) === "lost") lost ??= code;
    const found = verdictOf(code);
    if (found !== "on" && verdict !== "restart") verdict = found;
  }

  const record = (reading: string, code: number) => states.record(reading, code, now);

  function ask(probe: Probe): void {
    if (!states.isDue(probe.readings[0]!, now)) return;
    const code = probe.read(nvml, device, put);
    judge(code);
    for (const reading of probe.readings) record(reading, code);
  }

  function readFields(at: number): void {
    if (fields.requests.length > 0) {
      const { code, value } = nvml.deviceGetFieldValues(device, fields.requests);
      judge(code);
      let dropped = false;
      for (const [index, probe] of fields.probes.entries()) {
        const field = value?.[index];
        const answer = field?.code ?? code;
        if (field) judge(answer);
        if (answer === Code.SUCCESS && field?.value != null) takeField(probe, field.value, at);
        const told = answer === Code.SUCCESS && field?.value == null ? Code.NO_DATA : answer;
        if (recordField(probe, told)) dropped = true;
      }
      if (dropped) fields = chooseFields();
    }
    if (!energyByCall || !states.isDue("gpu.energy", now)) return;
    const { code, value } = nvml.deviceGetTotalEnergyConsumption(device);
    judge(code);
    if (value !== undefined) put("gpu.energy", value * 0.001);
    record("gpu.energy", code);
  }

  /** Whether the field is not to be asked for any more. */
  function recordField({ reading }: FieldProbe, code: number): boolean {
    const action = actionOf(code);
    const isGone = action === "permanent" || action === "denied" || action === "version";
    // Drivers before 510 know the energy by a call of its own only.
    if (isGone && reading === "gpu.energy") energyByCall = true;
    else record(reading, code);
    return isGone;
  }

  function takeField(probe: FieldProbe, value: number, at: number): void {
    if (!probe.rate) return put(probe.reading, value * probe.scale);
    const rate = rateOf(probe).next(value, at);
    if (rate !== undefined) put(probe.reading, rate);
  }

  function readGpm(): void {
    gpm?.read((reading, code, value) => {
      judge(code);
      const action = actionOf(code);
      if (linkReadings.has(reading) && (action === "permanent" || action === "denied")) {
        linkFields.add(reading);
        fields = chooseFields();
        return;
      }
      record(reading, code);
      if (value !== null) put(reading, value);
    });
  }

  /** Reads a tier whose turn it is; what it found before is not valid any more. */
  function readTier(tier: "processes" | "slow"): void {
    for (const reading of heldBy[tier]) delete held[reading];
    heldBy[tier].clear();
    const before = values;
    values = {};
    for (const probe of ours) if (probe.tier === tier && lost === undefined) ask(probe);
    for (const [reading, value] of Object.entries(values)) {
      held[reading] = value;
      heldBy[tier].add(reading);
    }
    values = before;
  }

  function listProcesses(): GpuProcess[] | undefined {
    if (!lister) return undefined;
    const used = values["gpu.memory.used"];
    const turn = { turn: processTurn, listed, took: listTook, memoryThen, memoryNow: used };
    if (!isProcessTurn(now, turn)) return undefined;
    if (now >= processTurn) {
      processTurn = nextTurn(now, processesEvery(count), position, second);
      readTier("processes");
    }
    if (lost !== undefined || !states.isDue(PROCESSES, now)) return undefined;
    const began = performance.now();
    const { code, processes } = lister.list(processExists);
    listTook = performance.now() - began;
    listed = now;
    memoryThen = used;
    judge(code);
    record(PROCESSES, code);
    return processes;
  }

  return {
    facts,
    device,
    states,
    read(at) {
      values = {};
      now = at;
      lost = undefined;
      verdict = "on";
      answers = unknown = 0;
      for (const probe of ours) {
        if (probe.tier === "fast") ask(probe);
        // Each further call to a GPU that is gone can take seconds.
        if (lost !== undefined) break;
      }
      if (lost === undefined && !isInstance) readFields(at);
      if (lost === undefined) readGpm();
      let processes: GpuProcess[] | undefined;
      if (lost === undefined) processes = listProcesses();
      if (lost === undefined && now >= slowTurn) {
        slowTurn = nextTurn(now, tiers.slow, position, second);
        readTier("slow");
      }
      if (lost !== undefined) held = {};
      const read = lost === undefined ? Object.assign(values, held) : {};
      return { values: read, processes, lost, verdict, unknown: answers > 0 && unknown === answers };
    },
    leadMs() {
      const isNarrow = fields.probes.some((probe) => probe.wraps && rates.get(probe.fieldId)?.isNarrow());
      if (!isNarrow || linkWindow() > second * 1.5) return undefined;
      return Math.min(LEAD_MS, linkWindow() * 0.6);
    },
    lead(at) {
      const wrapping = fields.probes.filter(({ wraps }) => wraps);
      const { value } = nvml.deviceGetFieldValues(
        device,
        wrapping.map(({ fieldId }) => ({ fieldId, scopeId: 0 })),
      );
      for (const [index, probe] of wrapping.entries()) {
        const counted = value?.[index]?.value;
        if (counted != null) rateOf(probe).next(counted, at);
      }
    },
    close: () => gpm?.close(),
  };
}
