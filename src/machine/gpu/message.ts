/** What the reader process tells the collector: one JSON object a line on its standard output. */
import type { Gpu, GpuReader } from "../../device/schema.ts";
import type { ReadingState } from "../../sample/schema.ts";

/** A process on a GPU, by the driver's word. */
export interface GpuProcess {
  pid: number;
  /** Bytes; null where the driver does not tell. */
  memory: number | null;
  /** 0…1, the driver's estimate; null where it has none. */
  utilization: number | null;
}

export type ReaderMessage =
  /** Sent at least once a second, so that silence means a call that does not return. */
  | { kind: "beat"; time: number }
  /** After each initialisation, and when the list of GPUs changes. */
  | { kind: "inventory"; time: number; reader: GpuReader; gpus: Gpu[] }
  /** Initialisation failed, or the library is gone; the reader ends itself after this if it can't go on. */
  | { kind: "status"; time: number; reader: GpuReader }
  /**
   * One tick. `time` is from before the first call; readings that could not be read are absent, those that are read less
   * often are repeated until their next turn, and never beyond. `took`: ms.
   */
  | { kind: "samples"; time: number; took: number; gpus: { uuid: string; values: Record<string, number> }[] }
  /** All processes on a GPU at this time; sent every few seconds. */
  | { kind: "processes"; time: number; uuid: string; processes: GpuProcess[] }
  /** A reading's state changed. `reading` is "gpu.processes" for the list of processes, and "gpu" for all of a GPU that sleeps. */
  | { kind: "state"; time: number; uuid: string; reading: string; state: ReadingState; reason: string }
  | { kind: "lost" | "back"; time: number; uuid: string; reason: string }
  | { kind: "xid"; time: number; uuid: string; xid: number }
  /** The reasons, as NVML's bits, for which clocks are held down; 0 when they no longer are. Idle and settings are no reasons. */
  | { kind: "throttle"; time: number; uuid: string; reasons: number };

/** The GPUs as the collector sees them: what the supervisor of the reader process offers. */
export interface GpuSource {
  reader(): GpuReader;
  gpus(): readonly Gpu[];
  /** Returns what ends the subscription. Facts are up to date when a listener hears of a message. */
  subscribe(listener: (message: ReaderMessage) => void): () => void;
  close(): Promise<void>;
}
