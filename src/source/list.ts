import type { Collector } from "../collector.ts";
import { sourceLabel } from "../store/source-label.ts";
import type { Source, SourceList } from "./schema.ts";
import { findSource } from "./state.ts";
import { listSourceTokens } from "./tokens.ts";

interface Row {
  id: string;
  name: string;
  label: string;
  epoch: number;
  acked: number;
  host: string | null;
  version: string | null;
  path: string;
  first_seen: number;
  last_seen: number;
  skew: number | null;
  entries: number;
  records: number;
  bytes: number;
  runs: number;
  devices: number;
}

/** Every installation that ever relayed here, and every token that was given out. */
export function listSources(collector: Collector): SourceList {
  const { connection } = collector;
  const rows = connection
    .prepare(
      `SELECT id, name, label, epoch, acked, host, version, path, first_seen, last_seen, skew, entries, records, bytes,
         (SELECT count(*) FROM run WHERE run.source = source.id AND deleted = 0) AS runs,
         (SELECT count(*) FROM device WHERE device.source = source.id) AS devices
       FROM source ORDER BY label COLLATE NOCASE, label`,
    )
    .all() as Row[];
  const pending = pendingBySource(collector);
  return {
    sources: rows.map((row) => toSource(collector, row, pending.get(row.id) ?? { files: 0, bytes: 0 })),
    tokens: listSourceTokens(collector),
  };
}

function toSource(collector: Collector, row: Row, pending: Source["pending"]): Source {
  const { id, name, label, host, version, epoch, acked, skew, entries, records, bytes, runs, devices } = row;
  const held = findSource(collector, id);
  return {
    id,
    name,
    label,
    host,
    version,
    first_seen: new Date(row.first_seen).toISOString(),
    // What it says in between is not written each time.
    last_seen: new Date(Math.max(row.last_seen, held?.state.heard ?? 0)).toISOString(),
    skew,
    epoch,
    acked,
    behind: held?.told === undefined ? null : Math.max(0, held.told - acked),
    entries,
    records,
    bytes,
    runs,
    devices,
    pending,
    through: (JSON.parse(row.path) as string[])
      .filter((one) => one !== id)
      .map((one) => sourceLabel(collector.connection, one)!),
  };
}

/** What a source relays of others stands under its id and theirs. */
function pendingBySource({ connection }: Collector): Map<string, Source["pending"]> {
  const rows = connection
    .prepare(
      `SELECT of, count(*) AS files, sum(size) AS bytes FROM
         (SELECT DISTINCT substr(artifact.source, 1, 32) AS of, blob.sha256, blob.size FROM blob
           JOIN artifact_file ON artifact_file.sha256 = blob.sha256
           JOIN artifact ON artifact.id = artifact_file.artifact
         WHERE pending = 1) GROUP BY of`,
    )
    .all() as { of: string; files: number; bytes: number }[];
  return new Map(rows.map(({ of, files, bytes }) => [of, { files, bytes }]));
}
