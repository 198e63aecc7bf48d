import type { Device, RunDevice } from "../device/schema.ts";
import type { Span } from "./frame.ts";

export type Values = Readonly<Record<string, number>>;

export interface KnownRun {
  name: string;
  /** What it has used of this device so far. */
  use: RunDevice | undefined;
}

/** All that a picture of a device shows. */
export interface DeviceView {
  device: Device;
  /** The newest sample of each subject, however old; times are ms since the epoch. */
  samples: ReadonlyMap<string, { time: number; values: Values }>;
  /** What is known of runs, by their id. */
  runs: ReadonlyMap<string, KnownRun>;
  /** How busy each GPU was of late, second by second, the newest last. */
  trends?: ReadonlyMap<string, readonly number[]> | undefined;
  /** Now, by the collector's clock. */
  now: number;
  /** Most bytes a second that went over the network of late; undefined: not known yet. */
  networkPeak?: number | undefined;
  /** The connection to the collector is lost, for so many ms. */
  lostFor?: number | undefined;
  /** What happened last, and when. */
  event?: { time: number; text: string } | undefined;
}

/** Samples come every second: later than this, something is wrong. */
export const STALE_MS = 5000;
/** And after this they are history: their values are no longer shown. */
export const OLD_MS = 60_000;

export type Lines = Span[][];

export const dim = (text: string): Span => ({ text, style: "dim" });

/** The values of a subject, unless they are too old to mean anything. */
export function valuesOf({ samples, now }: DeviceView, subject: string): Values {
  const sample = samples.get(subject);
  return sample && now - sample.time <= OLD_MS ? sample.values : {};
}

export const known = (value: number | undefined) => value !== undefined;

export const ratio = (used: number | undefined, total: number | undefined) =>
  used === undefined || total === undefined || total <= 0 ? undefined : used / total;

export const networkRate = (values: Values): number =>
  (values["network.receive"] ?? 0) + (values["network.transmit"] ?? 0);
