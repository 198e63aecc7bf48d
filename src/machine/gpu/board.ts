/** GPUs as the reader keeps them: each with its meter, and those of its instances. */
import { gpuFacts } from "./facts.ts";
import { createMeter, type Meter, type MeterOptions } from "./meter.ts";
import { instanceGpu, instancesOf, isDivided, type Instance } from "./mig.ts";
import type { Device, Nvml } from "./nvml.ts";
import { kernelAddress, maySuspend } from "./suspended.ts";

/** A GPU of the list, or an instance of one. */
export interface Unit {
  meter: Meter;
  /** Of a GPU that the kernel may suspend. */
  address: string | undefined;
  suspended: boolean;
  lost: boolean;
  /** It did not answer from the start: a process that is new already is no cure. */
  neverSeen: boolean;
  /** In vain, since it was lost. */
  probes: number;
  /** Ticks in a row with no other answer than "unknown error". */
  unknown: number;
}

export interface Board {
  device: Device;
  unit: Unit;
  divided: boolean;
  instances: Instance[];
  instanceUnits: Unit[];
}

export interface BoardOptions {
  nvml: Nvml;
  root: string;
  second: number;
  processExists: (pid: number) => boolean;
  /** An instance is new, though one of the same UUID may have been there. */
  onOpened: (uuid: string) => void;
  onState: (uuid: string, change: Parameters<MeterOptions["onState"]>[0]) => void;
  onThrottle: (uuid: string, reasons: number) => void;
}

export interface BoardOpener {
  /** `position` of `count`: GPUs take turns with what is read seldom. undefined: it did not answer. */
  openBoard(device: Device, index: number, position: number, count: number): Board | undefined;
  /** Those there are now, in the place of those there were. */
  openInstances(board: Board): void;
}

export function createBoardOpener({
  nvml,
  root,
  second,
  processExists,
  onOpened,
  onState,
  onThrottle,
}: BoardOptions): BoardOpener {
  function openBoard(device: Device, index: number, position: number, count: number): Board | undefined {
    const uuid = nvml.deviceGetUUID(device).value;
    if (uuid === undefined) return undefined;
    const divided = isDivided(nvml, device);
    const facts = gpuFacts(nvml, device, { uuid, index, mig: divided });
    const address = facts.pci === null ? undefined : kernelAddress(facts.pci);
    const unit = openUnit(device, facts, undefined, position, count);
    unit.address = address !== undefined && maySuspend(address, root) ? address : undefined;
    const board: Board = { device, unit, divided, instances: [], instanceUnits: [] };
    if (divided) openInstances(board);
    return board;
  }

  function openInstances(board: Board): void {
    for (const { meter } of board.instanceUnits) meter.close();
    board.instances = instancesOf(nvml, board.device);
    board.instanceUnits = board.instances.map((instance, position) => {
      const facts = instanceGpu(nvml, instance, board.unit.meter.facts);
      onOpened(facts.uuid);
      return openUnit(instance.device, facts, board.device, position, board.instances.length);
    });
  }

  function openUnit(
    device: Device,
    facts: Meter["facts"],
    parent: Device | undefined,
    position: number,
    count: number,
  ): Unit {
    const { uuid } = facts;
    const meter = createMeter({
      nvml,
      device,
      facts,
      parent,
      position,
      count,
      second,
      processExists,
      onState: (change) => onState(uuid, change),
      onThrottle: (reasons) => onThrottle(uuid, reasons),
    });
    return {
      meter,
      address: undefined,
      suspended: false,
      lost: false,
      neverSeen: false,
      probes: 0,
      unknown: 0,
    };
  }

  return { openBoard, openInstances };
}

export const unitsOf = ({ unit, instanceUnits }: Board): Unit[] => [unit, ...instanceUnits];
