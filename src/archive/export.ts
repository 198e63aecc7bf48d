import { and, asc, eq, lte, sql } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { outputBytes } from "../log/bytes.ts";
import { getRow } from "../run/find.ts";
import type { RunRow } from "../run/change.ts";
import { listEvents } from "../sample/event.ts";
import { readSamples, type SampleColumn } from "../sample/rows.ts";
import { MACHINE, subjectOfRun } from "../sample/schema.ts";
import { hasSpans } from "../span/list.ts";
import { device as deviceTable, deviceEvent, runDevice, writer as writerTable } from "../store/tables.ts";
import { VERSION } from "../version.ts";
import { describeVersions, requireFiles, writeVersions } from "./export-files.ts";
import { logPieces } from "./log-pieces.ts";
import { writeParquet } from "./parquet-write.ts";
import {
  FORMAT,
  formatOf,
  paths,
  type ArchivedDevices,
  type ArchivedEvent,
  type ArchivedRun,
  type ArchivedVersions,
  type Manifest,
} from "./schema.ts";
import { spanLines } from "./spans.ts";
import { pointColumns, pointGroups, pointLines, sampleColumns, sampleGroups, textLines } from "./tables.ts";
import { createArchiveWriter, encoded, jsonOf, type ArchiveWriter } from "./zip-write.ts";

/** Lines that compress better than this would look like a bomb to who imports them. */
const MAX_LOG_RATIO = 60;
const EVENTS_PAGE = 1000;

/** Everything of a run as one zip, made while it is read. What comes later than this call is not in it. */
export async function exportRun(collector: Collector, id: string): Promise<ReadableStream<Uint8Array>> {
  const row = await getRow(collector, id);
  const versions = await describeVersions(collector, id);
  requireFiles(collector, id, versions);
  // What was numbered is durable, or never will be.
  await collector.journal.settled();
  const aborted = new AbortController();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    {},
    { highWaterMark: 4 },
    { highWaterMark: 4 },
  );
  const out = createArchiveWriter(writable, new Date(collector.now()), aborted.signal);
  void writeRun(collector, row, versions, out).catch(async (error: unknown) => {
    aborted.abort(error);
    await writable.abort(error).catch(() => {});
  });
  return readable;
}

async function writeRun(
  collector: Collector,
  row: RunRow,
  versions: ArchivedVersions,
  out: ArchiveWriter,
): Promise<void> {
  const { id } = row;
  const run = await describeRun(collector, row);
  const devices = await describeDevices(collector, id);
  const counts: Manifest["counts"] = {
    points: 0,
    texts: 0,
    lines: 0,
    samples: 0,
    events: 0,
    versions: versions.length,
    spans: 0,
  };
  await out.add(paths.run, jsonOf(run));
  await out.add(paths.config, jsonOf(row.config));
  await writeMetrics(collector, run, out, counts);
  await writeLogs(collector, run, out, counts);
  await writeHardware(collector, row, devices, out, counts);
  if (hasSpans(collector.connection, id)) await writeSpans(collector, id, out, counts);
  await writeVersions(collector, versions, out);
  const manifest: Manifest = {
    format: FORMAT,
    version: formatOf(counts),
    binnacle: VERSION,
    created: new Date(collector.now()).toISOString(),
    run: { id, name: row.name, project: row.project, status: row.status },
    counts,
    files: out.files,
  };
  await out.add(paths.manifest, jsonOf(manifest));
  await out.close();
}

async function describeRun({ db, counters, series }: Collector, row: RunRow): Promise<ArchivedRun> {
  const writers = await db.select().from(writerTable).where(eq(writerTable.run, row.id));
  // All of these in one turn: they are where the copy ends.
  const counter = counters.get(row.id);
  return {
    id: row.id,
    name: row.name,
    project: row.project,
    status: row.status,
    reason: row.reason,
    tags: row.tags,
    notes: row.notes,
    command: row.command,
    device: row.device,
    exit_code: row.exitCode,
    created: row.created,
    started: row.started,
    finished: row.finished,
    presumed: row.presumed,
    next_ordinal: counter.nextOrdinal,
    next_line: counter.nextLine,
    writers: writers.map(({ client, role, rank, device, pid, boot, start, outcome, nextStep }) => ({
      client,
      role,
      rank,
      device,
      pid,
      boot,
      start,
      outcome,
      first_step: nextStep,
    })),
    clients: [...counter.writersByClient]
      .filter(([, { seq }]) => seq > 0)
      .map(([client, { seq, nextStep }]) => ({ client, batches: seq, next_step: nextStep })),
    series: series
      .dump(row.id, counter.nextOrdinal)
      .series.map(({ key, rank, x, axis }) => ({ metric: key, rank, x, axis })),
  };
}

/** Twice through the points: the two files stand one behind the other, and memory holds neither. */
async function writeMetrics(
  { series }: Collector,
  run: ArchivedRun,
  out: ArchiveWriter,
  counts: Manifest["counts"],
): Promise<void> {
  const dump = () => series.dump(run.id, run.next_ordinal);
  const counted = async function* <T extends { length: number }>(parts: AsyncIterable<T>) {
    for await (const part of parts) {
      counts.points += part.length;
      yield part;
    }
  };
  const first = dump();
  const groups = pointGroups(counted(first.points), first.series);
  await out.add(paths.points, writeParquet(pointColumns, groups));
  const second = dump();
  await out.add(paths.pointsCsv, pointLines(second.points, second.series), { compress: true });
  const third = dump();
  function* lines() {
    for (const line of textLines(third)) {
      counts.texts++;
      yield line;
    }
  }
  await out.add(paths.texts, encoded(lines()), { compress: true });
}

