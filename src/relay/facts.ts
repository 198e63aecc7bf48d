import { and, asc, eq, gt, gte, inArray, isNotNull, lte, notLike, or, sql, type SQL } from "drizzle-orm";
import { listFiles } from "../artifact/find.ts";
import type { Collector } from "../collector.ts";
import { ARTIFACT_STREAM, deviceOfStream, deviceStream, Encoding, isRunStream } from "../entry.ts";
import { UPSTREAM } from "../run/delete.ts";
import { subjectOfRun, type NewDeviceEvent } from "../sample/schema.ts";
import { spanPages } from "../span/write.ts";
import {
  artifact as artifactTable,
  artifactAlias,
  artifactVersion,
  device as deviceTable,
  deviceEvent,
  run as runTable,
  runArtifact,
  runDevice,
  writer as writerTable,
} from "../store/tables.ts";
import { runSource } from "../store/source-label.ts";
import { compress } from "../store/zstd.ts";
import { createTurns } from "../archive/turns.ts";
import { boundsOf, type HistoryBounds } from "./bounds.ts";
import type { Frame } from "./contract.ts";
import { frameBytes } from "./frame.ts";
import { HELD_VERSION, type HeldDevice, type HeldRun, type HeldVersion } from "./held.ts";
import { blankFrame, type HistoryPiece } from "./piece.ts";

const PIECE_BYTES = 1024 * 1024;
const PIECE_FRAMES = 200;
const RUNS_PAGE = 100;
const EVENTS_PAGE = 500;
const SPANS_PAGE = 500;
const FILES_PAGE = 100_000;
/** Below this zstd only adds a header. */
const MIN_COMPRESSED = 512;

/** All that is known of devices, runs and versions, in the order in which one needs the other. */
export async function* factsHistory(
  collector: Collector,
  bounds: HistoryBounds,
  single = false,
): AsyncGenerator<HistoryPiece, void> {
  let frames: Frame[] = [];
  let bytes = 0;
  const pause = createTurns();
  for await (const frame of factFrames(collector, bounds)) {
    frames.push(frame);
    bytes += frameBytes(frame);
    await pause();
    if (!single && bytes < PIECE_BYTES && frames.length < PIECE_FRAMES) continue;
    yield { from: 0, to: 0, frames };
    frames = [];
    bytes = 0;
  }
  if (frames.length > 0) yield { from: 0, to: 0, frames };
}

async function* factFrames(collector: Collector, bounds: HistoryBounds): AsyncGenerator<Frame, void> {
  const devices = await devicesOf(collector, bounds);
  for (const row of devices) yield deviceFrame(row);
  for await (const run of runIds(collector, bounds)) {
    const frame = await runFrame(collector, bounds, run);
    if (frame) yield frame;
  }
  for await (const run of runIds(collector, bounds)) yield* spanFrames(collector, run);
  if (!bounds.runs) yield* deletedFrames(collector);
  yield* versionFrames(collector, bounds);
  yield* eventFrames(
    collector,
    bounds,
    devices.map(({ id }) => id),
  );
}

type DeviceRow = typeof deviceTable.$inferSelect;

function devicesOf({ db }: Collector, { runs }: HistoryBounds): Promise<DeviceRow[]> {
  const streams = [...(runs ?? [])];
  const named = streams.map(deviceOfStream).filter((device) => device !== undefined);
  const used = db.select({ id: runDevice.device }).from(runDevice).where(inArray(runDevice.run, streams));
  return db
    .select()
    .from(deviceTable)
    .where(runs && or(inArray(deviceTable.id, named), inArray(deviceTable.id, used)))
    .orderBy(asc(deviceTable.firstSeen), asc(deviceTable.id));
}

