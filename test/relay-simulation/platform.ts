import type {
  Accepted,
  Batch,
  Cursor,
  Frame,
  Hello,
  HistoryAccepted,
  HistoryBatch,
  HistoryPart,
  Part,
  Session,
} from "../../src/relay/contract.ts";
import { UNREADABLE } from "../../src/relay/contract.ts";
import {
  acceptBatch,
  acceptHistory,
  checkSession,
  greet,
  place,
  type Numbering,
  type Refused,
  type SourceState,
} from "../../src/source/accept.ts";
import { isPoison, mapValues, unpack, type Item, type Sample } from "./journal.ts";
import type { Process } from "./process.ts";

/** Items by their number here. */
export type Items = Map<number, Item>;

export interface RelayedRun {
  records: Items;
  lines: Items;
  nextRecord: number;
  nextLine: number;
  recordNumbering: Numbering;
  lineNumbering: Numbering;
  /** The last entry of which it has records or lines. */
  seq: number;
  /** The last entry that a piece of history may hold of. */
  history: number;
  isToRenew: boolean;
  /** Entries of a life that was left stand in it, and what they hold may come again: history of it begins anew. */
  isLeft: boolean;
  /** History is still to bring all of it. */
  isPartial: boolean;
  clients: Map<string, number>;
  label: string;
  deleted: boolean;
  /** What an earlier life of the source made of it, where nobody could tell how far both are one. */
  left: { records: Items; lines: Items }[];
}

export interface RelayedDevice {
  label: string;
  samples: Sample[];
  upto: number;
}

export interface RelayedSource {
  state: SourceState;
  runs: Map<string, RelayedRun>;
  devices: Map<string, RelayedDevice>;
  /** Entries of a kind that platforms learned later. */
  others: Item[];
}

export interface PlatformDatabase {
  id: string;
  sources: Map<string, RelayedSource>;
}

export const copyPlatform = (database: PlatformDatabase): PlatformDatabase => ({
  id: database.id,
  sources: mapValues(database.sources, copySource),
});

const copySource = ({ state, runs, devices, others }: RelayedSource): RelayedSource => ({
  state,
  runs: mapValues(runs, copyRun),
  devices: mapValues(devices, (device) => ({ ...device, samples: [...device.samples] })),
  others: [...others],
});

const copyRun = (run: RelayedRun): RelayedRun => ({
  ...run,
  records: new Map(run.records),
  lines: new Map(run.lines),
  clients: new Map(run.clients),
  left: [...run.left],
});

/** Rules that can be broken on purpose, to see that it is found. */
export interface PlatformFlaws {
  /** Entries and cursor are two transactions. */
  twoTransactions?: boolean;
  /** Records are known by their time, not by their number. */
  dedupeByTime?: boolean;
  /** It tells no digest. */
  noDigest?: boolean;
  /** Whoever comes with another nonce is the same source. */
  noFencing?: boolean;
  /** Requests of earlier turns are taken. */
  noTurns?: boolean;
}

export interface PlatformContext {
  process: Process;
  database: PlatformDatabase;
  now: () => number;
  /** Whether it was upgraded to the kinds of these collectors. */
  knowsAll: () => boolean;
  /** A refusal that names no entry, as from something in between. */
  isVague: () => boolean;
  say: ((text: string) => void) | undefined;
  onCommit: (source: string, before: SourceState | undefined, after: SourceState) => void;
  flaws: PlatformFlaws;
}

export interface Platform {
  greet(source: string, hello: Hello): Promise<Cursor | Refused>;
  send(source: string, batch: Batch): Promise<Accepted | Refused>;
  positions(source: string, session: Session, parts: Part[]): Promise<number[] | Refused>;
  sendHistory(source: string, batch: HistoryBatch): Promise<HistoryAccepted | Refused>;
}

const refuse = (
  refused: Refused["refused"],
  detail: string,
  details: Record<string, unknown> = {},
): Refused => ({
  refused,
  detail,
  hint: "",
  details,
});

