import { Encoding } from "../entry.ts";
import type { ReadingKey } from "../sample/reading.ts";
import type { Sample } from "../sample/schema.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { decodeColumns } from "./column-decode.ts";
import { encodeColumns } from "./column-encode.ts";
import type { SampleRows } from "./sample-block.ts";
import { compress, decompress } from "./zstd.ts";

export const SAMPLE_BATCH_VERSION = 1;

/** Planes of so many bytes in all still fit one frame, whose length is written in two bytes. */
const MAX_SHARED_BYTES = 60_000;

/** One subject of a batch, before its columns: times, then a column for each key. */
interface SubjectHead {
  subject: string;
  keys: ReadingKey[];
  bytes: number;
}

interface PackedSamples {
  encoding: Encoding;
  payload: Uint8Array;
}

/** The payload of `sample.appended`: says all of itself, so that whoever holds the entry alone can read it. */
export const packSamples = (samples: Sample[]): PackedSamples =>
  packRows(
    [...groupBySubject(samples)].map(([subject, rows]) => ({
      subject,
      times: Float64Array.from(rows, ({ time }) => time),
      columns: columnsOf(rows),
    })),
  );

/** The same, of rows that are columns already. */
export function packRows(subjects: readonly (SampleRows & { subject: string })[]): PackedSamples {
  const heads: SubjectHead[] = [];
  const bodies: Uint8Array[] = [];
  for (const { subject, times, columns } of subjects) {
    const body = encodeColumns([times, ...columns.values()], {
      shared: (columns.size + 1) * times.length * 8 < MAX_SHARED_BYTES,
    });
    heads.push({ subject, keys: [...columns.keys()], bytes: body.length });
    bodies.push(body);
  }
  const head = new TextEncoder().encode(JSON.stringify(heads));
  const writer = new ByteWriter(4 + head.length + bodies.reduce((sum, { length }) => sum + length, 0));
  writer.u32(head.length);
  writer.put(head);
  for (const body of bodies) writer.put(body);
  return { encoding: Encoding.columnsZstd, payload: compress(writer.bytes()) };
}

export const unpackSamples = ({ payload }: { payload: Uint8Array }): Sample[] =>
  samplesIn(decompress(payload));

/** The same of what is unpacked already. */
export function samplesIn(packed: Uint8Array): Sample[] {
  const reader = new ByteReader(packed, 0);
  const heads = JSON.parse(new TextDecoder().decode(reader.take(reader.u32()))) as SubjectHead[];
  return heads.flatMap(({ subject, keys, bytes }) => {
    const [times, ...columns] = decodeColumns(reader.take(bytes), keys.length + 1);
    return Array.from(times!, (time, row): Sample => {
      const values: Sample["values"] = {};
      keys.forEach((key, i) => {
        const value = columns[i]![row]!;
        if (!Number.isNaN(value)) values[key] = value;
      });
      return { subject, time, values };
    });
  });
}

function groupBySubject(samples: Sample[]): Map<string, Sample[]> {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const group = groups.get(sample.subject);
    if (group) group.push(sample);
    else groups.set(sample.subject, [sample]);
  }
  return groups;
}

/** A column for each reading that occurs, NaN where a row has it not. */
function columnsOf(rows: Sample[]): Map<ReadingKey, Float64Array> {
  const columns = new Map<ReadingKey, Float64Array>();
  rows.forEach(({ values }, row) => {
    for (const key in values) {
      let column = columns.get(key);
      if (!column) columns.set(key, (column = new Float64Array(rows.length).fill(NaN)));
      column[row] = values[key]!;
    }
  });
  return columns;
}
