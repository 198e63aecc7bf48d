import type { Collector } from "../collector.ts";
import { deviceStream, Encoding } from "../entry.ts";
import { MAX_TIME } from "../metric/schema.ts";
import { runOfSubject, subjectOfRun, type Sample } from "../sample/schema.ts";
import { packSamples, SAMPLE_BATCH_VERSION } from "../store/sample-batch.ts";
import { blockStart } from "../store/sample-block.ts";
import { chunkStart, TIERS, type RolledRows, type Tier } from "../store/sample-rollup.ts";
import { compress } from "../store/zstd.ts";
import { readParquet } from "./parquet-read.ts";
import type { ArchivedDevices, ArchivedRun } from "./schema.ts";
import { sampleColumns } from "./tables.ts";
import { damaged } from "./zip-read.ts";

interface Place {
  device: string;
  subject: string;
  tier: Tier;
  /** Of the block or the chunk. */
  start: number;
}

interface Reading {
  count: number;
  mean: number;
  min: number;
  max: number;
}

/** Rows of one block or chunk, by their times. */
type Rows = Map<number, Map<string, Reading>>;

const MAX_ROWS = 20_000;
const MAX_READINGS = 4_000_000;

/** Takes what devices read into the journal. Rows of times that are here already stay as they are. Resolves with the number of readings. */
export async function importSamples(
  collector: Collector,
  run: string,
  {
    samples: path,
    devices,
    run: { id: exported },
  }: { samples: string; devices: ArchivedDevices; run: ArchivedRun },
): Promise<number> {
  const known = new Set(devices.map(({ id }) => id));
  const own = subjectOfRun(exported);
  let place: Place | undefined;
  let rows: Rows = new Map();
  let held = 0;
  let count = 0;

  async function flush(): Promise<void> {
    if (!place || rows.size === 0) return;
    const ready = rows;
    rows = new Map();
    held = 0;
    if (place.tier === 1) await appendRows(collector, place, ready);
    else await appendRolled(collector, place, ready);
  }

  for await (const group of readParquet(path, sampleColumns)) {
    const {
      device,
      subject,
      reading,
      seconds,
      time,
      count: counts,
      value,
      min,
      max,
    } = group as {
      device: string[];
      subject: string[];
      reading: string[];
      seconds: Int32Array;
      time: Float64Array;
      count: Int32Array;
      value: Float64Array;
      min: Float64Array;
      max: Float64Array;
    };
    for (let i = 0; i < time.length; i++) {
      const tier = TIERS.find((tier) => tier === seconds[i]);
      const at = time[i]!;
      if (tier === undefined || !known.has(device[i]!) || !(at >= 0 && at <= MAX_TIME))
        throw damaged("its samples are of another device, time or kind");
      if (!Number.isFinite(value[i]! + min[i]! + max[i]!) || !(counts[i]! >= 1) || reading[i]!.length > 500)
        throw damaged("its samples have a reading that is none");
      const of = subject[i]!;
      if (of.length > 300 || (runOfSubject(of) !== undefined && of !== own))
        throw damaged("its samples are of another run");
      const start = tier === 1 ? blockStart(at) : chunkStart(tier, at);
      if (
        !place ||
        place.start !== start ||
        place.tier !== tier ||
        place.device !== device[i] ||
        (of === own ? subjectOfRun(run) : of) !== place.subject
      ) {
        await flush();
        place = { device: device[i]!, subject: of === own ? subjectOfRun(run) : of, tier, start };
      }
      let row = rows.get(at);
      if (!row) rows.set(at, (row = new Map()));
      row.set(reading[i]!, { count: counts[i]!, mean: value[i]!, min: min[i]!, max: max[i]! });
      if (rows.size > MAX_ROWS || ++held > MAX_READINGS)
        throw damaged("its samples are more than a device can read");
      count++;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await flush();
  return count;
}

async function appendRows(
  collector: Collector,
  { device, subject, start }: Place,
  rows: Rows,
): Promise<void> {
  const here = new Set(collector.samples.rowTimes(device, subject, start));
  const samples = [...rows]
    .filter(([time]) => !here.has(time))
    .sort(([a], [b]) => a - b)
    .map(([time, readings]): Sample => ({
      subject,
      time,
      values: Object.fromEntries([...readings].map(([key, { mean }]) => [key, mean])) as Sample["values"],
    }));
  if (samples.length === 0) return;
  while (!(await collector.samples.room()));
  const { encoding, payload } = packSamples(samples);
  await append(
    collector,
    device,
    { kind: "sample.appended", version: SAMPLE_BATCH_VERSION, count: samples.length, encoding, payload },
    samples,
  );
}

/** Coarser rows have no place in memory: they go into their chunk with their entry. */
async function appendRolled(
  collector: Collector,
  { device, subject, tier, start }: Place,
  rows: Rows,
): Promise<void> {
  const times = Float64Array.from([...rows.keys()].sort((a, b) => a - b));
  const rolled: RolledRows = { times, columns: new Map() };
  times.forEach((time, row) => {
    for (const [key, reading] of rows.get(time)!) {
      let column = rolled.columns.get(key as never);
      if (!column) {
        const none = () => new Float64Array(times.length).fill(NaN);
        column = { count: new Float64Array(times.length), min: none(), mean: none(), max: none() };
        rolled.columns.set(key as never, column);
      }
      for (const name of ["count", "min", "mean", "max"] as const) column[name][row] = reading[name];
    }
  });
  const write = collector.samples.mergeRolled({ device, subject, tier, start }, rolled);
  if (!write) return;
  const data = {
    device,
    subject,
    tier,
    rows: [...rows].map(([time, row]) => [time, Object.fromEntries(row)]),
  };
  await append(
    collector,
    device,
    {
      kind: "sample.rolled",
      version: 1,
      count: times.length,
      encoding: Encoding.jsonZstd,
      payload: compress(new TextEncoder().encode(JSON.stringify(data))),
    },
    data,
    [write],
  );
}

async function append(
  { journal, now }: Collector,
  device: string,
  entry: Pick<
    Parameters<Collector["journal"]["append"]>[0],
    "kind" | "version" | "count" | "encoding" | "payload"
  >,
  data: unknown,
  writes: Parameters<Collector["journal"]["append"]>[2] = [],
): Promise<void> {
  await journal.append(
    {
      ...entry,
      run: deviceStream(device),
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      time: now(),
    },
    data,
    writes,
  );
}
