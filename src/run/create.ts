import { and, eq } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { MAX_STEP } from "../metric/schema.ts";
import { writerOf } from "../store/counters.ts";
import { run as runTable, writer as writerTable } from "../store/tables.ts";
import { appendRunEntry, changeRun, inTurn, withWriters, type RunRow } from "./change.ts";
import { findRow, getRunDetail, requireOwn } from "./find.ts";
import { isMemorableName, memorableName, newRunId } from "./name.ts";
import { isLive, type CreatedRun, type CreateRun, type Writer } from "./schema.ts";
import { writeOfWriter, type WriterChange } from "./writer-change.ts";

const DEFAULT_PROJECT = "default";

/** Creates a run, joins it where it is live, resumes it where it has ended. `created` tells which of the first two. */
export function createRun(
  collector: Collector,
  input: CreateRun,
): Promise<{ created: boolean; run: CreatedRun }> {
  const id = input.id ?? newRunId();
  const attempt = () => createInTurn(collector, id, input);
  return inTurn(collector, id, () =>
    // A source has brought a run of this id in the same moment: then it is a run that is here.
    attempt().catch((error: unknown) => (isConstraint(error) ? attempt() : Promise.reject(error))),
  );
}

async function createInTurn(
  collector: Collector,
  id: string,
  input: CreateRun,
): Promise<{ created: boolean; run: CreatedRun }> {
  const row = await findRow(collector, id);
  if (row?.deleted)
    throw new CollectorError("gone", `Run ${id} was deleted.`, {
      hint: "Start without this id; a deleted one is not used again.",
    });
  if (row) requireOwn(collector, row);
  const last = collector.series.lastStep(id, input.writer?.rank ?? 0) ?? -1;
  const first = Math.min(Math.floor(last) + 1, MAX_STEP);
  const writers = await changeOfWriter(collector, id, input.writer, first);
  const current = row
    ? await joinRun(collector, row, input, writers)
    : await insertRun(collector, id, input, writers);
  let next = first;
  if (input.writer) {
    const counter = writerOf(collector.counters.get(id), input.writer.client);
    if (counter.seq === 0) counter.nextStep = first;
    next = counter.nextStep;
  }
  return { created: !row, run: { ...(await getRunDetail(collector, current)), next_step: next } };
}

const isConstraint = (error: unknown) =>
  String((error as { code?: string } | undefined)?.code).startsWith("SQLITE_CONSTRAINT");

async function insertRun(
  collector: Collector,
  id: string,
  input: CreateRun,
  writers: WriterChange[],
): Promise<RunRow> {
  const time = collector.now();
  const row: RunRow = {
    id,
    name: input.name ?? memorableName(),
    project: input.project ?? DEFAULT_PROJECT,
    status: "RUNNING",
    reason: null,
    config: input.config ?? {},
    tags: input.tags ?? [],
    notes: input.notes ?? null,
    command: input.command ?? null,
    device: input.writer?.device ?? null,
    exitCode: null,
    // By a client's clock it may have started before; a run that starts before it is there puzzles whoever sorts.
    created: Math.min(time, input.started ?? time),
    started: input.started ?? time,
    finished: null,
    presumed: false,
    deleted: false,
    source: null,
    origin: null,
    deletedAtSource: null,
    nextOrdinal: 0,
    nextLine: 1,
  };
  const insert = collector.db.insert(runTable).values(row).toSQL();
  await appendRunEntry(collector, "run.created", row, withWriters(row, writers), [
    insert,
    ...writers.map((writer) => writeOfWriter(collector, id, writer)),
  ]);
  // Only now: a batch that came before the commit would be durable without its run.
  collector.counters.create(id);
  collector.presence.watch(id);
  joinPresence(collector, id, input.writer);
  return row;
}

/** A writer seen before is a repeated request: it changes nothing, and above all it reopens nothing that has ended. */
async function joinRun(
  collector: Collector,
  row: RunRow,
  input: CreateRun,
  writers: WriterChange[],
): Promise<RunRow> {
  const isRepetition = input.writer !== undefined && writers.length === 0;
  if (isRepetition && !row.presumed) return row;
  const change = isRepetition ? {} : whatIsNew(row, input);
  if (!isLive(row.status)) {
    Object.assign(change, {
      status: "RUNNING",
      reason: null,
      finished: null,
      exitCode: null,
      presumed: false,
    });
    if (!isRepetition) writers.unshift({ what: "resumed" });
  }
  if (isRepetition) writers.push({ what: "outcome", client: input.writer!.client, outcome: null });
  const current =
    Object.keys(change).length > 0 || writers.length > 0
      ? await changeRun(collector, row, change, writers)
      : row;
  collector.presence.watch(row.id);
  joinPresence(collector, row.id, input.writer);
  return current;
}

/** Config is merged; labels that nobody chose so far are taken over; the command is the latest that was launched. */
function whatIsNew(row: RunRow, input: CreateRun): Partial<RunRow> {
  const change: Partial<RunRow> = {};
  if (input.name !== undefined && isMemorableName(row.name)) change.name = input.name;
  if (input.project !== undefined && row.project === DEFAULT_PROJECT) change.project = input.project;
  if (input.config && Object.keys(input.config).length > 0)
    change.config = { ...row.config, ...input.config };
  if (input.tags && row.tags.length === 0) change.tags = input.tags;
  if (input.notes !== undefined && row.notes === null) change.notes = input.notes;
  if (input.command !== undefined && (row.command === null || !isLive(row.status)))
    change.command = input.command;
  if (input.writer?.device !== undefined && row.device === null) change.device = input.writer.device;
  return change;
}

/** Empty where the writer is known already. */
async function changeOfWriter(
  collector: Collector,
  run: string,
  writer: Writer | undefined,
  nextStep: number,
): Promise<WriterChange[]> {
  if (!writer) return [];
  const [known] = await collector.db
    .select()
    .from(writerTable)
    .where(and(eq(writerTable.run, run), eq(writerTable.client, writer.client)));
  if (known) return [];
  return [
    {
      what: "joined",
      writer: {
        client: writer.client,
        role: writer.role,
        rank: writer.rank,
        device: writer.device ?? null,
        pid: writer.pid ?? null,
        boot: writer.boot ?? null,
        start: writer.start ?? null,
        outcome: null,
        nextStep,
      },
    },
  ];
}

function joinPresence({ presence }: Collector, run: string, writer: Writer | undefined): void {
  if (writer) presence.join(run, writer.client, { pid: writer.pid ?? null, boot: writer.boot ?? null });
}
