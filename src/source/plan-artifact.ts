import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { digestOf, INSERT_FILES, nextId } from "../artifact/log.ts";
import { Alias, LogArtifact, type ArtifactFile } from "../artifact/schema.ts";
import { ARTIFACT_STREAM } from "../entry.ts";
import { MAX_TIME } from "../metric/schema.ts";
import type { Frame } from "../relay/contract.ts";
import { ArtifactRef, HeldVersion } from "../relay/held.ts";
import type { Write } from "../store/journal-rows.ts";
import { prepared } from "../store/prepared.ts";
import { writeOfEditedVersion, type EditedVersion } from "../store/source-edit.ts";
import { changedThere, newsOf, type News } from "./edited-version.ts";
import { artifactSource } from "./names.ts";
import type { Plan } from "./plan.ts";

const version = HeldVersion.shape.version;
const time = z.number().min(0).max(MAX_TIME);

/** `about` and `uses`: as a platform tells what it heard from history. */
export const LoggedVersion = LogArtifact.extend({
  from: ArtifactRef.shape.from,
  version,
  time,
  about: HeldVersion.shape.about.optional(),
  uses: HeldVersion.shape.uses.optional(),
});
export const ChangedVersion = ArtifactRef.extend({
  version,
  description: HeldVersion.shape.description.optional(),
  metadata: HeldVersion.shape.metadata.optional(),
  add_aliases: z.array(Alias).max(10_000).default([]),
  remove_aliases: z.array(Alias).max(10_000).default([]),
});
export const UsedVersion = ArtifactRef.extend({ version, time });
export const DeletedVersion = ArtifactRef.extend({ version: version.nullable() });

interface PlannedVersion {
  version: number;
  digest: string;
  /** What a person changed of it here (store/source-edit.ts). */
  edited: EditedVersion;
}

/** A source's name, with its versions by the numbers that the source gave them. */
export interface PlannedArtifact {
  id: number;
  isNew: boolean;
  source: string;
  nextVersion: number;
  versions: Map<number, PlannedVersion>;
  taken: Set<number>;
}

function find(plan: Plan, ref: ArtifactRef): PlannedArtifact | undefined {
  const source = artifactSource(plan.source.id, ref.from);
  const key = `${source} ${ref.kind} ${ref.name}`;
  const planned = plan.artifacts.get(key);
  if (planned) return planned;
  const { connection } = plan.collector;
  const row = prepared(
    connection,
    "SELECT id, next_version FROM artifact WHERE source = ? AND kind = ? AND name = ?",
  ).get(source, ref.kind, ref.name) as { id: number; next_version: number } | undefined;
  if (!row) return undefined;
  const found: PlannedArtifact = {
    id: row.id,
    isNew: false,
    source,
    nextVersion: row.next_version,
    versions: new Map(),
    taken: new Set(),
  };
  // Of two lives of a source that gave the same number the later one is meant.
  for (const { version, number, digest, edited } of prepared(
    connection,
    "SELECT version, coalesce(source_version, version) AS number, digest, edited FROM artifact_version WHERE artifact = ? ORDER BY version",
  ).all(row.id) as { version: number; number: number; digest: string; edited: string | null }[]) {
    found.versions.set(number, { version, digest, edited: edited === null ? {} : JSON.parse(edited) });
    found.taken.add(version);
  }
  plan.artifacts.set(key, found);
  return found;
}

function findOrAdd(plan: Plan, ref: ArtifactRef): PlannedArtifact {
  const found = find(plan, ref);
  if (found) return found;
  const source = artifactSource(plan.source.id, ref.from);
  plan.freeArtifact ??= nextId(plan.collector);
  const added: PlannedArtifact = {
    id: plan.freeArtifact++,
    isNew: true,
    source,
    nextVersion: 1,
    versions: new Map(),
    taken: new Set(),
  };
  plan.artifacts.set(`${source} ${ref.kind} ${ref.name}`, added);
  return added;
}

export function planLogged(plan: Plan, frame: Frame, data: z.infer<typeof LoggedVersion>): void {
  const run = frame.run === ARTIFACT_STREAM ? undefined : plan.requireRun(frame);
  if (run?.isDeleted) return;
  const { time, origin, uses = [], about, ...logged } = data;
  const own = run ? [{ run: run.run, role: "output" as const, time, origin }] : [];
  putVersion(plan, frame, run?.local ?? ARTIFACT_STREAM, {
    ...logged,
    description: data.description ?? null,
    metadata: data.metadata ?? {},
    created: time,
    about: about ?? null,
    uses: [...own, ...uses],
    isWhole: false,
  });
}

export function planHeldVersion(plan: Plan, frame: Frame, held: HeldVersion): void {
  putVersion(plan, frame, ARTIFACT_STREAM, { ...held, isWhole: true });
}

interface Version extends Omit<HeldVersion, "about" | "from"> {
  from?: string | undefined;
  about: HeldVersion["about"] | null;
  /** All its aliases are named. */
  isWhole: boolean;
}

