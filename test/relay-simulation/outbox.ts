import type { Frame, Part } from "../../src/relay/contract.ts";
import { digestOf } from "../../src/relay/digest.ts";
import { withOpening } from "../../src/relay/openings.ts";
import type { DeadLetter, Outbox, Piece } from "../../src/relay/ports.ts";
import { pack, type Database } from "./journal.ts";
import type { Process } from "./process.ts";
import type { Dice } from "./random.ts";

const BATCH = 12;

/** Bounds of history: what was there in one tick. */
interface Bounds {
  runs: Map<string, { records: number; lines: number }>;
  devices: Map<string, number>;
  deleted: string[];
}

export interface OutboxContext {
  process: Process;
  database: Database;
  /** The platform's name. */
  to: string;
  dice: Dice;
  /** Calls back when something is appended. */
  subscribe(wake: () => void): () => void;
  newNonce(): string;
  onSave(acked: number, dead: DeadLetter[]): void;
  onIdentity(): void;
}

/**
 * The begin of an opening: the database remembers the last one for each destination. `isDoubtful`: a machine that went back may have
 * written other entries under the same nonce.
 */
export function openDatabase(database: Database, nonce: string, isDoubtful = false): void {
  for (const destination of database.destinations.values())
    destination.openings = withOpening(destination.openings, {
      nonce: database.nonce,
      last: isDoubtful ? Math.min(database.last, destination.state.acked) : database.last,
      answered: destination.answered === database.nonce,
    });
  database.nonce = nonce;
}

export const blank = {
  seq: 0,
  version: 1,
  client: null,
  clientSeq: null,
  ordinal: null,
  nextStep: null,
  encoding: 0,
};

