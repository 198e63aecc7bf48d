import { createHash } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Blobs } from "../blob/blobs.ts";
import { CHUNK_BYTES, SMALL_BYTES } from "../blob/schema.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { sayIssue } from "../issue.ts";
import { requireRoom, write } from "./receive.ts";
import {
  ArchivedConfig,
  ArchivedDevices,
  ArchivedRun,
  ArchivedVersions,
  FORMAT,
  FORMAT_VERSION,
  fileEntry,
  isOptional,
  Manifest,
  paths,
} from "./schema.ts";
import { damaged, quoted, type Archive, type ArchiveEntry } from "./zip-read.ts";

const MAX_MANIFEST_BYTES = 256 * 1024 * 1024;
/** Of a text that is read whole. */
const MAX_DOCUMENT_BYTES = 256 * 1024 * 1024;
/** Small files kept in one commit. */
const PACK_FILES = 500;
const PACK_BYTES = 4 * 1024 * 1024;

/** What an archive holds, every byte of it compared with its digest. */
export interface CheckedArchive {
  manifest: Manifest;
  run: ArchivedRun;
  config: z.output<typeof ArchivedConfig>;
  devices: ArchivedDevices;
  versions: ArchivedVersions;
  /** Parquet files, unpacked: they are read at random. */
  points: string;
  samples: string;
  texts: ArchiveEntry;
  lines: ArchiveEntry;
  events: ArchiveEntry;
  /** undefined: it has none. */
  spans: ArchiveEntry | undefined;
}

/** The manifest, before anything else is looked at: it says whose archive this is. */
export async function readManifest(archive: Archive): Promise<Manifest> {
  const entry = archive.entries.get(paths.manifest);
  if (!entry)
    throw new CollectorError("invalid", "That zip holds no run: it has no manifest.json.", {
      hint: "Import what `binnacle run export` wrote.",
    });
  const json = parse(entry.path, await readText(entry, MAX_MANIFEST_BYTES));
  const { format, version } = (json ?? {}) as { format?: unknown; version?: unknown };
  if (format !== FORMAT)
    throw new CollectorError("invalid", "That zip holds no run: its manifest.json is of another program.", {
      hint: "Import what `binnacle run export` wrote.",
    });
  if (typeof version === "number" && version > FORMAT_VERSION)
    throw new CollectorError(
      "unsupported",
      `The archive has format ${version}; this binnacle reads up to ${FORMAT_VERSION}.`,
      { hint: "It was written by a newer binnacle: update this one, then import it." },
    );
  const manifest = shaped(entry.path, Manifest, json);
  checkFiles(archive, manifest);
  return manifest;
}

/** The zip and its manifest name the same files, of the same lengths. */
function checkFiles({ entries }: Archive, { files }: Manifest): void {
  const named = new Set<string>();
  for (const { path, size } of files) {
    if (named.has(path)) throw damaged(`its manifest names ${quoted(path)} twice`);
    named.add(path);
    const entry = entries.get(path);
    if (!entry || path === paths.manifest) throw damaged(`${quoted(path)} is missing`);
    if (entry.size !== size) throw damaged(`${quoted(path)} is not as long as its manifest says`);
  }
  for (const path of entries.keys())
    if (path !== paths.manifest && !named.has(path))
      throw damaged(`its manifest does not name ${quoted(path)}`);
  for (const path of Object.values(paths))
    if (path !== paths.manifest && !isOptional(path) && !named.has(path))
      throw damaged(`${quoted(path)} is missing`);
}

/** What of an archive says whose it is and how far it goes. */
export async function readAbout(
  { entries }: Archive,
  { files }: Manifest,
): Promise<{ run: ArchivedRun; versions: ArchivedVersions; spans: ArchiveEntry | undefined }> {
  const document = async <T extends z.ZodType>(path: string, schema: T): Promise<z.output<T>> => {
    const { sha256 } = files.find((file) => file.path === path)!;
    return shaped(path, schema, parse(path, await readText(entries.get(path)!, MAX_DOCUMENT_BYTES, sha256)));
  };
  return {
    run: await document(paths.run, ArchivedRun),
    versions: await document(paths.artifacts, ArchivedVersions),
    spans: entries.get(paths.spans),
  };
}

