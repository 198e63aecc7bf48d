import { createHash } from "node:crypto";
import { digestOf } from "../artifact/log.ts";
import type { Collector } from "../collector.ts";
import type { RunRow } from "../run/change.ts";
import { isLive } from "../run/schema.ts";
import { readAbout } from "./check.ts";
import { describeVersions, requireFiles } from "./export-files.ts";
import { logPieces } from "./log-pieces.ts";
import { paths, type Manifest } from "./schema.ts";
import { readSpans, spanLines } from "./spans.ts";
import { pointLines, textLines } from "./tables.ts";
import type { Archive } from "./zip-read.ts";

/** How a run that is here stands to an archive of it: it has all of it, ends before it does, or is another one. */
export type Present = "whole" | "earlier" | "other";

/**
 * By content: records, output, spans and files of versions. What came here since changes nothing; readings of the hardware become
 * coarser as they age, and are not compared.
 */
export async function presenceOf(
  collector: Collector,
  row: RunRow,
  archive: Archive,
  manifest: Manifest,
): Promise<Present> {
  const { id } = row;
  const { run, versions, spans } = await readAbout(archive, manifest);
  await collector.journal.settled();
  const counter = collector.counters.get(id);
  // Where it is shorter here the archive's digests, which are of all, tell nothing.
  if (counter.nextOrdinal < run.next_ordinal || counter.nextLine < run.next_line) return "earlier";
  const named = new Map(manifest.files.map(({ path, sha256 }) => [path, sha256]));
  const dump = () => collector.series.dump(id, run.next_ordinal);
  const [points, texts] = [dump(), dump()];
  const isSame =
    (await digested(pointLines(points.points, points.series))) === named.get(paths.pointsCsv) &&
    (await digested(textLines(texts))) === named.get(paths.texts) &&
    (await digested(logLines(collector, id, run.next_line))) === named.get(paths.lines);
  if (!isSame) return "other";
  const here = await describeVersions(collector, id);
  const keyOf = ({ kind, name, files }: (typeof here)[number]) => `${kind} ${name} ${digestOf(files)}`;
  const keys = new Set(here.map(keyOf));
  const spanIds = new Set<string>();
  for await (const line of spanLines(collector, id)) spanIds.add((JSON.parse(line) as { id: string }).id);
  const isWhole =
    (isLive(run.status) || run.status === row.status) &&
    versions.every((version) => keys.has(keyOf(version))) &&
    (await readSpans(spans)).every((span) => spanIds.has(span.id));
  if (!isWhole) return "earlier";
  requireFiles(collector, id, here);
  return "whole";
}

async function* logLines(collector: Collector, run: string, nextLine: number): AsyncGenerator<string> {
  for await (const piece of logPieces(collector, run, nextLine))
    yield piece.map((line) => `${JSON.stringify(line)}\n`).join("");
}

async function digested(parts: AsyncIterable<string | Uint8Array> | Iterable<string>): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of parts) hash.update(part);
  return hash.digest("hex");
}