function putVersion(plan: Plan, frame: Frame, stream: string, held: Version): void {
  const digest = digestOf(held.files);
  if (isDeletedHere(plan, held as ArtifactRef, held.version, digest)) return;
  const artifact = findOrAdd(plan, held as ArtifactRef);
  const known = artifact.versions.get(held.version);
  const isKnown = known?.digest === digest;
  const number = isKnown ? known.version : freeNumber(artifact, held.version);
  const writes = writesOfName(artifact, held, number);
  artifact.isNew = false;
  artifact.nextVersion = Math.max(artifact.nextVersion, number + 1);
  const news = newsOf(isKnown ? known.edited : {}, held);
  if (!isKnown) {
    artifact.versions.set(held.version, { version: number, digest, edited: {} });
    artifact.taken.add(number);
    writes.push(...writesOfVersion(plan, artifact.id, number, digest, held));
  } else writes.push(...writesOfNews(artifact.id, known, news));
  // As it stands here from now on, for whoever keeps a copy.
  const { description, metadata } = isKnown ? keptAbout(plan, artifact.id, number, news) : held;
  if (news.remove === undefined)
    writes.push({
      sql: "DELETE FROM artifact_alias WHERE artifact = ? AND version = ? AND alias NOT IN (SELECT value FROM json_each(?))",
      params: [artifact.id, number, JSON.stringify(held.aliases)],
    });
  else if (news.remove.length > 0) writes.push(removeAliases(artifact.id, number, news.remove));
  for (const alias of news.add) writes.push(aliasWrite(artifact.id, alias, number));
  const uses = held.uses.flatMap((use) => {
    const run = plan.run(use.run);
    return run && !run.isDeleted ? [{ ...use, run: run.local }] : [];
  });
  for (const { run, role, time, origin } of uses)
    writes.push({ sql: PUT_USE, params: [run, artifact.id, number, role, time, JSON.stringify(origin)] });
  const { kind, name, type, files, about } = held;
  plan.appendFact(frame, "artifact.logged", stream, {
    payload: {
      kind,
      name,
      from: artifact.source,
      type,
      files,
      ...(description !== null && { description }),
      metadata,
      aliases: news.add,
      origin: {},
      version: number,
      time: held.created,
      ...(about && { about }),
      uses,
    },
    writes,
  });
}

function writesOfNews(artifact: number, known: PlannedVersion, news: News): Write[] {
  const writes = writesOfAbout(artifact, known.version, news);
  if (!isDeepStrictEqual(news.edited, known.edited))
    writes.push(writeOfEditedVersion(artifact, known.version, news.edited));
  known.edited = news.edited;
  return writes;
}

function writesOfAbout(artifact: number, number: number, { description, metadata }: ChangedAbout): Write[] {
  const writes: Write[] = [];
  if (description !== undefined)
    writes.push({
      sql: "UPDATE artifact_version SET description = ? WHERE artifact = ? AND version = ?",
      params: [description, artifact, number],
    });
  if (metadata !== undefined)
    writes.push({
      sql: "UPDATE artifact_version SET metadata = ? WHERE artifact = ? AND version = ?",
      params: [JSON.stringify(metadata), artifact, number],
    });
  return writes;
}

interface ChangedAbout {
  description?: string | null | undefined;
  metadata?: Record<string, unknown> | undefined;
}

/** What a person has said of it here, where its source says nothing new. */
function keptAbout(
  { collector }: Plan,
  artifact: number,
  number: number,
  { description, metadata }: News,
): { description: string | null; metadata: Record<string, unknown> } {
  if (description !== undefined && metadata !== undefined) return { description, metadata };
  const row = prepared(
    collector.connection,
    "SELECT description, metadata FROM artifact_version WHERE artifact = ? AND version = ?",
  ).get(artifact, number) as { description: string | null; metadata: string };
  return {
    description: description === undefined ? row.description : description,
    metadata: metadata ?? (JSON.parse(row.metadata) as Record<string, unknown>),
  };
}

const removeAliases = (artifact: number, number: number, aliases: readonly string[]): Write => ({
  sql: "DELETE FROM artifact_alias WHERE artifact = ? AND version = ? AND alias IN (SELECT value FROM json_each(?))",
  params: [artifact, number, JSON.stringify(aliases)],
});

/** A person did not want it: it does not come back because its source has it. */
const isDeletedHere = (
  { collector, source }: Plan,
  { kind, name, from }: ArtifactRef,
  version: number,
  digest: string,
): boolean =>
  prepared(
    collector.connection,
    "SELECT 1 FROM source_deleted WHERE source = ? AND kind = ? AND name = ? AND version = ? AND digest = ?",
  ).get(artifactSource(source.id, from), kind, name, version, digest) !== undefined;

/** The source's own number, unless another version has it. */
function freeNumber({ taken, nextVersion }: PlannedArtifact, number: number): number {
  return taken.has(number) ? Math.max(nextVersion, number + 1) : number;
}

