import type { Collector } from "../collector.ts";
import { deviceStream } from "../entry.ts";
import { CollectorError } from "../error.ts";
import { packSamples, SAMPLE_BATCH_VERSION } from "../store/sample-batch.ts";
import { roundStored, splitKey } from "./reading.ts";
import type { Sample } from "./schema.ts";
import { writeSeen } from "./seen.ts";

/** Of one batch; each may open a block of its own. */
const MAX_SAMPLES = 10_000;
/** The last time that a Date can hold. */
const MAX_TIME = 8.64e15;

/**
 * Stores what a device read, as one entry of the journal. While the disk is full, samples are left out and counted: the
 * next ones are worth more than a queue of old ones.
 */
export async function appendSamples(collector: Collector, device: string, samples: Sample[]): Promise<void> {
  // In which nothing could be read, nothing is left out.
  const full = samples.filter(({ values }) => Object.keys(values).length > 0);
  const kept = full.map(cleanSample).filter((sample) => sample !== undefined);
  collector.samples.refuse(full.length - kept.length);
  if (kept.length === 0) return;
  if (kept.length > MAX_SAMPLES)
    throw new CollectorError("too-large", `${kept.length} samples are too many for one batch.`, {
      hint: `Send at most ${MAX_SAMPLES} at a time.`,
    });
  if (!(await collector.samples.room())) return collector.samples.drop(device, kept, "busy");
  const { encoding, payload } = packSamples(kept);
  try {
    await collector.journal.append(
      {
        kind: "sample.appended",
        version: SAMPLE_BATCH_VERSION,
        run: deviceStream(device),
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count: kept.length,
        time: collector.now(),
        encoding,
        payload,
      },
      kept,
      writeSeen(collector, device, kept.at(-1)!.time),
    );
  } catch (error) {
    if (!(error instanceof CollectorError) || error.code !== "disk-full") throw error;
    collector.samples.drop(device, kept, "full");
  }
}

/** Rounded, without what is no number; undefined where nothing is left, or where its time is none. */
function cleanSample({ subject, time, values }: Sample): Sample | undefined {
  if (!(time >= 0 && time <= MAX_TIME)) return undefined;
  const kept: Sample["values"] = {};
  let isEmpty = true;
  for (const key in values) {
    // Without a negative zero: it is none to a sensor, and costs a column its integers.
    const value = roundStored(splitKey(key).name, values[key]!) + 0;
    if (!Number.isFinite(value)) continue;
    kept[key] = value;
    isEmpty = false;
  }
  return isEmpty ? undefined : { subject, time: Math.round(time), values: kept };
}
