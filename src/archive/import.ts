import { join } from "node:path";
import { inArtifactTurn } from "../artifact/change.ts";
import type { Collector } from "../collector.ts";
import { Encoding, type EntryKind } from "../entry.ts";
import { CollectorError } from "../error.ts";
import { inTurn, toRun, type RunRow } from "../run/change.ts";
import { findRow } from "../run/find.ts";
import { newRunId } from "../run/name.ts";
import { isLive } from "../run/schema.ts";
import { takeId } from "../sample/event.ts";
import { subjectOfRun } from "../sample/schema.ts";
import type { SpanRow } from "../span/schema.ts";
import type { Write } from "../store/journal-rows.ts";
import { device as deviceTable, run as runTable, runDevice, writer as writerTable } from "../store/tables.ts";
import { beginImport, endImport, isKnownDevice, isUnfinished } from "../store/unfinished.ts";
import { compress } from "../store/zstd.ts";
import { checkArchive, lineOf, linesOf, readManifest, type CheckedArchive } from "./check.ts";
import { importLogs } from "./import-logs.ts";
import { importPoints } from "./import-points.ts";
import { importSamples } from "./import-samples.ts";
import { planVersions } from "./import-versions.ts";
import { presenceOf, type Present } from "./present.ts";
import { asImport, createImportFolder, receive } from "./receive.ts";
import { ArchivedEvent, type ImportedRun, type Manifest } from "./schema.ts";
import { readSpans, writesOfSpans } from "./spans.ts";
import { damaged, openArchive } from "./zip-read.ts";

/** Archives on their way in at the same time: each may be as large as the disk. */
const MAX_RECEIVING = 4;
const MAX_EVENT_BYTES = 4 * 1024 * 1024;
const MAX_EVENTS = 1_000_000;

let receiving = 0;

export interface ImportOptions {
  /** Under a new id, whatever the archive says. */
  newId?: boolean;
}

/** Brings in what exportRun gave. The run is there when this resolves, whole; until then nothing of it is seen. */
export async function importRun(
  collector: Collector,
  body: ReadableStream<Uint8Array>,
  { newId = false }: ImportOptions = {},
): Promise<ImportedRun> {
  if (receiving >= MAX_RECEIVING)
    throw new CollectorError("busy", "Several imports are under way already.", { hint: "Try again." });
  const folder = createImportFolder(collector);
  receiving++;
  try {
    const path = join(folder.path, "archive.zip");
    await receive(collector, body, path);
    return await inImportTurn(collector, () => bringIn(collector, folder.path, path, newId));
  } catch (error) {
    throw asImport(error);
  } finally {
    folder.remove();
    receiving--;
  }
}

const turns = new WeakMap<Collector, Promise<unknown>>();

/** One after another: each takes what the processor and the disk have. */
async function inImportTurn<T>(collector: Collector, verb: () => Promise<T>): Promise<T> {
  const turn = (turns.get(collector) ?? Promise.resolve()).then(verb, verb);
  turns.set(collector, turn);
  return turn;
}

async function bringIn(
  collector: Collector,
  folder: string,
  path: string,
  newId: boolean,
): Promise<ImportedRun> {
  const archive = await openArchive(path);
  try {
    const manifest = await readManifest(archive);
    const id = newId ? newRunId() : manifest.run.id;
    // Before the long work, and once more when it is this run's turn.
    await requireFreeId(collector, id, (row) => presenceOf(collector, row, archive, manifest));
    const checked = await checkArchive(collector, archive, manifest, folder);
    const events = await readEvents(checked);
    const spans = await readSpans(checked.spans);
    return await inTurn(collector, id, async () => {
      await requireFreeId(collector, id);
      return store(collector, id, checked, { events, spans });
    });
  } finally {
    await archive.close();
  }
}

