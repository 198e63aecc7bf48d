import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import {
  BlobReader,
  Uint8ArrayWriter,
  ZipReader,
  ZipWriter,
  type ZipWriterAddDataOptions,
} from "@zip.js/zip.js";
import type { Collector } from "../../src/collector.ts";
import type { TestCollector } from "./collector.ts";

export const exportOf = async (from: TestCollector, run: string): Promise<Uint8Array<ArrayBuffer>> => {
  const response = await from.request(`/api/v1/runs/${run}/export`);
  if (!response.ok) throw new Error(await response.text());
  return new Uint8Array(await response.arrayBuffer());
};

export const importTo = (to: TestCollector, zip: Uint8Array<ArrayBuffer>, query = ""): Promise<Response> =>
  Promise.resolve(
    to.app.request(`/api/v1/runs/import${query}`, {
      method: "POST",
      body: zip,
      headers: { "content-type": "application/zip", authorization: `Bearer ${to.trust.tokens.admin}` },
    }),
  );

export type Files = Map<string, Uint8Array<ArrayBuffer>>;

export async function unzip(zip: Uint8Array<ArrayBuffer>): Promise<Files> {
  const reader = new ZipReader(new BlobReader(new Blob([zip])), { useWebWorkers: false });
  const files: Files = new Map();
  for (const entry of await reader.getEntries())
    if (!entry.directory)
      files.set(entry.filename, (await entry.getData(new Uint8ArrayWriter())) as Uint8Array<ArrayBuffer>);
  await reader.close();
  return files;
}

/** As another tool would pack them; `options` by name. */
export async function zipOf(
  files: Files,
  options: Record<string, ZipWriterAddDataOptions> = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const writer = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false });
  for (const [name, bytes] of files)
    await writer.add(name, new BlobReader(new Blob([bytes])), { level: 6, ...options[name] });
  return (await writer.close()) as Uint8Array<ArrayBuffer>;
}

export const textOf = (files: Files, name: string): string => new TextDecoder().decode(files.get(name));
export const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
// eslint-disable-next-line typescript/no-explicit-any -- a test knows what is in it
export const jsonOf = (files: Files, name: string): any => JSON.parse(textOf(files, name));
export const putJson = (files: Files, name: string, value: unknown) =>
  void files.set(name, bytesOf(JSON.stringify(value)));

/** Sizes and digests in the manifest as the files are now: what somebody would do who forges one. */
export function digestAnew(files: Files): void {
  const manifest = jsonOf(files, "manifest.json");
  manifest.files = [...files]
    .filter(([path]) => path !== "manifest.json")
    .map(([path, bytes]) => ({
      path,
      size: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    }));
  putJson(files, "manifest.json", manifest);
}

/** Tables that hold something of a run, and files under way; none where nothing is left. */
export function tracesOf({ connection, dataDir }: Collector, run: string): string[] {
  const traces: string[] = [];
  const queries = {
    journal: "SELECT 1 FROM journal WHERE run = ? LIMIT 1",
    run: "SELECT 1 FROM run WHERE id = ?",
    series: "SELECT 1 FROM series WHERE run = ? LIMIT 1",
    log_chunk: "SELECT 1 FROM log_chunk WHERE run = ? LIMIT 1",
    sample_chunk: "SELECT 1 FROM sample_chunk WHERE subject = 'run/' || ? LIMIT 1",
    counter: "SELECT 1 FROM counter WHERE run = ? LIMIT 1",
    unfinished_import: "SELECT 1 FROM unfinished_import WHERE run = ?",
    run_artifact: "SELECT 1 FROM run_artifact WHERE run = ? LIMIT 1",
  };
  for (const [table, sql] of Object.entries(queries))
    if (connection.prepare(sql).get(run) !== undefined) traces.push(table);
  const folder = join(dataDir, "imports");
  if (existsSync(folder)) traces.push(...readdirSync(folder));
  return traces;
}

/** Every bit of what a run's series hold, in their order. */
export async function seriesOf({ series }: Collector, run: string): Promise<unknown> {
  const dump = series.dump(run, Number.MAX_SAFE_INTEGER);
  const hash = createHash("sha256");
  let points = 0;
  const ends: number[][] = [];
  for await (const rows of dump.points) {
    points += rows.length;
    if (rows.length > 0 && ends.length < 3) ends.push([rows.ordinal[0]!, rows.step[0]!, rows.value[0]!]);
    for (let i = 0; i < rows.length; i++) {
      const { key, rank } = dump.series[rows.series[i]!]!;
      hash.update(`${key} ${rank} `);
      hash.update(Float64Array.of(rows.ordinal[i]!, rows.step[i]!, rows.time[i]!, rows.value[i]!));
    }
  }
  // (Where a series began is its place in the list, until its first points come.)
  const declared = dump.series.map(({ first: _, ...series }) => series);
  return { series: declared, points, ends, texts: [...dump.texts], digest: hash.digest("hex") };
}
