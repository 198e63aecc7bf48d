import { getTableColumns } from "drizzle-orm";
import type { Collector } from "../collector.ts";
import { Encoding, type EntryKind, type NewEntry } from "../entry.ts";
import { CollectorError } from "../error.ts";
import type { Frame } from "../relay/contract.ts";
import type { RunRow } from "../run/change.ts";
import { writerOf, type RunCounter, type WriterCounter } from "../store/counters.ts";
import type { AppendItem } from "../store/journal.ts";
import type { Write } from "../store/journal-rows.ts";
import { prepared } from "../store/prepared.ts";
import { findEdited, type Edited } from "../store/source-edit.ts";
import { addRows, type RolledRows } from "../store/sample-rollup.ts";
import type { ChunkPlace } from "../store/sample-table.ts";
import { run as runTable } from "../store/tables.ts";
import { freeDeviceId, freeRunId, localSubject, reservedIds } from "./names.ts";
import type { PlannedArtifact } from "./plan-artifact.ts";
import { bad } from "./refuse.ts";

/** A source's run, as far as this batch goes: nothing of it is anybody else's before the batch is durable. */
export interface PlannedRun {
  readonly run: string;
  readonly local: string;
  readonly isNew: boolean;
  /** Deleted here: what comes of it is taken note of, no more. */
  isDeleted: boolean;
  /** Where its numbers stand as the source counts; null: nobody knows what of it is here (accept.ts). */
  nextOrdinal: number | null;
  nextLine: number | null;
  ordinalShift: number;
  lineShift: number;
  /** Where they stand here. */
  localOrdinal: number;
  localLine: number;
  writers: Map<string, WriterCounter>;
  /** Highest seq of which records or lines of it are here. */
  seq: number;
  /** Highest seq that a piece of history may hold of. */
  history: number;
  /** History of a life that was left stands in it: what comes next begins another run. */
  isToRenew: boolean;
  /** Entries of a life that was left stand in it, and what they hold may come again: history of it begins another run. */
  isLeft: boolean;
  /** History is still to bring all of it. */
  isPartial: boolean;
  isTouched: boolean;
  row: RunRow | undefined;
  /** What a person changed of it here (store/source-edit.ts). */
  edited: Edited | undefined;
}

export interface PlannedSource {
  readonly id: string;
  readonly label: string;
}

/** What a batch comes to: made in one tick, so that nothing else comes between what it looks at and the journal. */
export class Plan {
  readonly collector: Collector;
  readonly source: PlannedSource;
  /** Entries up to here may be here already. */
  readonly doubt: number;
  /** History may hold of entries up to `upto`, which stand in no order. */
  readonly isHistory: boolean;
  readonly upto: number;
  readonly items: AppendItem[] = [];
  /** Done when the batch is durable. */
  readonly after: (() => void)[] = [];
  readonly artifacts = new Map<string, PlannedArtifact>();
  freeArtifact: number | undefined;
  /** Beside the entries. */
  readonly writes: Write[] = [];
  /** Rows of coarse chunks, put together: two frames may be of one chunk, and only one write can be. */
  readonly #rolled = new Map<string, { place: ChunkPlace; rows: RolledRows }>();
  readonly #runs = new Map<string, PlannedRun | undefined>();
  readonly #devices = new Map<string, string | undefined>();
  readonly #uptos = new Map<string, number>();
  readonly #reserved: string[] = [];

  constructor(
    collector: Collector,
    source: PlannedSource,
    { doubt = 0, upto }: { doubt?: number; upto?: number },
  ) {
    this.collector = collector;
    this.source = source;
    this.doubt = doubt;
    this.isHistory = upto !== undefined;
    this.upto = upto ?? 0;
  }

  /** The run that a source calls so; undefined where it is not here. */
  run(run: string): PlannedRun | undefined {
    if (!this.#runs.has(run)) this.#runs.set(run, this.#findRun(run));
    return this.#runs.get(run);
  }

  #findRun(run: string): PlannedRun | undefined {
    const { connection, counters } = this.collector;
    const row = prepared(
      connection,
      "SELECT local, seq, history, renew, next_ordinal, next_line, ordinal_shift, line_shift FROM source_run WHERE source = ? AND run = ?",
    ).get(this.source.id, run) as SourceRunRow | undefined;
    if (!row) return undefined;
    const counter = counters.find(row.local);
    return {
      run,
      local: row.local,
      isNew: false,
      isDeleted: !counter || counter.deleted,
      nextOrdinal: row.next_ordinal,
      nextLine: row.next_line,
      ordinalShift: row.ordinal_shift,
      lineShift: row.line_shift,
      localOrdinal: counter?.nextOrdinal ?? 0,
      localLine: counter?.nextLine ?? 1,
      writers: new Map(),
      seq: row.seq,
      history: row.history,
      isToRenew: row.renew === Renew.always,
      isLeft: row.renew === Renew.byHistory,
      isPartial: row.renew === Renew.partial,
      isTouched: false,
      row: undefined,
      edited: undefined,
    };
  }