async function requireFreeId(
  collector: Collector,
  id: string,
  compare?: (row: RunRow) => Promise<Present>,
): Promise<void> {
  if (isUnfinished(collector.connection, id))
    throw new CollectorError("busy", `What is left of an import of run ${id} is being removed.`, {
      hint: "Try again.",
    });
  const row = await findRow(collector, id);
  if (!row) return;
  if (row.deleted)
    throw new CollectorError("conflict", `Run ${id} was deleted here: its id is not used again.`, {
      hint: "Import it under a new id with --new-id (?new_id=true).",
    });
  const present = await compare?.(row);
  throw new CollectorError("conflict", `Run ${id} is here already${present ? SAID[present] : ""}.`, {
    hint: HINTS[present ?? "other"],
    ...(present && { details: { present, run: id, name: row.name } }),
  });
}

const SAID: Record<Present, string> = {
  whole: ", with all that is in it",
  earlier: " as it was earlier: the archive has more of it",
  other: ", and is another one than the archive's",
};
const HINTS: Record<Present, string> = {
  whole: "There is nothing to do; under a new id it would be there twice (--new-id, ?new_id=true).",
  earlier:
    "Import it under a new id with --new-id (?new_id=true), then delete the one that is here: what is here is not added to.",
  other: "Import it under a new id with --new-id (?new_id=true).",
};

async function readEvents({ events: entry, devices, run }: CheckedArchive): Promise<ArchivedEvent[]> {
  const known = new Set(devices.map(({ id }) => id));
  const own = subjectOfRun(run.id);
  const events: ArchivedEvent[] = [];
  for await (const line of linesOf(entry, MAX_EVENT_BYTES)) {
    const event = lineOf(entry, ArchivedEvent, line);
    if (!known.has(event.device) || (event.subject.startsWith("run/") && event.subject !== own))
      throw damaged("its events are of another device or run");
    if (events.push(event) > MAX_EVENTS) throw damaged("it has too many events");
  }
  return events;
}

async function store(
  collector: Collector,
  id: string,
  checked: CheckedArchive,
  { events, spans }: { events: ArchivedEvent[]; spans: SpanRow[] },
): Promise<ImportedRun> {
  const { manifest, run, devices } = checked;
  const fresh = devices.map((device) => device.id).filter((id) => !isKnownDevice(collector.connection, id));
  const unfinished = { run: id, devices: fresh };
  const series = run.series.map(({ metric, rank, x, axis }) => ({ key: metric, rank, x, axis }));
  try {
    await append(collector, "import.began", id, { exported_as: run.id, name: run.name }, undefined, [
      beginImport(unfinished),
      ...collector.series.declare(id, series),
    ]);
    const values = await importPoints(collector, id, checked);
    const lines = await importLogs(collector, id, checked);
    const samples = await importSamples(collector, id, checked);
    checkCounts(manifest, {
      ...values,
      lines,
      samples,
      events: events.length,
      versions: checked.versions.length,
      spans: spans.length,
    });
    const notes: string[] = [];
    const row = rowOf(collector, id, checked, notes);
    // No other change of artifacts may come between the plan and its writes.
    return await inArtifactTurn(collector, async () => {
      const plan = await planVersions(collector, id, checked.versions);
      const payload = {
        ...row,
        exported_as: run.id,
        devices,
        events,
        versions: checked.versions,
        as: plan.versions,
      };
      await append(collector, "run.imported", id, payload, toRun(collector, row), [
        collector.db.insert(runTable).values(row).toSQL(),
        ...writesOfWriters(collector, row, checked),
        ...writesOfDevices(collector, id, checked),
        ...writesOfEvents(collector, id, run.id, events),
        ...writesOfSpans(id, spans),
        ...plan.writes,
        endImport(id),
      ]);
      if (row.presumed) collector.presence.end(id, true);
      return {
        run: id,
        exported_as: run.id,
        name: row.name,
        status: row.status,
        ...values,
        lines,
        samples,
        events: events.length,
        spans: spans.length,
        versions: plan.versions,
        notes,
      };
    });
  } catch (error) {
    await collector.journal.settled();
    await collector.pruner.abandon(unfinished);
    throw error;
  }
}