const newRun = (): RelayedRun => ({
  records: new Map(),
  lines: new Map(),
  nextRecord: 0,
  nextLine: 1,
  recordNumbering: { next: 0, shift: 0 },
  lineNumbering: { next: 1, shift: 0 },
  seq: 0,
  history: 0,
  isToRenew: false,
  isLeft: false,
  isPartial: false,
  clients: new Map(),
  label: "",
  deleted: false,
  left: [],
});

export function createPlatform(context: PlatformContext): Platform {
  const { process, database, now, flaws } = context;
  const { sources } = database;
  const turns = new Map<string, Promise<void>>();
  const whose = () => ({ own: database.id, now: now() });

  /** Requests of a source one after another. */
  async function inTurn<T>(source: string, work: () => Promise<T>): Promise<T> {
    const before = turns.get(source) ?? Promise.resolve();
    let end = () => {};
    turns.set(source, new Promise((resolve) => (end = resolve)));
    await before;
    try {
      return await work();
    } finally {
      end();
    }
  }

  function commit(id: string, state: SourceState): void {
    const source = sources.get(id);
    context.onCommit(id, source?.state, state);
    if (source) source.state = state;
    else sources.set(id, { state, runs: new Map(), devices: new Map(), others: [] });
  }

  const lax = <T extends Session>(id: string, session: T): T => {
    const state = sources.get(id)?.state;
    return flaws.noTurns && state ? { ...session, turn: state.turn } : session;
  };

  async function onHello(id: string, said: Hello): Promise<Cursor | Refused> {
    await process.step("a greeting");
    let known = sources.get(id)?.state;
    let hello = said;
    if (flaws.noFencing && known) {
      known = { ...known, nonce: hello.nonce, openings: [] };
      hello = { ...hello, turn: Math.max(hello.turn, known.turn) };
    }
    const answer = greet(known, hello, whose());
    if ("refused" in answer) return answer;
    commit(id, answer.state);
    const { cut } = answer;
    if (cut !== undefined)
      for (const run of sources.get(id)!.runs.values())
        if (run.seq > cut) {
          run.isToRenew ||= run.history > cut;
          run.isLeft = true;
          run.recordNumbering = { ...run.recordNumbering, next: null };
          run.lineNumbering = { ...run.lineNumbering, next: null };
        }
    await process.step("the answer to a greeting");
    const { epoch, acked, reach, digest } = answer.state;
    return {
      source: id,
      turn: said.turn,
      epoch,
      acked,
      reach,
      digest: flaws.noDigest ? null : digest,
      partial: [...sources.get(id)!.runs].flatMap(([name, { isPartial }]) => (isPartial ? [name] : [])),
      platform: database.id,
      kinds: {},
    };
  }

  async function onBatch(id: string, batch: Batch): Promise<Accepted | Refused> {
    await process.step("a batch");
    const accepted = acceptBatch(sources.get(id)?.state, lax(id, batch), whose());
    if ("refused" in accepted) return accepted;
    const { frames, state } = accepted;
    const source = sources.get(id)!;
    const wrong = wrongWith(source, frames);
    if (wrong) return wrong;
    await process.step("before the commit of a batch");
    for (const frame of frames) apply(source, frame, frame.seq <= state.doubt);
    if (flaws.twoTransactions) await process.step("between entries and cursor");
    commit(id, state);
    await process.step("after the commit of a batch");
    return { acked: state.acked };
  }

  /** All or nothing: the first that can't be taken refuses the batch. */
  function wrongWith({ runs }: RelayedSource, frames: Frame[]): Refused | undefined {
    const created = new Set<string>();
    for (const { kind, run, seq, payload } of frames) {
      const where = context.isVague() ? {} : { seq };
      if (kind.startsWith("future.") && !context.knowsAll())
        return refuse("unknown-kind", `Entries of kind ${kind} can't be read here.`, { ...where, kind });
      if (isPoison(new TextDecoder().decode(payload)))
        return refuse("invalid", "That makes no sense.", "seq" in where ? where : { body: UNREADABLE });
      if (kind === "run.created" && !runs.has(run)) created.add(run);
      else if (
        !run.includes(":") &&
        kind !== "run.deleted" &&
        !isReady(runs.get(run), kind) &&
        !created.has(run)
      )
        return refuse("unknown-run", `Run ${run} is not known here.`, { seq, run });
    }
    return undefined;
  }

  /** What came of it by history, of a life that was left, can't be compared with entries: it begins anew, whole. */
  const isReady = (run: RelayedRun | undefined, kind: string) =>
    run !== undefined &&
    !((run.isToRenew || run.isPartial) && (kind === "metric.appended" || kind === "log.appended"));

  function apply(source: RelayedSource, frame: Frame, mayBeKnown: boolean): void {
    const { kind, run: name, seq } = frame;
    if (name.startsWith("device:")) return applyDevice(source, frame, mayBeKnown);
    const said = unpack(frame.payload);
    if (kind.startsWith("future.")) {
      if (!source.others.includes(said.id)) source.others.push(said.id);
      return;
    }
    const isItems = kind === "metric.appended" || kind === "log.appended";
    let run = source.runs.get(name);
    if (!run && kind === "run.deleted") return;
    if (!run) source.runs.set(name, (run = { ...newRun(), isPartial: kind === "run.held" }));
    if (isItems) run.seq = Math.max(run.seq, seq);
    if (isItems) return applyItems(run, frame);
    run.deleted = kind === "run.deleted";
    run.label = said.label ?? run.label;
  }

  function applyItems(
    run: RelayedRun,
    { kind, client, clientSeq, ordinal, count, payload, time }: Frame,
  ): void {
    const isLog = kind === "log.appended";
    const items = unpack(payload) as Item[];
    const isKnown = client !== null && clientSeq! <= (run.clients.get(client) ?? 0);
    if (client !== null && !isKnown) run.clients.set(client, clientSeq!);
    const { skip, at, numbering } = place(
      isLog ? run.lineNumbering : run.recordNumbering,
      { ordinal: ordinal!, count },
      flaws.dedupeByTime ? isSeen(run, time) : isKnown,
      isLog ? run.nextLine : run.nextRecord,
    );
    const target = isLog ? run.lines : run.records;
    context.say?.(
      `${database.id.slice(0, 4)} places ${items.join()} (${client}.${clientSeq}, ${ordinal}): ${skip} known, at ${at}`,
    );
    for (let i = skip; i < count; i++) target.set(at + i - skip, items[i]!);
    const next = skip === count ? at : at + count - skip;
    if (isLog) Object.assign(run, { lineNumbering: numbering, nextLine: next });
    else Object.assign(run, { recordNumbering: numbering, nextRecord: next });
  }

  const times = new WeakMap<RelayedRun, number>();
  function isSeen(run: RelayedRun, time: number): boolean {
    if (time === 0) return false;
    const isOld = time <= (times.get(run) ?? 0);
    if (!isOld) times.set(run, time);
    return isOld;
  }

  function applyDevice(source: RelayedSource, { kind, run, payload }: Frame, mayBeKnown: boolean): void {
    const id = run.slice(7);
    let device = source.devices.get(id);
    if (!device) source.devices.set(id, (device = { label: "", samples: [], upto: 0 }));
    const said = unpack(payload);
    if (kind !== "sample.appended") {
      device.label = said.label;
      return;
    }
    for (const sample of said as Sample[]) {
      device.upto = Math.max(device.upto, sample.time);
      if (mayBeKnown && device.samples.some(({ time }) => time === sample.time)) {
        context.say?.(`${sample.value} is known`);
        continue;
      }
      device.samples.push(sample);
    }
  }

  async function onPositions(id: string, session: Session, parts: Part[]): Promise<number[] | Refused> {
    await process.step("a question for positions");
    const source = sources.get(id);
    const refused = checkSession(source?.state, lax(id, session), whose());
    if (refused) return refused;
    for (const part of parts) {
      if (part.of === "facts" || part.of === "samples") continue;
      const run = source!.runs.get(part.run);
      if (run && isUncertain(run)) renew(source!, part.run);
    }
    const positions = parts.map((part) => standOf(source!, part));
    await process.step("the answer with positions");
    return positions;
  }

  const isUncertain = ({ recordNumbering, lineNumbering, isToRenew, isLeft }: RelayedRun) =>
    isToRenew || isLeft || recordNumbering.next === null || lineNumbering.next === null;

  /** A run that went on in two ways is two runs, where the entries are gone that would tell where they part. */
  function renew(source: RelayedSource, name: string): void {
    context.say?.(`${name} begins anew`);
    const { records, lines, left, seq, label, deleted } = source.runs.get(name)!;
    source.runs.set(name, {
      ...newRun(),
      isPartial: true,
      seq,
      label,
      deleted,
      left: [...left, { records, lines }],
    });
  }

  async function onHistory(id: string, batch: HistoryBatch): Promise<HistoryAccepted | Refused> {
    await process.step("a piece of history");
    const source = sources.get(id);
    const { part } = batch;
    if (source && (part.of === "metrics" || part.of === "logs")) {
      const run = source.runs.get(part.run);
      if (!run) return refuse("unknown-run", `Run ${part.run} is not known here.`, { run: part.run });
      if (isUncertain(run)) renew(source, part.run);
    }
    const position = source ? standOf(source, batch.part) : 0;
    const accepted = acceptHistory(source?.state, lax(id, batch), position, whose());
    if ("refused" in accepted) return accepted;
    const rejected = batch.frames.flatMap(({ payload }, index) =>
      isPoison(new TextDecoder().decode(payload))
        ? [{ index, type: "invalid", detail: "That makes no sense." }]
        : [],
    );
    if (rejected.length > 0)
      return refuse(
        "invalid",
        "Some of it makes no sense.",
        context.isVague() ? { body: UNREADABLE } : { rejected },
      );
    await process.step("before the commit of history");
    if (accepted.apply) for (const frame of batch.frames) apply(source!, frame, true);
    touch(source!, batch);
    commit(id, accepted.state);
    await process.step("after the commit of history");
    return { position: standOf(source!, batch.part) };
  }

  function standOf(source: RelayedSource, part: HistoryPart): number {
    if (part.of === "facts" || part.of === "whole") return 0;
    if (part.of === "samples") return source.devices.get(part.device)?.upto ?? 0;
    const run = source.runs.get(part.run);
    return (part.of === "logs" ? run?.lineNumbering.next : run?.recordNumbering.next) ?? 0;
  }

  /** The part stands at the piece's end, whatever was in it. */
  function touch(source: RelayedSource, { part, to, upto }: HistoryBatch): void {
    if (part.of === "facts") return;
    if (part.of === "whole") {
      for (const [name, run] of source.runs) if ((part.run ?? name) === name) run.isPartial = false;
      return;
    }
    if (part.of === "samples") {
      const device = source.devices.get(part.device);
      if (device) device.upto = Math.max(device.upto, to);
      return;
    }
    const run = source.runs.get(part.run);
    if (!run) return;
    run.seq = Math.max(run.seq, upto);
    run.history = Math.max(run.history, upto);
    const which = part.of === "logs" ? "lineNumbering" : "recordNumbering";
    run[which] = { ...run[which], next: Math.max(run[which].next ?? 0, to) };
  }

  return {
    greet: (id, hello) => inTurn(id, () => onHello(id, hello)),
    send: (id, batch) => inTurn(id, () => onBatch(id, batch)),
    positions: (id, session, parts) => inTurn(id, () => onPositions(id, session, parts)),
    sendHistory: (id, batch) => inTurn(id, () => onHistory(id, batch)),
  };
}
