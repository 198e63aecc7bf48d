import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { zstdDecompressSync } from "node:zlib";
import { parquetMetadataAsync, type AsyncBuffer, type FileMetaData, type RowGroup } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import { parquetReadAsync } from "hyparquet/src/read.js";
import { CollectorError } from "../error.ts";
import { zstdDecompress } from "../runtime.ts";
import { type Columns, type ColumnValues } from "./parquet-write.ts";
import { damaged } from "./zip-read.ts";

/** What is read at once must fit into memory, whoever wrote it. */
const MAX_GROUP_ROWS = 262_144;
const MAX_COLUMN_BYTES = 64 * 1024 * 1024;
const MAX_PAGE_BYTES = 32 * 1024 * 1024;
const MAX_METADATA_BYTES = 128 * 1024 * 1024;

/** The row groups of a Parquet file that has exactly these columns, none of them with nulls. */
export async function* readParquet(
  path: string,
  columns: Columns,
): AsyncGenerator<Record<string, ColumnValues>, void> {
  const descriptor = openSync(path, "r");
  try {
    const file = bufferOf(descriptor);
    const metadata = await parquetMetadataAsync(file, { initialFetchSize: 64 * 1024 });
    checkSchema(metadata, columns);
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      await checkGroup(file, group, rows, columns);
      yield await readGroup(file, metadata, columns, rowStart, rows);
      rowStart += rows;
    }
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw damaged(`its Parquet cannot be read (${(error as Error).message})`, error);
  } finally {
    closeSync(descriptor);
  }
}

function bufferOf(descriptor: number): AsyncBuffer {
  const byteLength = fstatSync(descriptor).size;
  return {
    byteLength,
    slice(start, end = byteLength) {
      const length = Math.max(0, Math.min(end, byteLength) - start);
      if (start < 0 || length > MAX_METADATA_BYTES)
        throw damaged("its Parquet names too long a part of itself");
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const count = readSync(descriptor, bytes, done, length - done, start + done);
        if (count === 0) break;
        done += count;
      }
      return bytes.buffer;
    },
  };
}

function checkSchema({ schema }: FileMetaData, columns: Columns): void {
  const found = schema.slice(1).map(({ name, type, repetition_type, num_children }) => {
    const kind = type === "BYTE_ARRAY" ? "STRING" : type;
    return `${name} ${repetition_type === "REQUIRED" && !num_children ? kind : "?"}`;
  });
  const wanted = Object.entries(columns).map(([name, type]) => `${name} ${type}`);
  if (found.join("\n") !== wanted.join("\n")) throw damaged("its Parquet has other columns");
}

/** Looks at every page's header before any is decoded: what they claim is what memory would be taken for. */
async function checkGroup(file: AsyncBuffer, group: RowGroup, rows: number, columns: Columns): Promise<void> {
  if (!(rows >= 0 && rows <= MAX_GROUP_ROWS)) throw damaged(`its Parquet has ${rows} rows in a group`);
  if (group.columns.length !== Object.keys(columns).length) throw damaged("its Parquet lacks columns");
  for (const { meta_data, file_path } of group.columns) {
    if (!meta_data || file_path) throw damaged("its Parquet lacks columns");
    const { codec, dictionary_page_offset, data_page_offset, total_compressed_size } = meta_data;
    if (codec !== "ZSTD" && codec !== "UNCOMPRESSED" && codec !== "SNAPPY")
      throw damaged(`its Parquet is compressed with ${codec}`);
    const start = Number(dictionary_page_offset || data_page_offset);
    const size = Number(total_compressed_size);
    if (!(size >= 0 && size <= MAX_COLUMN_BYTES)) throw damaged("its Parquet has a column that is too long");
    const view = new DataView(await file.slice(start, start + size));
    const reader = { view, offset: 0 };
    for (let seen = 0; seen < rows && reader.offset < view.byteLength - 1;) {
      const header = parquetHeader(reader);
      const values = header.dictionary_page_header ?? header.data_page_header ?? header.data_page_header_v2;
      const page = Number(header.compressed_page_size);
      if (!values || !(values.num_values >= 0 && values.num_values <= rows))
        throw damaged("its Parquet has a page of more rows than its group");
      if (!(page >= 0 && page <= size && Number(header.uncompressed_page_size) <= MAX_PAGE_BYTES))
        throw damaged("its Parquet has a page that is too long");
      if (!header.dictionary_page_header) seen += values.num_values;
      reader.offset += page;
    }
  }
}

const compressors = {
  ZSTD(input: Uint8Array, length: number): Uint8Array {
    const claimed = frameSize(input);
    if (length > MAX_PAGE_BYTES || (claimed !== undefined && claimed !== length))
      throw damaged("its Parquet has a page of another length than it says");
    // Frames that were written as a stream, as on Deno, do not say how long they get.
    return claimed === undefined
      ? zstdDecompressSync(input, { maxOutputLength: length })
      : zstdDecompress(input);
  },
};

/** What a zstd frame says that it unpacks to (RFC 8878, 3.1.1.1); undefined where it does not. */
function frameSize(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6 || view.getUint32(0, true) !== 0xfd2fb528) return undefined;
  const descriptor = bytes[4]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  const flag = descriptor >> 6;
  if (flag === 0) return isSingle ? view.getUint8(at) : undefined;
  if (flag === 1) return view.getUint16(at, true) + 256;
  return flag === 2 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
}

async function readGroup(
  file: AsyncBuffer,
  metadata: FileMetaData,
  columns: Columns,
  rowStart: number,
  rows: number,
): Promise<Record<string, ColumnValues>> {
  const values: Record<string, ColumnValues> = {};
  if (rows > 0) {
    const [group] = parquetReadAsync({
      file,
      metadata,
      compressors,
      rowStart,
      rowEnd: rowStart + rows,
      utf8: true,
    });
    for (const { pathInSchema, data } of group!.asyncColumns)
      values[pathInSchema[0]!] = join(columns[pathInSchema[0]!]!, (await data).data, rows);
  }
  for (const [name, type] of Object.entries(columns)) values[name] ??= join(type, [], 0);
  return values;
}

function join(type: Columns[string], parts: readonly ArrayLike<unknown>[], rows: number): ColumnValues {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length !== rows) throw damaged("its Parquet has columns of unequal length");
  const [only] = parts;
  if (type === "DOUBLE") {
    if (parts.length === 1 && only instanceof Float64Array) return only;
    return Float64Array.from(parts.flatMap((part) => Array.from(part as ArrayLike<number>)));
  }
  if (type === "INT64") {
    if (parts.length === 1 && only instanceof BigInt64Array) return only;
    return BigInt64Array.from(parts.flatMap((part) => Array.from(part as ArrayLike<bigint>)));
  }
  if (type === "INT32") {
    if (parts.length === 1 && only instanceof Int32Array) return only;
    return Int32Array.from(parts.flatMap((part) => Array.from(part as ArrayLike<number>)));
  }
  if (parts.length === 1 && Array.isArray(only)) return only as string[];
  return parts.flatMap((part) => Array.from(part as ArrayLike<string>));
}