/** Compares every file with its digest. Bytes of artifacts go to the store, where nobody sees them as long as nothing refers to them. */
export async function checkArchive(
  collector: Collector,
  archive: Archive,
  manifest: Manifest,
  folder: string,
): Promise<CheckedArchive> {
  const byPath = new Map(manifest.files.map((file) => [file.path, file]));
  const entry = (path: string) => archive.entries.get(path)!;
  const digestOf = (path: string) => byPath.get(path)!.sha256;
  const document = async <T extends z.ZodType>(path: string, schema: T): Promise<z.output<T>> =>
    shaped(path, schema, parse(path, await readText(entry(path), MAX_DOCUMENT_BYTES, digestOf(path))));

  requireRoom(
    collector,
    manifest.files.reduce((sum, { path, size }) => sum + (byPath.has(path) ? size : 0), 0),
  );
  const run = await document(paths.run, ArchivedRun);
  if (run.id !== manifest.run.id) throw damaged("its manifest speaks of another run");
  const config = await document(paths.config, ArchivedConfig);
  const devices = await document(paths.devices, ArchivedDevices);
  const versions = await document(paths.artifacts, ArchivedVersions);
  const spans = archive.entries.get(paths.spans);
  for (const path of [paths.pointsCsv, paths.texts, paths.lines, paths.output, paths.events])
    await compare(entry(path), digestOf(path));
  if (spans) await compare(spans, digestOf(paths.spans));
  const points = join(folder, "points.parquet");
  await unpack(entry(paths.points), digestOf(paths.points), points);
  const samples = join(folder, "samples.parquet");
  await unpack(entry(paths.samples), digestOf(paths.samples), samples);
  await keepFiles(collector.blobs, archive, manifest, versions);
  return {
    manifest,
    run,
    config,
    devices,
    versions,
    points,
    samples,
    texts: entry(paths.texts),
    lines: entry(paths.lines),
    events: entry(paths.events),
    spans,
  };
}

async function readText(entry: ArchiveEntry, max: number, sha256?: string): Promise<string> {
  if (entry.size > max) throw damaged(`${quoted(entry.path)} is too long`);
  const parts: Uint8Array[] = [];
  for await (const part of digested(entry, sha256)) parts.push(part.slice());
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
  } catch {
    throw damaged(`${quoted(entry.path)} is no UTF-8`);
  }
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw damaged(`${quoted(path)} is no JSON`);
  }
}

function shaped<T extends z.ZodType>(path: string, schema: T, value: unknown): z.output<T> {
  let parsed: z.ZodSafeParseResult<z.output<T>>;
  try {
    parsed = schema.safeParse(value);
  } catch (error) {
    throw damaged(`${quoted(path)} is nested too deeply`, error);
  }
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw damaged(`${quoted(path)}, ${issue!.path.map(String).join(".").slice(0, 200)}: ${sayIssue(issue!)}`);
}

/** The bytes of a file; throws at their end where they are not what the manifest says. */
async function* digested(entry: ArchiveEntry, sha256: string | undefined): AsyncGenerator<Uint8Array, void> {
  const hash = createHash("sha256");
  for await (const part of entry.read(sha256 === undefined)) {
    hash.update(part);
    yield part;
  }
  if (sha256 !== undefined && hash.digest("hex") !== sha256)
    throw damaged(`${quoted(entry.path)} is not what its digest says`);
}

async function compare(entry: ArchiveEntry, sha256: string): Promise<void> {
  const parts = digested(entry, sha256);
  while (!(await parts.next()).done);
}

async function unpack(entry: ArchiveEntry, sha256: string, path: string): Promise<void> {
  const descriptor = openSync(path, "wx", 0o600);
  try {
    for await (const part of digested(entry, sha256)) write(descriptor, part);
  } finally {
    closeSync(descriptor);
  }
}

