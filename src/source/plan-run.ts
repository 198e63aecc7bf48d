import { isDeepStrictEqual } from "node:util";
import { eq } from "drizzle-orm";
import { z } from "zod";
import { Encoding, type EntryKind } from "../entry.ts";
import { MAX_BODY_BYTES, type Frame } from "../relay/contract.ts";
import { HeldRow, HeldRun, HeldUse, HeldWriter } from "../relay/held.ts";
import { TOMBSTONE, UPSTREAM } from "../run/delete.ts";
import { toRun, withWriters, type RunRow } from "../run/change.ts";
import { isLive, RunId, RunStatus } from "../run/schema.ts";
import { writeOfWriter, type WriterChange } from "../run/writer-change.ts";
import { writesOfBurial } from "../store/bury.ts";
import type { Write } from "../store/journal-rows.ts";
import { writeOfEdited } from "../store/source-edit.ts";
import { runSource } from "../store/source-label.ts";
import { run as runTable, runDevice } from "../store/tables.ts";
import { decompressWithin } from "../store/zstd.ts";
import type { Plan, PlannedRun } from "./plan.ts";
import { bad, reading } from "./refuse.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A frame's payload that is JSON, as its kind wants it. */
export function readFact<T extends z.ZodType>({ encoding, payload }: Frame, schema: T): z.output<T> {
  if (encoding !== Encoding.json && encoding !== Encoding.jsonZstd) throw bad("It is not JSON.");
  return reading("payload", () => {
    const json = encoding === Encoding.jsonZstd ? decompressWithin(payload, MAX_BODY_BYTES) : payload;
    const parsed = schema.safeParse(JSON.parse(decoder.decode(json)));
    if (parsed.success) return parsed.data;
    const { path, message } = parsed.error.issues[0]!;
    throw bad(`${path.map(String).join(".").slice(0, 200) || "It"}: ${message.slice(0, 500)}`);
  });
}

const WriterChanges = z
  .array(
    z.discriminatedUnion("what", [
      z.object({ what: z.literal("joined"), writer: HeldWriter }),
      z.object({
        what: z.literal("outcome"),
        client: HeldWriter.shape.client,
        outcome: RunStatus.nullable(),
      }),
      z.object({ what: z.literal("ended"), outcome: RunStatus }),
      z.object({ what: z.literal("resumed") }),
    ]),
  )
  .max(100_000);

/** What a platform's own entries say beside, where history told it: the one it relays to hears it from these. */
const Beside = z.object({
  writers: WriterChanges.default([]),
  series: HeldRun.shape.series.default([]),
});

export const CreatedRun = HeldRow.extend({
  ...Beside.shape,
  origin: HeldRow.shape.origin.default(null),
  deletedAtSource: HeldRow.shape.deletedAtSource.default(null),
});
export const ChangedRun = HeldRow.partial().extend(Beside.shape);
export const DeletedRun = z.object({
  id: RunId,
  /** Deleted everywhere that it went to. */
  upstream: z.boolean().default(false),
});

type Row = z.infer<typeof HeldRow>;
type Beside = z.infer<typeof Beside>;

export function planCreated(
  plan: Plan,
  frame: Frame,
  { writers, series, ...row }: z.infer<typeof CreatedRun>,
): void {
  putRun(plan, frame, runId(frame), row, { writers, series });
}

export function planChanged(
  plan: Plan,
  frame: Frame,
  { writers, series, ...change }: z.infer<typeof ChangedRun>,
): void {
  const planned = plan.requireRun(frame);
  changeRow(plan, frame, planned, change, { writers, series });
}

export function planHeld(plan: Plan, frame: Frame, held: HeldRun): void {
  if (held.id !== frame.run) throw bad(`It is of run ${held.id}, not of ${frame.run}.`);
  const writers = held.writers.map((writer): WriterChange => ({ what: "joined", writer }));
  const planned = putRun(plan, frame, held.id, held.row, {
    writers: changedWriters(plan, held.id, writers),
    series: held.series,
  });
  if (planned.isNew) planned.isPartial = true;
  for (const use of held.uses) planUse(plan, frame, planned, use);
}

function runId({ run }: Frame): string {
  if (!RunId.safeParse(run).success) throw bad("That is no run's id.");
  return run;
}