/** Those that are kept, the newest first: they are what somebody looks for. */
export async function* runIds({ db }: Collector, { runs }: HistoryBounds): AsyncGenerator<string, void> {
  if (runs) return yield* runs;
  for (let after: { created: number; id: string } | undefined; ;) {
    const behind = after && sql`(${runTable.created}, ${runTable.id}) < (${after.created}, ${after.id})`;
    const rows = await db
      .select({ id: runTable.id, created: runTable.created })
      .from(runTable)
      .where(and(eq(runTable.deleted, false), behind))
      .orderBy(sql`${runTable.created} DESC, ${runTable.id} DESC`)
      .limit(RUNS_PAGE);
    for (const { id } of rows) yield id;
    if (rows.length < RUNS_PAGE) return;
    after = rows.at(-1)!;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function runFrame(collector: Collector, bounds: HistoryBounds, id: string): Promise<Frame | undefined> {
  const { db } = collector;
  const [row] = await db
    .select()
    .from(runTable)
    .where(and(eq(runTable.id, id), eq(runTable.deleted, false)));
  const numbers = boundsOf(collector, bounds, id);
  if (!row || !numbers) return undefined;
  const writers = await db.select().from(writerTable).where(eq(writerTable.run, id));
  const uses = await db.select().from(runDevice).where(eq(runDevice.run, id)).orderBy(asc(runDevice.from));
  const held: HeldRun = {
    id,
    row: {
      name: row.name,
      project: row.project,
      status: row.status,
      reason: row.reason,
      config: row.config,
      tags: row.tags,
      notes: row.notes,
      command: row.command,
      device: row.device,
      exitCode: row.exitCode,
      created: row.created,
      started: row.started,
      finished: row.finished,
      presumed: row.presumed,
      origin: runSource(collector.connection, row),
      deletedAtSource: row.deletedAtSource,
    },
    writers: writers.map(({ client, role, rank, device, pid, boot, start, outcome, nextStep }) => ({
      client,
      role,
      rank,
      device,
      pid,
      boot,
      start,
      outcome,
      nextStep,
    })),
    series: collector.series
      .series(id)
      .map(({ key, rank, x, axis, first }) => ({ key, rank, x, axis, first: first! })),
    uses: uses.map(({ run: _, ...use }) => use),
  };
  return fact("run.held", id, row.created, held);
}

/** Spans that are recorded meanwhile are told twice, which changes nothing. */
async function* spanFrames({ connection }: Collector, run: string): AsyncGenerator<Frame, void> {
  if (!isRunStream(run)) return;
  for (const rows of spanPages(connection, run, SPANS_PAGE)) {
    const time = rows.reduce((last, { started, ended }) => Math.max(last, started ?? 0, ended ?? 0), 0);
    yield fact("span.recorded", run, time, rows, rows.length);
  }
}

/** Whoever missed the entry that says so would show them as live for ever. */
async function* deletedFrames({ db }: Collector): AsyncGenerator<Frame, void> {
  for (let after = ""; ;) {
    const rows = await db
      .select({ id: runTable.id, time: runTable.deletedAtSource, reason: runTable.reason })
      .from(runTable)
      .where(and(eq(runTable.deleted, true), isNotNull(runTable.deletedAtSource), gt(runTable.id, after)))
      .orderBy(asc(runTable.id))
      .limit(RUNS_PAGE);
    for (const { id, time, reason } of rows)
      yield fact("run.deleted", id, time!, { id, ...(reason === UPSTREAM && { upstream: true }) });
    if (rows.length < RUNS_PAGE) return;
    after = rows.at(-1)!.id;
  }
}

const deviceFrame = ({ id, facts, firstSeen, lastSeen }: DeviceRow): Frame =>
  fact("device.held", deviceStream(id), lastSeen, { id, facts, firstSeen, lastSeen } satisfies HeldDevice);

/** A version that is logged or changed meanwhile is told twice, which changes nothing. */
async function* versionFrames(collector: Collector, { runs }: HistoryBounds): AsyncGenerator<Frame, void> {
  const { db } = collector;
  const used =
    runs &&
    db
      .select({ id: runArtifact.artifact })
      .from(runArtifact)
      .where(inArray(runArtifact.run, [...runs]));
  const ids = await db
    .select({ id: artifactTable.id })
    .from(artifactTable)
    .where(used && inArray(artifactTable.id, used))
    .orderBy(asc(artifactTable.id));
  for (const { id } of ids) {
    const [name] = await db.select().from(artifactTable).where(eq(artifactTable.id, id));
    const versions = await db
      .select()
      .from(artifactVersion)
      .where(eq(artifactVersion.artifact, id))
      .orderBy(asc(artifactVersion.version));
    if (!name) continue;
    for (const row of versions) {
      const held = await describeVersion(collector, name, row, runs);
      if (held) yield fact("artifact.held", ARTIFACT_STREAM, row.created, held);
    }
  }
}

async function describeVersion(
  collector: Collector,
  name: typeof artifactTable.$inferSelect,
  { artifact, version, ...row }: typeof artifactVersion.$inferSelect,
  runs: ReadonlySet<string> | undefined,
): Promise<HeldVersion | undefined> {
  const { db } = collector;
  const uses = await db
    .select()
    .from(runArtifact)
    .where(and(eq(runArtifact.artifact, artifact), eq(runArtifact.version, version)))
    .orderBy(asc(runArtifact.time));
  if (runs && !uses.some(({ run }) => runs.has(run))) return undefined;
  const files = await listFiles(collector, artifact, version, { limit: FILES_PAGE });
  const aliases = await db
    .select({ alias: artifactAlias.alias })
    .from(artifactAlias)
    .where(and(eq(artifactAlias.artifact, artifact), eq(artifactAlias.version, version)))
    .orderBy(asc(artifactAlias.alias));
  const { kind, type, description, created, updated, source } = name;
  return {
    kind,
    name: name.name,
    ...(source !== "" && { from: source }),
    type: row.type ?? type,
    about: { description, created, updated },
    version,
    description: row.description,
    metadata: row.metadata as HeldVersion["metadata"],
    created: row.created,
    files,
    aliases: aliases.map(({ alias }) => alias),
    uses: uses.map(({ run, role, time, origin }) => ({ run, role, time, origin })),
  };
}

/** What happened to devices; for some runs alone, without what happened to others. */
async function* eventFrames(
  { db }: Collector,
  { event: last, runs, since }: HistoryBounds,
  devices: readonly string[],
): AsyncGenerator<Frame, void> {
  for (const device of devices) {
    const only: SQL | undefined =
      runs &&
      or(inArray(deviceEvent.subject, [...runs].map(subjectOfRun)), notLike(deviceEvent.subject, "run/%"));
    for (let after = { time: -Infinity, id: 0 }; ;) {
      const rows = await db
        .select()
        .from(deviceEvent)
        .where(
          and(
            eq(deviceEvent.device, device),
            lte(deviceEvent.id, last),
            since > 0 ? gte(deviceEvent.time, since) : undefined,
            only,
            or(
              gt(deviceEvent.time, Math.max(after.time, -1)),
              and(eq(deviceEvent.time, after.time), gt(deviceEvent.id, after.id)),
            ),
          ),
        )
        .orderBy(asc(deviceEvent.time), asc(deviceEvent.id))
        .limit(EVENTS_PAGE);
      if (rows.length > 0) {
        const events = rows.map(({ subject, time, kind, text, detail }): NewDeviceEvent => ({
          subject,
          time,
          kind,
          text,
          detail,
        }));
        yield fact("event.recorded", deviceStream(device), rows.at(-1)!.time, events, events.length);
      }
      if (rows.length < EVENTS_PAGE) break;
      after = rows.at(-1)!;
    }
  }
}

function fact(kind: string, run: string, time: number, payload: unknown, count = 1): Frame {
  const json = new TextEncoder().encode(JSON.stringify(payload));
  const isLarge = json.length >= MIN_COMPRESSED;
  return {
    ...blankFrame,
    kind,
    version: kind.endsWith(".held") || kind === "run.deleted" ? HELD_VERSION : 1,
    run,
    count,
    time,
    encoding: isLarge ? Encoding.jsonZstd : Encoding.json,
    payload: isLarge ? compress(json) : json,
  };
}
