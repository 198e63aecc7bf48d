import type { RunDevice } from "../device/schema.ts";

/**
 * What a run uses of GPUs: pure sums over what was read. Times are ms since the epoch, as samples have them.
 */

/** What a run used of one GPU, as it is stored by UUID. */
export type GpuUse = Omit<RunDevice["gpus"][number], "uuid">;
/** How we know that a GPU is the run's; a process seen there says more than a variable. */
export type Evidence = GpuUse["by"];

/** A GPU's energy counter at one time. */
export interface Energy {
  time: number;
  joules: number;
}

/**
 * Joules of a GPU from `from` to `to`, of those between two looks at its counter: in proportion to the time, as looks are a second
 * apart and a run ends in between. A counter that went back was reset: what was used meanwhile is unknown, and not counted.
 */
export function energyWithin(previous: Energy, current: Energy, from: number, to: number): number {
  const grown = current.joules - previous.joules;
  const span = current.time - previous.time;
  if (grown <= 0 || span <= 0) return 0;
  const overlap = Math.min(to, current.time) - Math.max(from, previous.time);
  return overlap <= 0 ? 0 : grown * Math.min(1, overlap / span);
}

interface Span {
  from: number;
  to: number | null;
}

interface Held {
  row: GpuUse;
  /** What of its life with the run is not yet covered by the energy counter. */
  unmetered: Span[];
  /** Since when it is the run's; null while it is not. */
  since: number | null;
}

export interface GpuUses {
  /** The GPU is the run's from then on; further evidence of one that is already says how we know. Returns whether it was not before. */
  hold(gpu: { uuid: string; index: number; name: string }, by: Evidence, time: number): boolean;
  release(uuid: string, time: number): void;
  /** Two looks at the counter, one after the other. */
  meter(uuid: string, previous: Energy, current: Energy): void;
  /** Bytes that the run's processes have there. */
  memory(uuid: string, bytes: number): void;
  share(uuid: string): void;
  /** The wall clock was set by so much: what began before it began by the new clock. */
  shift(ms: number): void;
  /** UUIDs of those it has now. */
  held(): Set<string>;
  /** Whether a look at a counter is still awaited, of a time after which it had the GPU. */
  isMetered(): boolean;
  rows(time: number): Record<string, GpuUse>;
}

/** `before`: what the run had used here before it was resumed, or before the collector was restarted. */
export function createGpuUses(before: Record<string, GpuUse> = {}): GpuUses {
  const byUuid = new Map<string, Held>();
  for (const [uuid, row] of Object.entries(before))
    byUuid.set(uuid, { row: { ...row }, unmetered: [], since: null });

  return {
    hold({ uuid, index, name }, by, time) {
      let held = byUuid.get(uuid);
      if (!held) {
        const row = { index, name, by, energy: null, hours: 0, peak_memory: null, shared: false };
        byUuid.set(uuid, (held = { row, unmetered: [], since: null }));
      }
      held.row.index = index;
      held.row.name = name;
      if (by === "process") held.row.by = by;
      if (held.since !== null) return false;
      held.since = time;
      held.unmetered.push({ from: time, to: null });
      return true;
    },
    release(uuid, time) {
      const held = byUuid.get(uuid);
      if (!held || held.since === null) return;
      held.row.hours += hoursBetween(held.since, time);
      held.since = null;
      for (const span of held.unmetered) span.to ??= Math.max(span.from, time);
    },
    meter(uuid, previous, current) {
      const held = byUuid.get(uuid);
      if (!held || held.unmetered.length === 0) return;
      const left: Span[] = [];
      for (const span of held.unmetered) {
        const joules = energyWithin(previous, current, span.from, span.to ?? Infinity);
        held.row.energy = (held.row.energy ?? 0) + joules;
        if (span.to === null || span.to > current.time)
          left.push({ from: Math.max(span.from, current.time), to: span.to });
      }
      held.unmetered = left;
    },
    memory(uuid, bytes) {
      const held = byUuid.get(uuid);
      if (held) held.row.peak_memory = Math.max(held.row.peak_memory ?? 0, bytes);
    },
    share(uuid) {
      const held = byUuid.get(uuid);
      if (held) held.row.shared = true;
    },
    shift(ms) {
      for (const held of byUuid.values()) {
        if (held.since !== null) held.since += ms;
        for (const span of held.unmetered) {
          span.from += ms;
          if (span.to !== null) span.to += ms;
        }
      }
    },
    held: () => new Set([...byUuid].filter(([, { since }]) => since !== null).map(([uuid]) => uuid)),
    isMetered: () => [...byUuid.values()].every(({ unmetered }) => unmetered.length === 0),
    rows(time) {
      const rows: Record<string, GpuUse> = {};
      for (const [uuid, { row, since }] of byUuid)
        rows[uuid] = {
          ...row,
          energy: row.energy === null ? null : Math.round(row.energy * 1000) / 1000,
          hours: row.hours + (since === null ? 0 : hoursBetween(since, time)),
        };
      return rows;
    },
  };
}

const hoursBetween = (from: number, to: number) => Math.max(0, to - from) / 3_600_000;