function putRun(plan: Plan, frame: Frame, run: string, row: Row, beside: Beside): PlannedRun {
  const known = plan.run(run);
  if (known) {
    plan.touch(known, 0);
    changeRow(plan, frame, known, row, beside);
    return known;
  }
  const planned = plan.addRun(run);
  plan.touch(planned, 0);
  planned.row = {
    ...row,
    id: planned.local,
    deleted: false,
    source: plan.source.id,
    nextOrdinal: 0,
    nextLine: 1,
  };
  const { collector } = plan;
  plan.append(
    entryOf(
      frame,
      "run.created",
      planned.local,
      // As whoever it is relayed to has it from us.
      payloadOf(onward(plan, planned.row), beside),
    ),
    toRun(collector, planned.row),
    [collector.db.insert(runTable).values(planned.row).toSQL(), ...writesBeside(plan, planned, beside)],
  );
  return planned;
}

/** As it goes on from here: whose it is then is told by us. */
const onward = ({ collector }: Plan, row: RunRow): RunRow => ({
  ...row,
  origin: runSource(collector.connection, row),
});

/** What differs from what is known; nothing where nothing does. */
function changeRow(
  plan: Plan,
  frame: Frame,
  planned: PlannedRun,
  row: { [Name in keyof Row]?: Row[Name] | undefined },
  beside: Beside,
): void {
  if (planned.isDeleted) return;
  const { collector } = plan;
  const known = plan.rowOf(planned);
  const edited = plan.editedOf(planned);
  const change: Partial<RunRow> = {};
  const writes = writesBeside(plan, planned, beside);
  let isOverruled = false;
  for (const [name, value] of Object.entries(row) as [keyof Row, never][]) {
    if (value === undefined) continue;
    if (Object.hasOwn(edited, name)) {
      // What it said before a person changed it here: nothing new.
      if (isDeepStrictEqual(edited[name], value)) continue;
      isOverruled = true;
      delete edited[name];
    }
    if (!isDeepStrictEqual(known[name], value)) change[name] = value;
  }
  if (isOverruled) writes.push(writeOfEdited(planned.local, edited));
  if (Object.keys(change).length === 0 && writes.length === 0) return;
  planned.row = { ...known, ...change };
  if (Object.keys(change).length > 0)
    writes.unshift(collector.db.update(runTable).set(change).where(eq(runTable.id, planned.local)).toSQL());
  plan.append(
    entryOf(frame, "run.changed", planned.local, payloadOf(change, beside)),
    toRun(collector, planned.row),
    writes,
  );
}

/** History says all writers each time. */
function changedWriters(plan: Plan, run: string, writers: WriterChange[]): WriterChange[] {
  const planned = plan.run(run);
  if (!planned || planned.isNew) return writers;
  const rows = plan.collector.connection
    .prepare(
      `SELECT client, role, rank, device, pid, boot, start, outcome, next_step AS nextStep FROM writer WHERE run = ?`,
    )
    .all(planned.local) as { client: string }[];
  const known = new Map(rows.map((row) => [row.client, { ...row }]));
  return writers.filter(
    (change) =>
      change.what !== "joined" || !isDeepStrictEqual(known.get(change.writer.client), { ...change.writer }),
  );
}

function payloadOf(row: object, { writers, series }: Beside): object {
  return {
    ...withWriters(row, writers as WriterChange[]),
    ...(series.length > 0 && { series }),
  };
}

function writesBeside(plan: Plan, planned: PlannedRun, { writers, series }: Beside): Write[] {
  const { collector } = plan;
  const { local } = planned;
  const writes = writers.map((change) => writeOfWriter(collector, local, change as WriterChange));
  if (series.length > 0) {
    const known = new Set(collector.series.series(local).map(({ key, rank }) => `${rank} ${key}`));
    const fresh = series.filter(({ key, rank }) => {
      const id = `${rank} ${key}`;
      return !known.has(id) && known.add(id);
    });
    if (fresh.length > 0) writes.push(...collector.series.declare(local, fresh));
  }
  return writes;
}

