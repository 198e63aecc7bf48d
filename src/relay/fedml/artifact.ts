import { createHash } from "node:crypto";
import { createArchiveWriter } from "../../archive/zip-write.ts";
import type { ArtifactFile, ArtifactKind } from "../../artifact/schema.ts";
import type { Blobs } from "../../blob/blobs.ts";
import { isRunStream } from "../../entry.ts";
import type { Frame } from "../contract.ts";
import type { HeldVersion } from "../held.ts";
import { idOf, readJson, writeJson } from "./json.ts";
import type { Message } from "./message.ts";

/** What the entry of a version says. */
export interface Version {
  /** Those that logged it. */
  runs: readonly string[];
  kind: ArtifactKind;
  name: string;
  type: string;
  version: number;
  files: readonly ArtifactFile[];
  description?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
  /** ms since the epoch. */
  time: number;
}

const NUMBERS: Record<string, number> = { general: 1, model: 2, dataset: 3, "source code": 4, log: 5 };
/** S3's is 1024. */
const MAX_KEY_BYTES = 900;

export function readVersion(frame: Frame): Version {
  const read = readJson(frame) as Version & Partial<HeldVersion>;
  if (!Array.isArray(read.files)) throw new Error("It names no files.");
  if (frame.kind !== "artifact.held") return { ...read, runs: isRunStream(frame.run) ? [frame.run] : [] };
  const outputs = read.uses?.filter(({ role }) => role === "output") ?? [];
  const description = read.description ?? undefined;
  return { ...read, description, time: read.created ?? frame.time, runs: outputs.map(({ run }) => run) };
}

/** FedML's own words for types are few. */
const typeOf = ({ kind, type }: Version) =>
  kind === "model" ? "model" : Object.hasOwn(NUMBERS, type) ? type : "general";

/** The client's "{name}_{type}.zip" with the run and the version in it: there the last upload under a name stays alone. */
export function keyOf(version: Version): string {
  const of = `@${version.runs[0] ?? "0"}-v${version.version}.zip`;
  const name = `${version.name}_${typeOf(version)}`;
  if (Buffer.byteLength(name) <= MAX_KEY_BYTES - of.length) return name + of;
  return createHash("sha256").update(name).digest("hex") + of;
}

/** One for each run that logged it. */
export const artifactMessages = (version: Version, url: string): Message[] =>
  (version.runs.length > 0 ? version.runs.map(idOf) : [0]).map((job) => ({
    topic: "launch_device/mlops/artifacts",
    payload: writeJson({
      job_id: job,
      edge_id: 0,
      artifact_name: version.name,
      artifact_local_path: "",
      artifact_url: url,
      artifact_type: NUMBERS[typeOf(version)],
      artifact_desc: version.description ?? "",
      artifact_ext_info: {
        ...version.metadata,
        ...(typeOf(version) !== version.type && { type: version.type }),
      },
      timestamp: Math.floor(version.time),
    }),
  }));

/** Its files as one zip: the same bytes whenever it is made. */
export async function* zipOf(version: Version, blobs: Blobs): AsyncGenerator<Uint8Array> {
  const ending = new AbortController();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    {},
    { highWaterMark: 4 },
    { highWaterMark: 4 },
  );
  const zip = createArchiveWriter(writable, new Date(version.time), ending.signal);
  const written = (async () => {
    for (const { path, sha256 } of version.files)
      await zip.add(path, blobs.read(sha256) as unknown as AsyncIterable<Uint8Array>, { sha256 });
    await zip.close();
  })();
  written.catch((error: unknown) => void writable.abort(error).catch(() => {}));
  try {
    yield* readable as unknown as AsyncIterable<Uint8Array>;
    await written;
  } finally {
    ending.abort(new Error("The upload has ended."));
    await written.catch(() => {});
  }
}

/** More than its files come to: names, heads and checksums. */
export const zipSize = ({ files }: Version): number =>
  files.reduce((sum, { path, size }) => sum + size + 2 * Buffer.byteLength(path) + 256, 1024);
