import type { SchemaElement } from "hyparquet";
import { ByteWriter, ParquetWriter, type ColumnSource, type Writer } from "hyparquet-writer";
import { zstdCompress } from "../runtime.ts";
import { VERSION } from "../version.ts";
import { free } from "./free.ts";

export type ColumnType = "INT32" | "INT64" | "DOUBLE" | "STRING";
export type Columns = Record<string, ColumnType>;
export type ColumnValues = Int32Array | BigInt64Array | Float64Array | string[];

/** Rows encoded at once: some ten milliseconds of the event loop. */
export const GROUP_ROWS = 16_384;

/** Takes what is encoded out of the writer's memory; offsets go on. */
class Draining extends ByteWriter {
  // Of the library, which does not speak of it in its types.
  declare index: number;
  drain(): Uint8Array {
    const bytes = new Uint8Array(this.buffer.slice(0, this.index));
    this.index = 0;
    return bytes;
  }
}

/**
 * A Parquet file whose row groups are the parts of `groups`, as bytes that never are in memory together. Numbers are gone once
 * they are written: their memory is given back then, and not when the collector of garbage comes by.
 */
export async function* writeParquet(
  columns: Columns,
  groups: AsyncIterable<ColumnValues[]>,
): AsyncGenerator<Uint8Array, void> {
  const out = new Draining(1024 * 1024);
  const names = Object.keys(columns);
  const writer = new ParquetWriter({
    writer: out as Writer,
    schema: schemaOf(columns),
    codec: "ZSTD",
    compressors: { ZSTD: zstdCompress },
    statistics: false,
    createdBy: `binnacle ${VERSION}`,
  });
  for await (const values of groups) {
    const columnData = names.map((name, at): ColumnSource => ({
      name,
      data: values[at]!,
      // PLAIN keeps every bit, where a dictionary takes -0 for 0.
      encoding: columns[name] === "STRING" ? "RLE_DICTIONARY" : "PLAIN",
      offsetIndex: false,
    }));
    await writer.write({ columnData, rowGroupSize: GROUP_ROWS });
    for (const column of values) if (!Array.isArray(column)) free(column);
    yield out.drain();
  }
  await writer.finish();
  yield out.drain();
}

export function schemaOf(columns: Columns): SchemaElement[] {
  const root: SchemaElement = { name: "root", num_children: Object.keys(columns).length };
  const leaves = Object.entries(columns).map(([name, type]): SchemaElement =>
    type === "STRING"
      ? { name, type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" }
      : { name, type, repetition_type: "REQUIRED" },
  );
  return [root, ...leaves];
}