async function writeLogs(
  collector: Collector,
  { id, next_line }: ArchivedRun,
  out: ArchiveWriter,
  counts: Manifest["counts"],
): Promise<void> {
  const { size, packed } = collector.connection
    .prepare(
      "SELECT coalesce(sum(size), 0) AS size, coalesce(sum(length(data)), 0) AS packed FROM log_chunk WHERE run = ?",
    )
    .get(id) as { size: number; packed: number };
  const compress = size <= MAX_LOG_RATIO * packed;
  const pieces = () => logPieces(collector, id, next_line);
  async function* lines() {
    for await (const piece of pieces()) {
      counts.lines += piece.length;
      for (const line of piece) yield `${JSON.stringify(line)}\n`;
    }
  }
  async function* output() {
    for await (const piece of pieces())
      yield outputBytes(piece.map(({ prefix = "", text }) => `${prefix}${text}\n`).join(""));
  }
  await out.add(paths.lines, encoded(lines()), { compress });
  await out.add(paths.output, output(), { compress });
}

async function describeDevices({ db }: Collector, run: string): Promise<ArchivedDevices> {
  const rows = await db
    .select({ use: runDevice, device: deviceTable })
    .from(runDevice)
    .leftJoin(deviceTable, eq(deviceTable.id, runDevice.device))
    .where(eq(runDevice.run, run))
    .orderBy(asc(runDevice.from), asc(runDevice.device));
  return rows.map(({ use, device }) => ({
    id: use.device,
    facts: device?.facts ?? null,
    first_seen: device?.firstSeen ?? null,
    last_seen: device?.lastSeen ?? null,
    use: {
      from: use.from,
      to: use.to,
      attribution: use.attribution,
      cpu_seconds: use.cpuSeconds,
      gpus: use.gpus,
      note: use.note,
    },
  }));
}

async function writeHardware(
  collector: Collector,
  row: RunRow,
  devices: ArchivedDevices,
  out: ArchiveWriter,
  counts: Manifest["counts"],
): Promise<void> {
  const { samples } = collector;
  const now = collector.now();
  const windows = devices.map(({ id, use }) => ({
    id,
    from: Math.min(use.from, row.started ?? use.from),
    to: Math.max(use.to ?? now, row.finished ?? use.to ?? now),
  }));
  async function* columns(): AsyncGenerator<SampleColumn & { device: string }> {
    for (const { id, from, to } of windows)
      for (const subject of new Set([MACHINE, ...samples.subjects(id), subjectOfRun(row.id)]))
        for await (const column of readSamples(samples, id, subject, from, to)) {
          counts.samples += column.times.length;
          yield { ...column, device: id };
        }
  }
  await out.add(paths.samples, writeParquet(sampleColumns, sampleGroups(columns())));
  await out.add(paths.devices, jsonOf(devices));
  async function* events() {
    for (const { id, from, to } of windows)
      for await (const event of eventsOf(collector, row.id, id, from, to)) {
        counts.events++;
        yield `${JSON.stringify(event)}\n`;
      }
  }
  await out.add(paths.events, encoded(events()), { compress: true });
}

async function writeSpans(
  collector: Collector,
  run: string,
  out: ArchiveWriter,
  counts: Manifest["counts"],
): Promise<void> {
  async function* lines() {
    for await (const line of spanLines(collector, run)) {
      counts.spans++;
      yield line;
    }
  }
  await out.add(paths.spans, encoded(lines()), { compress: true });
}

/** What was out of the ordinary when a window begins, and what happened in it; of no run but this. */
async function* eventsOf(
  collector: Collector,
  run: string,
  device: string,
  from: number,
  to: number,
): AsyncGenerator<ArchivedEvent> {
  const own = subjectOfRun(run);
  const isWanted = (subject: string) => !subject.startsWith("run/") || subject === own;
  const { states } = await listEvents(collector, device, { from, to: from, limit: 1 });
  for (const { subject, time, kind, text, detail } of states)
    if (isWanted(subject)) yield { device, subject, time: Date.parse(time), kind, text, detail };
  for (let after = { time: from, id: 0 }; ;) {
    const rows = await collector.db
      .select()
      .from(deviceEvent)
      .where(
        and(
          eq(deviceEvent.device, device),
          lte(deviceEvent.time, to),
          sql`(${deviceEvent.time}, ${deviceEvent.id}) > (${after.time}, ${after.id})`,
        ),
      )
      .orderBy(asc(deviceEvent.time), asc(deviceEvent.id))
      .limit(EVENTS_PAGE);
    for (const { subject, time, kind, text, detail } of rows)
      if (isWanted(subject)) yield { device, subject, time, kind, text, detail };
    if (rows.length < EVENTS_PAGE) return;
    after = rows.at(-1)!;
  }
}