export function createOutbox(context: OutboxContext): Outbox {
  const { process, database, to, dice } = context;
  const mine = () => database.destinations.get(to)!;
  const forgotten = new Set<string>();
  let bounds: Bounds | undefined;
  let bringing: string[] | undefined;
  const step = (what: string) => process.step(what);

  function read(after: number): Piece | undefined {
    const { skip, dead } = mine();
    const { journal, last } = database;
    if (after >= last) return undefined;
    if (after < skip) return { type: "batch", last: Math.min(skip, last), frames: [] };
    const first = journal[0]?.seq ?? last + 1;
    if (first > after + 1) return bring(last, undefined);
    const deadSeqs = new Set([...dead.values()].map(({ frame }) => frame.seq));
    const frames: Frame[] = [];
    const runs = new Set<string>();
    const most = dice.int(1, BATCH);
    let end = after;
    for (let at = after + 1 - first; at < journal.length && frames.length + runs.size < most; at++) {
      const entry = journal[at]!;
      const way = deadSeqs.has(entry.seq) ? "none" : wayOf(entry);
      if (way === "history" ? frames.length > 0 : way === "entry" && runs.size > 0) break;
      if (way === "entry") frames.push(entry);
      if (way === "history") runs.add(entry.run);
      end = entry.seq;
    }
    return runs.size > 0 ? bring(end, [...runs]) : { type: "batch", last: end, frames };
  }

  function bring(last: number, runs: string[] | undefined): Piece {
    bringing = runs;
    return { type: "history", last, runs };
  }

  function wayOf({ kind, run, client, ordinal }: Frame): "entry" | "history" | "none" {
    if (
      kind === "import.began" ||
      database.runs.get(run)?.importing ||
      (forgotten.has(run) && kind !== "run.deleted")
    )
      return "none";
    return kind === "run.imported" || (client === null && ordinal !== null) ? "history" : "entry";
  }

  function partsOf(runs: string[] | undefined): Part[] {
    const named = [...database.runs.values()].filter(
      ({ id, deleted, importing }) => !deleted && !importing && (runs?.includes(id) ?? true),
    );
    bounds = {
      runs: new Map(
        named.map(({ id, records, lines }) => [id, { records: records.length, lines: lines.length }]),
      ),
      devices: new Map(
        runs
          ? []
          : [...database.devices.values()].map(({ id, samples, thinned }) => [id, thinned + samples.length]),
      ),
      deleted: runs ? [] : [...database.runs.values()].filter(({ deleted }) => deleted).map(({ id }) => id),
    };
    if (runs && named.length === 0) return [];
    const facts: Part[] = [{ of: "facts" }];
    // Who wants nothing of before gets to know whose entries come.
    if (runs && runs !== bringing && mine().skip > 0) return facts;
    return [
      ...facts,
      ...[...bounds.runs.keys()].flatMap((run): Part[] => [
        { of: "metrics", run },
        { of: "logs", run },
      ]),
      ...[...bounds.devices.keys()].map((device): Part => ({ of: "samples", device })),
    ];
  }

  async function* history(part: Part, from: number, small = false) {
    if (!bounds) throw new Error("History is sent before its parts were asked for.");
    if (part.of === "facts") yield* facts(bounds);
    else if (part.of === "samples") yield* samples(part.device, from, bounds, small);
    else yield* items(part.of, part.run, from, bounds, small);
  }

  async function* facts({ runs, devices, deleted }: Bounds) {
    let frames: Frame[] = [];
    for (const id of runs.keys()) {
      const run = database.runs.get(id);
      if (run && !run.deleted)
        frames.push({
          ...blank,
          kind: "run.held",
          run: id,
          count: 1,
          time: 0,
          payload: pack({ label: run.label }),
        });
      if (frames.length < 3) continue;
      yield { from: 0, to: 0, frames };
      frames = [];
      await step("reading facts");
    }
    for (const id of devices.keys()) {
      const { label } = database.devices.get(id)!;
      frames.push({
        ...blank,
        kind: "device.held",
        run: `device:${id}`,
        count: 1,
        time: 0,
        payload: pack({ label }),
      });
    }
    for (const id of deleted)
      frames.push({ ...blank, kind: "run.deleted", run: id, count: 1, time: 0, payload: pack({}) });
    if (frames.length > 0) yield { from: 0, to: 0, frames };
  }

  async function* items(of: "metrics" | "logs", id: string, from: number, { runs }: Bounds, small: boolean) {
    const base = of === "logs" ? 1 : 0;
    const end = base + runs.get(id)![of === "logs" ? "lines" : "records"];
    for (let at = Math.max(from, base); at < end;) {
      await step(`reading ${of}`);
      const run = database.runs.get(id);
      if (!run || run.deleted) return;
      const all = of === "logs" ? run.lines : run.records;
      const to = small ? at + 1 : Math.min(end, at + dice.int(1, 12));
      const frames: Frame[] = [];
      for (let start = at; start < to;) {
        const stop = Math.min(to, start + dice.int(1, 6));
        frames.push({
          ...blank,
          kind: of === "logs" ? "log.appended" : "metric.appended",
          run: id,
          ordinal: start,
          count: stop - start,
          time: 0,
          payload: pack(all.slice(start - base, stop - base)),
        });
        start = stop;
      }
      yield { from: at, to, frames };
      at = to;
    }
  }

  async function* samples(id: string, from: number, { devices }: Bounds, small: boolean) {
    // Rows that came late have times below the last one.
    const device = database.devices.get(id)!;
    const rows = device.samples
      .slice(0, Math.max(0, devices.get(id)! - device.thinned))
      .filter(({ time }) => time >= from - 60_000)
      .sort((a, b) => a.time - b.time);
    let position = from;
    for (let at = 0; at < rows.length;) {
      await step("reading samples");
      const some = rows.slice(at, at + (small ? 1 : dice.int(1, 8)));
      at += some.length;
      const to = Math.max(position, some.at(-1)!.time);
      yield {
        from: position,
        to,
        frames: [
          {
            ...blank,
            kind: "sample.appended",
            run: `device:${id}`,
            count: some.length,
            time: 0,
            payload: pack(some),
          },
        ],
      };
      position = to;
    }
  }

  return {
    identity: () => ({
      id: database.id,
      epoch: database.epoch,
      nonce: database.nonce,
      openings: mine().openings,
    }),
    async greeted() {
      await step("before it notes the greeting");
      mine().answered = database.nonce;
      await step("after it noted the greeting");
    },
    async newEpoch(above) {
      await step("before a new epoch");
      openDatabase(database, context.newNonce(), true);
      database.epoch = Math.max(database.epoch, above) + 1;
      context.onIdentity();
      await step("after a new epoch");
    },
    async newSource() {
      await step("before it becomes a source of its own");
      Object.assign(database, { id: context.newNonce(), epoch: 1, nonce: context.newNonce() });
      for (const destination of database.destinations.values())
        Object.assign(destination, {
          openings: [],
          answered: null,
          state: { epoch: 0, acked: 0, paused: null },
        });
      context.onIdentity();
      await step("after it became a source of its own");
    },
    last: () => database.last,
    async digestAt(seq) {
      await step("reading a digest");
      const { journal } = database;
      const entry = journal[seq - (journal[0]?.seq ?? 0)];
      return entry && digestOf(entry);
    },
    async read(after) {
      await step("reading the journal");
      return read(after);
    },
    forget: (run) => void forgotten.add(run),
    async wait(after, signal) {
      while (database.last <= after && !signal.aborted)
        await new Promise<void>((resolve) => {
          const end = () => {
            unsubscribe();
            signal.removeEventListener("abort", end);
            resolve();
          };
          const unsubscribe = context.subscribe(end);
          signal.addEventListener("abort", end);
        });
      await process.hear(Promise.resolve());
    },
    state: () => ({ ...mine().state }),
    async save(state, dead) {
      await step("before it saves");
      context.onSave(state.acked, dead);
      mine().state = { ...state };
      for (const letter of dead) {
        const { seq, kind, run, ordinal, count, time } = letter.frame;
        mine().dead.set([seq, kind, run, ordinal, count, time].join(), { ...letter, epoch: state.epoch });
      }
      await step("after it saved");
    },
    async parts(runs) {
      await step("before it takes bounds");
      const parts = partsOf(runs);
      await step("after it took bounds");
      return parts;
    },
    history,
  };
}