  /** Takes a run up that was not here, or that goes on as another one. */
  addRun(run: string): PlannedRun {
    const local = this.#reserve(freeRunId(this.collector, run, this.source.label));
    const planned: PlannedRun = {
      run,
      local,
      isNew: true,
      isDeleted: false,
      nextOrdinal: 0,
      nextLine: 1,
      ordinalShift: 0,
      lineShift: 0,
      localOrdinal: 0,
      localLine: 1,
      writers: new Map(),
      seq: 0,
      history: 0,
      isToRenew: false,
      isLeft: false,
      isPartial: false,
      isTouched: true,
      row: undefined,
      edited: undefined,
    };
    this.#runs.set(run, planned);
    return planned;
  }

  requireRun({ run, seq }: Frame): PlannedRun {
    const found = this.run(run);
    if (!found) throw unknownRun(run, seq);
    this.touch(found, 0);
    return found;
  }

  /** `seq`: of an entry with records or lines; 0 where it is only said something of. */
  touch(run: PlannedRun, seq: number): void {
    run.seq = Math.max(run.seq, seq);
    run.isTouched = true;
  }

  /** What is known of one of its writers, with what this batch brings. */
  writerOf({ local, writers }: PlannedRun, client: string): WriterCounter {
    let writer = writers.get(client);
    if (!writer) {
      const known = this.collector.counters.find(local)?.writersByClient.get(client);
      writers.set(client, (writer = known ? { ...known } : { seq: 0, nextStep: 0 }));
    }
    return writer;
  }

  /** Its row as this batch leaves it. */
  rowOf(planned: PlannedRun): RunRow {
    planned.row ??= selectRow(this.collector, planned.local);
    return planned.row;
  }

  editedOf(planned: PlannedRun): Edited {
    planned.edited ??= planned.isNew ? {} : findEdited(this.collector.connection, planned.local);
    return planned.edited;
  }

  /** What a source's device is called here; undefined where nothing of it is here. */
  device(device: string): string | undefined {
    if (!this.#devices.has(device)) {
      const row = prepared(
        this.collector.connection,
        "SELECT local FROM source_device WHERE source = ? AND device = ?",
      ).get(this.source.id, device) as { local: string } | undefined;
      this.#devices.set(device, row?.local);
    }
    return this.#devices.get(device);
  }

  /** The same; one that was not here is from now on. */
  ensureDevice(device: string): { local: string; writes: Write[] } {
    const known = this.device(device);
    if (known !== undefined) return { local: known, writes: [] };
    const local = this.#reserve(freeDeviceId(this.collector, device, this.source.id));
    this.#devices.set(device, local);
    return {
      local,
      writes: [
        {
          sql: "INSERT INTO source_device (source, device, local) VALUES (?, ?, ?)",
          params: [this.source.id, device, local],
        },
      ],
    };
  }

  requireDevice(device: string, { run, seq }: Frame): string {
    const local = this.device(device);
    if (local === undefined) throw unknownRun(run, seq);
    return local;
  }

  /** Samples of a device have come up to this time. */
  sawSamples(device: string, time: number): void {
    this.#uptos.set(device, Math.max(this.#uptos.get(device) ?? -Infinity, time));
  }

  upTo(device: string): number {
    return this.#uptos.get(device) ?? 0;
  }

  mergeRolled(place: ChunkPlace, rows: RolledRows): void {
    const id = `${place.start} ${place.tier} ${place.device} ${place.subject}`;
    const known = this.#rolled.get(id);
    this.#rolled.set(id, { place, rows: known ? addRows(known.rows, rows) : rows });
  }