/** Files of versions: each in the manifest by its digest, none besides, and all in the store when this resolves. */
async function keepFiles(
  blobs: Blobs,
  archive: Archive,
  { files }: Manifest,
  versions: ArchivedVersions,
): Promise<void> {
  const known = new Set<string>(Object.values(paths));
  const stored = files.filter(({ path }) => !known.has(path));
  const bySha = new Map(stored.map((file) => [file.sha256, file]));
  const names = new Set<string>();
  for (const { kind, name, version, files } of versions)
    for (const { path, size, sha256 } of files) {
      names.add(fileEntry(kind, name, version, path));
      const file = bySha.get(sha256);
      if (!file || file.size !== size) throw damaged(`the bytes of ${quoted(path)} are missing`);
    }
  const stray = stored.find(({ path }) => !names.has(path));
  if (stray) throw damaged(`${quoted(stray.path)} belongs to no version`);
  if (bySha.size !== stored.length) throw damaged("it has the same bytes twice");

  let pack: { sha256: string; bytes: Uint8Array }[] = [];
  let packed = 0;
  const flush = () => {
    blobs.putSmall(pack);
    pack = [];
    packed = 0;
  };
  for (const { path, size, sha256 } of stored) {
    const entry = archive.entries.get(path)!;
    if (size > SMALL_BYTES) {
      await keepLarge(blobs, entry, size, sha256);
      continue;
    }
    const parts: Uint8Array[] = [];
    for await (const part of digested(entry, sha256)) parts.push(part.slice());
    pack.push({ sha256, bytes: Buffer.concat(parts) });
    packed += size;
    if (pack.length >= PACK_FILES || packed >= PACK_BYTES) flush();
  }
  flush();
}

/** Read twice: the store wants to know the digests of all chunks before the first of them. */
async function keepLarge(blobs: Blobs, entry: ArchiveEntry, size: number, sha256: string): Promise<void> {
  const chunks: string[] = [];
  for await (const chunk of inChunks(digested(entry, sha256)))
    chunks.push(createHash("sha256").update(chunk).digest("hex"));
  const upload = await blobs.open(sha256, { size, chunks });
  if (upload.complete) return;
  const missing = new Set(upload.missing);
  let index = 0;
  for await (const chunk of inChunks(entry.read())) {
    if (missing.has(index)) await blobs.putChunk(sha256, index, chunk);
    index++;
  }
  await blobs.commit(sha256);
}

/** All in the same memory, which the store's worker reads where it is: each is to be done with before the next is asked for. */
async function* inChunks(parts: AsyncGenerator<Uint8Array, void>): AsyncGenerator<Uint8Array, void> {
  const chunk = new Uint8Array(new SharedArrayBuffer(CHUNK_BYTES));
  let length = 0;
  for await (const part of parts)
    for (let at = 0; at < part.length;) {
      const taken = Math.min(part.length - at, CHUNK_BYTES - length);
      chunk.set(part.subarray(at, at + taken), length);
      length += taken;
      at += taken;
      if (length < CHUNK_BYTES) continue;
      yield chunk;
      length = 0;
    }
  if (length > 0) yield chunk.slice(0, length);
}

/** Lines of a text, of which none may be longer than what we write. */
export async function* linesOf(entry: ArchiveEntry, maxBytes: number): AsyncGenerator<unknown, void> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest: Uint8Array[] = [];
  let size = 0;
  const take = (last: Uint8Array): unknown => {
    const bytes = Buffer.concat([...rest, last]);
    rest = [];
    size = 0;
    let text: string;
    try {
      text = decoder.decode(bytes);
    } catch {
      throw damaged(`${quoted(entry.path)} is no UTF-8`);
    }
    return parse(entry.path, text);
  };
  for await (const part of entry.read()) {
    let from = 0;
    for (let end = part.indexOf(10); end >= 0; end = part.indexOf(10, from)) {
      yield take(part.subarray(from, end));
      from = end + 1;
    }
    if (from === part.length) continue;
    rest.push(part.slice(from));
    size += part.length - from;
    if (size > maxBytes) throw damaged(`${quoted(entry.path)} has too long a line`);
  }
  if (size > 0) throw damaged(`${quoted(entry.path)} ends within a line`);
}

/** A line as it should be. */
export const lineOf = <T extends z.ZodType>(entry: ArchiveEntry, schema: T, value: unknown): z.output<T> =>
  shaped(entry.path, schema, value);
