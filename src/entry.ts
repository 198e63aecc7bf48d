/** Kinds of journal entries, "{concept}.{past verb}". A kind that leaves this list can never be read again: only add. */
export type EntryKind =
  | "run.created"
  | "run.changed"
  | "run.deleted"
  | "run.pruned"
  | "metric.appended"
  | "log.appended"
  | "device.changed"
  | "sample.appended"
  /** Coarser rows that an import brings, whose readings one by one are kept no more. */
  | "sample.rolled"
  | "event.recorded"
  | "span.recorded"
  | "use.changed"
  | "artifact.logged"
  | "artifact.changed"
  | "artifact.used"
  | "artifact.deleted"
  /** What follows of this run is its import's, and belongs to nobody until `run.imported` says that it is whole. */
  | "import.began"
  | "run.imported";

/** How a payload is stored: UTF-8 JSON as it is, or packed columns / JSON behind zstd. */
export const Encoding = { json: 0, jsonZstd: 1, columns: 2, columnsZstd: 3 } as const;
export type Encoding = (typeof Encoding)[keyof typeof Encoding];

/** One accepted batch on its way into the journal. */
export interface NewEntry {
  kind: EntryKind;
  /** Version of the payload's layout for this kind. */
  version: number;
  /** The run, or for what belongs to a device `deviceStream(device)`. */
  run: string;
  /** Who sent it and their number for it; null for what the collector itself decided. */
  client: string | null;
  clientSeq: number | null;
  /** First ordinal (metric) or line number (log) of the batch; with `count` it restores a run's counters on start. */
  ordinal: number | null;
  /** The writer's step counter after this batch, where the collector counts for it. */
  nextStep: number | null;
  /** Records or lines in the batch. */
  count: number;
  /** Wall clock of acceptance, ms since the epoch. */
  time: number;
  encoding: Encoding;
  payload: Uint8Array;
}

export interface Entry extends NewEntry {
  seq: number;
}

/** In the place of a run's id in entries of artifacts that no run logged or that are changed later. */
export const ARTIFACT_STREAM = "artifact:";

/** In the place of a source's label: what was recorded here. A label begins with a letter or a digit. */
export const OWN = ".";

/** In the place of a run's id in entries of a device: no run's id holds a colon. */
export const deviceStream = (device: string): string => `device:${device}`;

/** The device of a stream; undefined for a run. */
export const deviceOfStream = (stream: string): string | undefined =>
  stream.startsWith("device:") ? stream.slice(7) : undefined;

/** Whether a stream is a run's, with a row and numbers of its own. */
export const isRunStream = (stream: string): boolean => !stream.includes(":");