  #reserve(id: string): string {
    reservedIds(this.collector).add(id);
    this.#reserved.push(id);
    return id;
  }

  subject(subject: string): string {
    return localSubject(subject, (run) => this.run(run)?.local);
  }

  append(entry: NewEntry, data: unknown, writes: Write[] = []): void {
    this.items.push({ entry, data, writes });
  }

  /** An entry that has no numbers: of the row, a device, an artifact. */
  appendFact(
    { time }: Pick<Frame, "time">,
    kind: EntryKind,
    run: string,
    {
      payload,
      data = payload,
      count = 1,
      writes,
    }: { payload: unknown; data?: unknown; count?: number; writes: Write[] },
  ): void {
    this.append(
      {
        kind,
        version: 1,
        run,
        client: null,
        clientSeq: null,
        ordinal: null,
        nextStep: null,
        count,
        time,
        encoding: Encoding.json,
        payload: new TextEncoder().encode(JSON.stringify(payload)),
      },
      data,
      writes,
    );
  }

  /** What is to be written beside the entries: where each run stands as its source counts, and up to when samples are here. */
  bookkeeping(): Write[] {
    const writes = [...this.writes];
    for (const planned of this.#runs.values()) {
      if (!planned?.isTouched) continue;
      const { run, local, seq, history, nextOrdinal, nextLine, ordinalShift, lineShift } = planned;
      const { isToRenew, isPartial, isLeft } = planned;
      writes.push({
        sql: PUT_RUN,
        params: [
          this.source.id,
          run,
          local,
          seq,
          history,
          isToRenew ? Renew.always : isPartial ? Renew.partial : isLeft ? Renew.byHistory : 0,
          nextOrdinal,
          nextLine,
          ordinalShift,
          lineShift,
        ],
      });
    }
    for (const [device, upto] of this.#uptos)
      writes.push({
        sql: "UPDATE source_device SET upto = max(coalesce(upto, ?1), ?1) WHERE source = ?2 AND device = ?3",
        params: [upto, this.source.id, device],
      });
    for (const { place, rows } of this.#rolled.values()) {
      const write = this.collector.samples.mergeRolled(place, rows);
      if (write) writes.push(write);
    }
    return writes;
  }

  /** The numbers that its entries take, in the tick in which they are queued: a rejection loads them anew. */
  takeNumbers(): void {
    const { counters } = this.collector;
    for (const planned of this.#runs.values()) {
      if (!planned || planned.isDeleted) continue;
      const counter = planned.isNew ? createCounter(this, planned) : counters.find(planned.local);
      if (!counter) continue;
      counter.nextOrdinal = planned.localOrdinal;
      counter.nextLine = planned.localLine;
      for (const [client, { seq, nextStep }] of planned.writers) {
        const writer = writerOf(counter, client);
        writer.seq = Math.max(writer.seq, seq);
        writer.nextStep = nextStep;
      }
    }
  }

  /** Its ids are in the tables now, or never will be. */
  release(): void {
    for (const id of this.#reserved) reservedIds(this.collector).delete(id);
  }
}

function createCounter({ collector, source }: Plan, { local }: PlannedRun): RunCounter {
  const counter = collector.counters.create(local);
  counter.source = source.id;
  return counter;
}

export const PUT_COUNTER = `INSERT INTO counter (run, client, seq, next_step) VALUES (?, ?, ?, ?) ON CONFLICT (run, client)
  DO UPDATE SET seq = max(seq, excluded.seq), next_step = coalesce(excluded.next_step, next_step)`;

const PUT_RUN = `INSERT INTO source_run (source, run, local, seq, history, renew, next_ordinal, next_line, ordinal_shift, line_shift)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source, run) DO UPDATE SET local = excluded.local, seq = max(seq, excluded.seq),
  history = excluded.history, renew = excluded.renew, next_ordinal = excluded.next_ordinal, next_line = excluded.next_line, ordinal_shift = excluded.ordinal_shift,
  line_shift = excluded.line_shift`;

/** What source_run.renew says beside 0. */
export const Renew = { always: 1, partial: 2, byHistory: 3 } as const;

interface SourceRunRow {
  local: string;
  seq: number;
  history: number;
  renew: number;
  next_ordinal: number | null;
  next_line: number | null;
  ordinal_shift: number;
  line_shift: number;
}

const columns = Object.entries(getTableColumns(runTable));
const SELECT_RUN = `SELECT ${columns.map(([, { name }]) => `"${name}"`).join(", ")} FROM run WHERE id = ?`;

/** In one tick, which drizzle's own way is not. */
function selectRow({ connection }: Collector, id: string): RunRow {
  const values = prepared(connection, SELECT_RUN).raw(true).get(id) as unknown[] | undefined;
  if (!values) throw bad(`Run ${id} is not here.`);
  const row = columns.map(([name, column], at) => {
    const value = values[at];
    return [name, value === null ? null : column.mapFromDriverValue(value)];
  });
  return Object.fromEntries(row) as RunRow;
}

export const unknownRun = (run: string, seq: number): CollectorError =>
  new CollectorError("unknown-run", `There is nothing here of ${run}.`, {
    hint: "Send what is kept of it first, as history.",
    details: { run, seq },
  });
