import type { Frame } from "../../src/relay/contract.ts";
import type { KeptOpening } from "../../src/relay/openings.ts";
import type { DeadLetter, DestinationState } from "../../src/relay/ports.ts";

/** A record or line is its name, which tells whose it is: nothing may have the same one twice. */
export type Item = string;

export interface Sample {
  time: number;
  value: string;
}

/** A run as its source has it. */
export interface Run {
  id: string;
  /** What is said of it: a later one takes the place of an earlier one. */
  label: string;
  records: Item[];
  lines: Item[];
  /** The entry that each came with. */
  recordSeqs: number[];
  lineSeqs: number[];
  /** Last batch number of each client. */
  clients: Map<string, number>;
  deleted: boolean;
  /** It is still being imported: nobody's yet. */
  importing: boolean;
}

export interface Device {
  id: string;
  label: string;
  samples: Sample[];
  sampleSeqs: number[];
  /** Readings that made room, the oldest first. */
  thinned: number;
}

export interface Destination {
  state: DestinationState;
  openings: KeptOpening[];
  answered: string | null;
  skip: number;
  dead: Map<string, DeadLetter & { epoch: number }>;
  /** Readings that made room before it was known to have them. */
  dropped: Set<Item>;
}

/** All that is durable of an installation. Entries and items are never changed, so that a copy of the lists is a copy. */
export interface Database {
  id: string;
  epoch: number;
  nonce: string;
  journal: Frame[];
  last: number;
  runs: Map<string, Run>;
  devices: Map<string, Device>;
  /** Of each destination, by the platform's name. */
  destinations: Map<string, Destination>;
}

export function copyDatabase(database: Database): Database {
  return {
    ...database,
    journal: [...database.journal],
    runs: mapValues(database.runs, (run) => ({
      ...run,
      records: [...run.records],
      lines: [...run.lines],
      recordSeqs: [...run.recordSeqs],
      lineSeqs: [...run.lineSeqs],
      clients: new Map(run.clients),
    })),
    devices: mapValues(database.devices, (device) => ({
      ...device,
      samples: [...device.samples],
      sampleSeqs: [...device.sampleSeqs],
    })),
    destinations: mapValues(database.destinations, (destination) => ({
      ...destination,
      state: { ...destination.state },
      openings: [...destination.openings],
      dead: new Map(destination.dead),
      dropped: new Set(destination.dropped),
    })),
  };
}

export const mapValues = <K, V>(map: Map<K, V>, copy: (value: V) => V): Map<K, V> =>
  new Map([...map].map(([key, value]) => [key, copy(value)]));

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const pack = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));
export const unpack = (payload: Uint8Array): any => JSON.parse(decoder.decode(payload)); // oxlint-disable-line

/** Records, lines or samples of a frame. */
export function itemsOf({ kind, payload }: Frame): Item[] {
  if (kind === "metric.appended" || kind === "log.appended") return unpack(payload) as Item[];
  return kind === "sample.appended" ? (unpack(payload) as Sample[]).map(({ value }) => value) : [];
}

/** What a platform refuses for good. */
export const isPoison = (item: Item): boolean => item.includes("poison");
/** What is too large for it, even alone. */
export const isHuge = (frame: Frame): boolean =>
  frame.kind === "metric.appended" && decoder.decode(frame.payload).includes("huge");