export function planUse(plan: Plan, frame: Frame, planned: PlannedRun, use: HeldUse): void {
  if (planned.isDeleted) return;
  const { collector } = plan;
  const { local, writes } = plan.ensureDevice(use.device);
  const row = { ...use, run: planned.local, device: local };
  const write = collector.db
    .insert(runDevice)
    .values(row)
    .onConflictDoUpdate({ target: [runDevice.run, runDevice.device], set: row })
    .toSQL();
  plan.appendFact(frame, "use.changed", planned.local, { payload: row, writes: [...writes, write] });
}

/** Deleted there it stays here, with a mark; unless who deleted it wanted it gone everywhere. */
export function planDeleted(plan: Plan, frame: Frame, { upstream }: z.infer<typeof DeletedRun>): void {
  const planned = plan.run(frame.run);
  // Nothing of it came: there is nothing to do.
  if (!planned || planned.isDeleted) return;
  plan.touch(planned, 0);
  const known = plan.rowOf(planned);
  const hasEnded = !isLive(known.status);
  // Who told it first knows when.
  const deletedAtSource = known.deletedAtSource ?? frame.time;
  const ended = hasEnded ? {} : { status: "KILLED" as const, finished: frame.time, presumed: false };
  if (!upstream)
    return changeRow(
      plan,
      frame,
      planned,
      { ...ended, deletedAtSource },
      {
        writers: hasEnded ? [] : [{ what: "ended", outcome: "KILLED" }],
        series: [],
      },
    );
  const { collector } = plan;
  planned.isDeleted = true;
  plan.append(
    entryOf(frame, "run.deleted", planned.local, { id: planned.local, upstream: true }),
    toRun(collector, { ...known, ...ended }),
    [
      collector.db
        .update(runTable)
        // Told to platforms of ours that miss the entry.
        .set({ ...ended, ...TOMBSTONE, deletedAtSource, reason: UPSTREAM })
        .where(eq(runTable.id, planned.local))
        .toSQL(),
      ...writesOfBurial(planned.local),
    ],
  );
}

/**
 * An earlier life of the source went on with this run, and nobody can tell any more what of it is here: what comes now begins anew, as
 * a run of its own, and what there is stays as it is.
 */
export function renewRun(plan: Plan, known: PlannedRun, time: number): PlannedRun {
  const row = { ...plan.rowOf(known) };
  const nothing: Beside = { writers: [], series: [] };
  const at = { seq: known.seq, time } as Frame;
  changeRow(plan, at, known, { deletedAtSource: time }, nothing);
  const planned = plan.addRun(known.run);
  plan.touch(planned, known.seq);
  planned.isPartial = true;
  planned.row = { ...row, id: planned.local, nextOrdinal: 0, nextLine: 1 };
  planned.edited = { ...plan.editedOf(known) };
  const { collector } = plan;
  const copied = [known.local, planned.local];
  plan.append(
    entryOf(at, "run.created", planned.local, onward(plan, planned.row)),
    toRun(collector, planned.row),
    [
      collector.db.insert(runTable).values(planned.row).toSQL(),
      ...COPIES.map((sql) => ({ sql, params: copied })),
    ],
  );
  return planned;
}

const COPIES = [
  `INSERT INTO writer (run, client, role, rank, device, pid, boot, start, outcome, next_step)
    SELECT ?2, client, role, rank, device, pid, boot, start, outcome, next_step FROM writer WHERE run = ?1`,
  `INSERT INTO run_device (run, device, "from", "to", attribution, cpu_seconds, gpus, note)
    SELECT ?2, device, "from", "to", attribution, cpu_seconds, gpus, note FROM run_device WHERE run = ?1`,
  `INSERT INTO run_artifact (run, artifact, version, role, time, origin)
    SELECT ?2, artifact, version, role, time, origin FROM run_artifact WHERE run = ?1`,
  `INSERT INTO span (run, id, kind, name, value, edge, started, ended, round, total)
    SELECT ?2, id, kind, name, value, edge, started, ended, round, total FROM span WHERE run = ?1`,
];

const entryOf = ({ time }: Pick<Frame, "time">, kind: EntryKind, run: string, payload: object) => ({
  kind,
  version: 1,
  run,
  client: null,
  clientSeq: null,
  ordinal: null,
  nextStep: null,
  count: 1,
  time,
  encoding: Encoding.json,
  payload: new TextEncoder().encode(JSON.stringify(payload)),
});