function writesOfName(
  { id, isNew, source }: PlannedArtifact,
  { kind, name, type, about, created }: Version,
  number: number,
): Write[] {
  const { description = null, updated = created } = about ?? {};
  return [
    isNew
      ? {
          sql: `INSERT INTO artifact (id, kind, name, type, description, created, updated, next_version, source)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          params: [id, kind, name, type, description, about?.created ?? created, updated, number + 1, source],
        }
      : {
          sql: `UPDATE artifact SET type = ?, description = coalesce(?, description), updated = max(updated, ?),
            next_version = max(next_version, ?) WHERE id = ?`,
          params: [type, description, updated, number + 1, id],
        },
  ];
}

const PUT_USE = `INSERT INTO run_artifact (run, artifact, version, role, time, origin) VALUES (?, ?, ?, ?, ?, ?)
  ON CONFLICT DO NOTHING`;

/** Bytes come later, each once: until then only their digest is known. */
const PUT_PENDING = `INSERT INTO blob (sha256, size, touched, data, pending)
  SELECT value ->> 'sha256', value ->> 'size', ?, NULL, 1 FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`;

function writesOfVersion(
  { collector }: Plan,
  artifact: number,
  number: number,
  digest: string,
  { type, files, description, metadata, created, version }: Version,
): Write[] {
  const list = JSON.stringify(files.map(({ path, size, sha256 }): ArtifactFile => ({ path, size, sha256 })));
  return [
    {
      sql: `INSERT INTO artifact_version (artifact, version, digest, size, files, description, metadata, created, source_version, type)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      params: [
        artifact,
        number,
        digest,
        files.reduce((sum, file) => sum + file.size, 0),
        files.length,
        description,
        JSON.stringify(metadata),
        created,
        number === version ? null : version,
        type,
      ],
    },
    { sql: PUT_PENDING, params: [collector.now(), list] },
    { sql: INSERT_FILES, params: [artifact, number, list] },
  ];
}

const aliasWrite = (artifact: number, alias: string, number: number): Write => ({
  sql: `INSERT INTO artifact_alias (artifact, alias, version) VALUES (?, ?, ?)
    ON CONFLICT (artifact, alias) DO UPDATE SET version = excluded.version`,
  params: [artifact, alias, number],
});

/** Of a version that is not here: nobody sent it, and nothing can be said of it. */
export function planVersionChange(plan: Plan, frame: Frame, data: z.infer<typeof ChangedVersion>): void {
  const artifact = find(plan, data);
  const known = artifact?.versions.get(data.version);
  if (!artifact || !known) return;
  const { version: number } = known;
  const { add_aliases, remove_aliases } = data;
  const writes = writesOfAbout(artifact.id, number, data);
  const edited = changedThere(known.edited, data);
  if (!isDeepStrictEqual(edited, known.edited))
    writes.push(writeOfEditedVersion(artifact.id, number, edited));
  known.edited = edited;
  writes.push(removeAliases(artifact.id, number, remove_aliases));
  for (const alias of add_aliases) writes.push(aliasWrite(artifact.id, alias, number));
  plan.appendFact(frame, "artifact.changed", ARTIFACT_STREAM, {
    payload: { ...data, from: artifact.source, version: number },
    writes,
  });
}

export function planVersionUse(plan: Plan, frame: Frame, data: z.infer<typeof UsedVersion>): void {
  const run = plan.requireRun(frame);
  const artifact = find(plan, data);
  const number = artifact?.versions.get(data.version)?.version;
  if (run.isDeleted || !artifact || number === undefined) return;
  plan.appendFact(frame, "artifact.used", run.local, {
    payload: { ...data, from: artifact.source, version: number },
    writes: [{ sql: PUT_USE, params: [run.local, artifact.id, number, "input", data.time, "{}"] }],
  });
}

/** What is deleted there stays here, under its number alone. */
export function planVersionDelete(plan: Plan, frame: Frame, data: z.infer<typeof DeletedVersion>): void {
  const artifact = find(plan, data);
  if (!artifact) return;
  const gone =
    data.version === null
      ? [...artifact.versions.values()].map(({ version }) => version)
      : [artifact.versions.get(data.version)?.version];
  for (const number of gone) {
    if (number === undefined) continue;
    const aliases = prepared(
      plan.collector.connection,
      "SELECT alias FROM artifact_alias WHERE artifact = ? AND version = ?",
    ).all(artifact.id, number) as { alias: string }[];
    const remove_aliases = aliases.map(({ alias }) => alias);
    if (remove_aliases.length === 0) continue;
    plan.appendFact(frame, "artifact.changed", ARTIFACT_STREAM, {
      payload: {
        kind: data.kind,
        name: data.name,
        from: artifact.source,
        version: number,
        add_aliases: [],
        remove_aliases,
      },
      writes: [
        {
          sql: "DELETE FROM artifact_alias WHERE artifact = ? AND version = ?",
          params: [artifact.id, number],
        },
      ],
    });
  }
}