/** What was counted on the way out has come in: a file that was emptied and digested anew is none of ours. */
function checkCounts({ counts }: Manifest, found: Manifest["counts"]): void {
  for (const name of Object.keys(found) as (keyof typeof found)[])
    if (found[name] !== counts[name])
      throw damaged(`it has ${found[name]} ${name}, and its manifest says ${counts[name]}`);
}

/** A run that was live there has no writer here: it ends, until data comes. */
function rowOf(
  { now }: Collector,
  id: string,
  { run, config, manifest }: CheckedArchive,
  notes: string[],
): RunRow {
  const wasLive = isLive(run.status);
  if (wasLive) notes.push(`It was ${run.status} when it was exported, and is FAILED here.`);
  return {
    id,
    name: run.name,
    project: run.project,
    status: wasLive ? "FAILED" : run.status,
    reason: wasLive ? `It was ${run.status} when it was exported.` : run.reason,
    config,
    tags: run.tags,
    notes: run.notes,
    command: run.command,
    device: run.device,
    exitCode: run.exit_code,
    created: run.created,
    started: run.started,
    finished: wasLive ? Math.min(now(), Date.parse(manifest.created)) : run.finished,
    presumed: wasLive || run.presumed,
    deleted: false,
    source: null,
    origin: null,
    deletedAtSource: null,
    nextOrdinal: run.next_ordinal,
    nextLine: run.next_line,
  };
}

function writesOfWriters({ db }: Collector, row: RunRow, { run }: CheckedArchive): Write[] {
  return [
    ...run.writers.map(({ client, role, rank, device, pid, boot, start, outcome, first_step }) =>
      db
        .insert(writerTable)
        .values({
          run: row.id,
          client,
          role,
          rank,
          device,
          pid,
          boot,
          start,
          outcome: outcome ?? (row.status === "KILLED" ? "KILLED" : "FAILED"),
          nextStep: first_step,
        })
        .toSQL(),
    ),
    ...run.clients.map(({ client, batches, next_step }): Write => ({
      sql: "INSERT INTO counter (run, client, seq, next_step) VALUES (?, ?, ?, ?)",
      params: [row.id, client, batches, next_step],
    })),
  ];
}

function writesOfDevices({ db }: Collector, run: string, { devices }: CheckedArchive): Write[] {
  return devices.flatMap(({ id, facts, first_seen, last_seen, use }) => [
    ...(facts && first_seen !== null && last_seen !== null
      ? [
          db
            .insert(deviceTable)
            .values({ id, name: facts.name, facts, firstSeen: first_seen, lastSeen: last_seen })
            .onConflictDoNothing()
            .toSQL(),
        ]
      : []),
    db
      .insert(runDevice)
      .values({
        run,
        device: id,
        from: use.from,
        to: use.to ?? last_seen ?? use.from,
        attribution: use.attribution,
        cpuSeconds: use.cpu_seconds,
        gpus: use.gpus,
        note: use.note,
      })
      .toSQL(),
  ]);
}

const INSERT_EVENT = `INSERT INTO device_event (id, device, subject, time, kind, text, detail)
  SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS
  (SELECT 1 FROM device_event WHERE device = ?2 AND subject = ?3 AND time = ?4 AND kind = ?5 AND text = ?6)`;

/** What is here already, as of another run of that time, is not told twice. */
const writesOfEvents = (
  collector: Collector,
  run: string,
  exported: string,
  events: ArchivedEvent[],
): Write[] =>
  events.map(({ device, subject, time, kind, text, detail }) => ({
    sql: INSERT_EVENT,
    params: [
      takeId(collector),
      device,
      subject === subjectOfRun(exported) ? subjectOfRun(run) : subject,
      time,
      kind,
      text,
      JSON.stringify(detail),
    ],
  }));

async function append(
  { journal, now }: Collector,
  kind: EntryKind,
  run: string,
  payload: unknown,
  data: unknown,
  writes: Write[],
): Promise<void> {
  await journal.append(
    {
      kind,
      version: 1,
      run,
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: 1,
      time: now(),
      encoding: Encoding.jsonZstd,
      payload: compress(new TextEncoder().encode(JSON.stringify(payload))),
    },
    data,
    writes,
  );
}
