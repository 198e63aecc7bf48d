import type { ObjectPlace, Objects, StoredObject } from "../blob/objects.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { deleteVersion } from "./delete.ts";
import { getArtifactByName, listFiles } from "./find.ts";
import { listVersions } from "./list.ts";
import { logArtifact } from "./log.ts";
import { LogArtifact, type Announced, type ArtifactVersion } from "./schema.ts";

/** A version whose bytes come another way than its name. */
export interface Announcement {
  run: string;
  about: Omit<LogArtifact, "files">;
  /** Where its bytes are to be, or why they won't come. */
  at: { place: ObjectPlace } | { missing: string };
  /** Each new object under that name takes the place of the version before it: a file that is written on. */
  follow?: boolean;
}

/** A run that announces more than it brings. */
const MAX_ANNOUNCED = 10_000;

interface Row {
  run: string;
  kind: LogArtifact["kind"];
  name: string;
  state: "awaited" | "failed" | "follows";
  about: string;
}

/** Logs it if its object is here; else it is shown as missing until that comes. */
export async function announce(
  collector: Collector,
  objects: Objects,
  { run, about: said, at, follow = false }: Announcement,
): Promise<void> {
  const about = check(said);
  const object = "place" in at ? objects.find(at.place) : undefined;
  if (!object || follow)
    note(collector, {
      run,
      about,
      place: "place" in at ? at.place : undefined,
      state: "missing" in at ? "failed" : follow ? "follows" : "awaited",
      reason: "missing" in at ? at.missing : null,
    });
  if (object && "place" in at) await logObject(collector, objects, run, about, at.place, object, follow);
}

/** The object that this names is here now. */
export async function announcedObject(
  collector: Collector,
  objects: Objects,
  place: ObjectPlace,
): Promise<void> {
  const object = objects.find(place);
  if (!object) return;
  const rows = collector.connection
    .prepare(
      `SELECT run, about, state FROM announced
        WHERE scope = ? AND bucket = ? AND key = ? AND state <> 'failed'`,
    )
    .all(place.scope, place.bucket, place.key) as Row[];
  for (const { run, about, state } of rows)
    await logObject(collector, objects, run, JSON.parse(about) as About, place, object, state === "follows");
}

/** What came while the collector was ending, after its announcement: looked at once, at the start. What was deleted stays so. */
export async function catchUp(collector: Collector, objects: Objects): Promise<void> {
  const rows = collector.connection
    .prepare(
      `SELECT DISTINCT scope, bucket, key FROM announced JOIN object USING (scope, bucket, key)
        WHERE state = 'awaited' OR (state = 'follows' AND object.sha256 IS NOT announced.logged)`,
    )
    .all() as ObjectPlace[];
  for (const place of rows) await announcedObject(collector, objects, place);
}

/** What a run says it has logged and of which there are no bytes, the newest first. */
export function listAnnounced({ connection }: Collector, run: string): Announced[] {
  const rows = connection
    .prepare(
      `SELECT kind, type, name, state, reason, time FROM announced WHERE run = ? AND (state <> 'follows' OR NOT EXISTS
         (SELECT 1 FROM object WHERE (object.scope, object.bucket, object.key) = (announced.scope, announced.bucket, announced.key)))
       ORDER BY time DESC`,
    )
    .all(run) as (Row & { type: string; reason: string | null; time: number })[];
  return rows.map(({ kind, name, type, state, reason, time }) => ({
    kind,
    name,
    type,
    state: state === "failed" ? "failed" : "awaited",
    reason: state === "failed" ? reason : null,
    time: new Date(time).toISOString(),
  }));
}

type About = Announcement["about"];

const AboutArtifact = LogArtifact.omit({ files: true });

function check(about: About): About {
  const parsed = AboutArtifact.safeParse(about);
  if (parsed.success) return parsed.data;
  throw new CollectorError("invalid", `What is said of ${about.name.slice(0, 100)} can't be kept.`, {
    hint: parsed.error.issues[0]?.message ?? "See what an artifact may be called.",
  });
}

function note(
  { connection, now, counters }: Collector,
  {
    run,
    about,
    place,
    state,
    reason,
  }: {
    run: string;
    about: About;
    place: ObjectPlace | undefined;
    state: Row["state"];
    reason: string | null;
  },
): void {
  counters.own(run);
  const count = connection.prepare("SELECT count(*) AS n FROM announced WHERE run = ?").get(run) as {
    n: number;
  };
  if (count.n >= MAX_ANNOUNCED)
    throw new CollectorError("too-large", `Run ${run} has announced more files than are remembered.`, {
      hint: "Their uploads fail: see what the client says of its storage.",
    });
  connection
    .prepare(
      `INSERT INTO announced (run, kind, type, name, scope, bucket, key, state, reason, about, time)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET scope = excluded.scope, bucket = excluded.bucket, key = excluded.key, state = excluded.state,
         reason = excluded.reason, about = excluded.about, time = excluded.time`,
    )
    .run(
      run,
      about.kind,
      about.type,
      about.name,
      place?.scope ?? null,
      place?.bucket ?? null,
      place?.key ?? null,
      state,
      reason,
      JSON.stringify(about),
      now(),
    );
}

async function logObject(
  collector: Collector,
  objects: Objects,
  run: string,
  about: About,
  place: ObjectPlace,
  { sha256, size }: StoredObject,
  follow: boolean,
): Promise<void> {
  const path = place.key.slice(place.key.lastIndexOf("/") + 1);
  const logged = await logArtifact(collector, run, { ...about, files: [{ path, size, sha256 }] });
  objects.tie(place, run, sha256);
  const row = "run = ? AND kind = ? AND type = ? AND name = ?";
  const columns = [run, about.kind, about.type, about.name];
  const { connection } = collector;
  if (!follow) {
    // One that failed before it has come after all.
    connection.prepare(`DELETE FROM announced WHERE ${row}`).run(...columns);
    return;
  }
  // Followed as far as here.
  connection.prepare(`UPDATE announced SET logged = ? WHERE ${row}`).run(sha256, ...columns);
  await replace(collector, run, logged);
}

/** Those before it go, unless somebody refers to them; their bytes go at once, as there may be one each half minute. */
async function replace(collector: Collector, run: string, logged: ArtifactVersion): Promise<void> {
  const { id } = await getArtifactByName(collector, logged.kind, logged.name);
  const number = Number(logged.version.slice(1));
  for (const version of await listVersions(collector, id, { before: number, limit: 10 })) {
    const isOnlyIts =
      version.type === logged.type && version.produced_by.length === 1 && version.produced_by[0] === run;
    if (!isOnlyIts || version.aliases.length > 0 || version.used_by.length > 0) continue;
    const old = Number(version.version.slice(1));
    const files = await listFiles(collector, id, old);
    await deleteVersion(collector, id, old);
    for (const { sha256 } of files) await collector.blobs.release(sha256);
  }
}
