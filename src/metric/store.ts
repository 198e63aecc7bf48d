import type { Entry } from "../entry.ts";
import { createChunkTable, writeOfSeries } from "../store/chunk-table.ts";
import { CHUNK_POINTS, type Page } from "../store/head.ts";
import type { Applier } from "../store/journal.ts";
import type { Write } from "../store/journal-rows.ts";
import type { Connection } from "../store/open.ts";
import { createSealer } from "../store/seal.ts";
import { applyAxes } from "./axes.ts";
import type { MetricBatch } from "./batch.ts";
import { decodeBatch } from "./decode.ts";
import { tooManySeries } from "./parse.ts";
import { createReader, type SeriesReader } from "./reader.ts";
import { mergePoints, mergeTexts, type PointRows, type TextRow } from "./rows.ts";
import { MAX_SERIES_PER_RUN, type MetricSummary } from "./schema.ts";
import { createReplayBound } from "./replay-bound.ts";
import { Series } from "./series.ts";
import { declarationOf, summarize, type DeclaredSeries } from "./summary.ts";
import { createTextSealer } from "./text-sealer.ts";
import { createWaitingRoom } from "./waiting-room.ts";
import { recordWindows, type RecordWindow, type WindowSize } from "./windows.ts";

/** Points in memory above which the largest heads are sealed before they are full. 32 bytes a point. */
const MAX_POINTS = 1_500_000;
/** So many times that, and writers wait. */
const HARD_FACTOR = 2;
/** A series that rests so long leaves memory, and its entries the journal. */
const IDLE_MS = 30_000;
const TICK_MS = 1000;
/** A text costs about as much memory as so many points. */
const TEXT_POINTS = 8;

/** The metrics of all runs: heads in memory, chunks on disk. */
export interface SeriesStore extends SeriesReader {
  readonly applier: Applier;
  /** Refuses a batch that would bring more series than a run may have; else its new series count from now on. */
  admit(run: string, batch: MetricBatch): void;
  /** undefined, or what a writer waits for while sealing catches up: sooner where it is `patient`, having kept what it brings. */
  room(patient?: boolean): Promise<void> | undefined;
  list(run: string): MetricSummary[];
  /** The series of a run, in the order of their first appearance, and all that was logged to them before a record. */
  dump(run: string, before: number): SeriesDump;
  /** The series of a run, in that order. */
  series(run: string): DeclaredSeries[];
  /** What was logged from one record on to before another, as columns; throws "gone" when the run is deleted meanwhile. */
  windows(
    run: string,
    range: { from: number; before: number; size?: WindowSize | undefined },
  ): AsyncIterable<RecordWindow>;
  /** Takes up series before their first points, in this order and with these axes; what is to be written of them. */
  declare(run: string, series: readonly DeclaredSeries[]): Write[];
  /** Largest step a run, or one rank of it, has seen; null before the first record. */
  lastStep(run: string, rank?: number): number | null;
  /** Seals everything that is only in memory (and in the journal). */
  seal(): Promise<void>;
  /** Forgets a run, in memory at once and on disk in small transactions. */
  purge(run: string): Promise<void>;
  close(): void;
}

export interface SeriesDump {
  series: DeclaredSeries[];
  points: AsyncIterable<PointRows>;
  texts: Iterable<TextRow>;
}

export interface SeriesStoreOptions {
  onFatal: (error: unknown) => void;
  onWorkerLost: (error: unknown) => void;
  /** Sealing met a full disk. */
  onFull: () => void;
  /** How far the journal has come, entries of other kinds included: those are held up by ours, too. */
  journalPosition: () => { seq: number; bytes: number };
  /** Points of a chunk; the same for the life of a database. */
  chunkPoints?: number | undefined;
  useWorker?: boolean | undefined;
  /** Points in memory above which heads are sealed before they are full. */
  maxPoints?: number | undefined;
  /** Journal entries that a start may have to replay. */
  maxReplayEntries?: number | undefined;
  /** Their bytes. */
  maxReplayBytes?: number | undefined;
  /** How often memory and journal are looked after. */
  tickMs?: number | undefined;
}

interface RunSeries {
  /** Series by rank, by key. */
  byKey: Map<string, Map<number, Series>>;
  /** "rank key" of every series, also those whose first batch is still on its way to disk. */
  admitted: Set<string>;
  /** Monotonic ms. */
  usedAt: number;
}

export function createSeriesStore(
  connection: Connection,
  {
    onFatal,
    onWorkerLost,
    onFull,
    journalPosition,
    chunkPoints = CHUNK_POINTS,
    useWorker,
    maxPoints = MAX_POINTS,
    maxReplayEntries,
    maxReplayBytes,
    tickMs = TICK_MS,
  }: SeriesStoreOptions,
): SeriesStore {
  const table = createChunkTable(connection);
  const sealer = createSealer(connection, table, {
    chunkPoints,
    onFatal,
    onFull: tellFull,
    onWorkerLost,
    useWorker,
  });
  const texts = createTextSealer(connection, table, {
    onFatal,
    onFull: tellFull,
    onSealed(series, count) {
      pending -= TEXT_POINTS * count;
      settle(series);
    },
  });
  const runs = new Map<string, RunSeries>();
  /** Series with something that is only in memory. */
  const dirty = new Set<Series>();
  let nextId = table.nextSeriesId();
  let pending = 0;
  let lastSeq = 0;
  const queue = createWaitingRoom(() => pending);
  let closed = false;
  const hardMaxPoints = maxPoints * HARD_FACTOR;
  const replay = createReplayBound({ entries: maxReplayEntries, bytes: maxReplayBytes });

  const timer = setInterval(tick, tickMs);
  timer.unref();

  function seriesOf(run: string): RunSeries {
    let held = runs.get(run);
    if (!held) {
      held = { byKey: new Map(), admitted: new Set(), usedAt: 0 };
      runs.set(run, held);
      for (const row of table.loadSeries(run)) hold(held, new Series(row));
    }
    held.usedAt = performance.now();
    return held;
  }

  function hold({ byKey, admitted }: RunSeries, series: Series): Series {
    const { key, rank } = series;
    const byRank = byKey.get(key);
    if (byRank) byRank.set(rank, series);
    else byKey.set(key, new Map([[rank, series]]));
    admitted.add(`${rank} ${key}`);
    return series;
  }

  function find(run: string, key: string, rank: number | undefined): Series | undefined {
    const byRank = seriesOf(run).byKey.get(key);
    return byRank?.get(rank ?? Math.min(...byRank.keys()));
  }

  function apply(entry: Entry, data: unknown): MetricBatch {
    const batch = (data as MetricBatch | undefined) ?? decodeBatch(entry);
    const { run, seq } = entry;
    const { rank, ordinal } = batch;
    lastSeq = seq;
    const held = seriesOf(run);
    const open = (key: string) =>
      held.byKey.get(key)?.get(rank) ?? hold(held, Series.create(nextId++, run, key, rank, ordinal));
    for (const column of batch.numbers) {
      const series = open(column.key);
      const taken = series.append(batch, column, seq, chunkPoints, () => sealFull(series));
      pending += taken;
      replay.applied(column.values.length);
      if (taken > 0) dirty.add(series);
    }
    for (const column of batch.texts) {
      const series = open(column.key);
      const taken = series.appendTexts(batch, column, seq);
      pending += TEXT_POINTS * taken;
      replay.applied(column.json.length);
      if (taken > 0) dirty.add(series);
    }
    if (batch.axes.length > 0) applyAxes(held.byKey, batch);
    return batch;
  }

  /** Who waits for sealing would wait in vain: let the journal tell them why. */
  function tellFull(): void {
    onFull();
    queue.admitAll();
  }

  /** Full pages, in order: a page must not be written before the one it follows, or a kill in between would lose that one. */
  function sealFull(series: Series): void {
    for (const page of series.pages) {
      if (page.sealing === "part" || !page.full) return;
      if (page.sealing === "no") sealPage(series, page);
    }
  }

  /** Everything of a series, full or not. */
  function sealSeries(series: Series): void {
    sealFull(series);
    const last = series.pages.at(-1);
    const before = series.pages.at(-2);
    if (last?.sealing === "no" && (before === undefined || before.sealing === "whole"))
      sealPage(series, last);
    texts.seal(series);
  }

  function sealPage(series: Series, page: Page): void {
    const { id } = series;
    const position = Math.floor(series.sealed / chunkPoints) + series.pages.indexOf(page);
    const { full, length, prefix } = page;
    const points = page.columns();
    const nextSeq = lastSeq + 1;
    page.sealing = full ? "whole" : "part";
    sealer.seal({
      series,
      position,
      job: () => ({
        group: `${series.rank} ${series.run}`,
        full,
        tail:
          prefix > 0 && !series.dead
            ? { axis: table.axis(id, position), values: table.values(id, position) }
            : null,
        points,
      }),
      done() {
        page.sealing = "no";
        if (series.dead) return;
        series.sealed += length;
        series.sealedOrdinal = page.ordinal[length - 1]!;
        pending -= length;
        if (!full) page.drop(length, nextSeq);
        if (full || page.length === 0) series.pages.shift()!.release();
        else sealFull(series);
        settle(series);
      },
    });
  }

  function settle(series: Series): void {
    if (series.pages.length === 0 && series.texts.length === 0) dirty.delete(series);
    queue.admit();
  }

  function tick(): void {
    if (closed) return;
    relieveMemory();
    relieveJournal();
    const now = performance.now();
    for (const series of dirty) {
      const held = runs.get(series.run);
      if (held && now - held.usedAt > IDLE_MS) sealSeries(series);
    }
    forgetIdle(now);
  }

  /** The largest heads first: they give most for one chunk that is to be written again. */
  function relieveMemory(): void {
    if (pending <= maxPoints) return;
    let over = pending - 0.75 * maxPoints;
    const sizeOf = (series: Series) =>
      series.pages.reduce((sum, page) => sum + page.length, TEXT_POINTS * series.texts.length);
    for (const series of [...dirty].sort((a, b) => sizeOf(b) - sizeOf(a))) {
      if (over <= 0) return;
      over -= sizeOf(series);
      sealSeries(series);
    }
  }

  /** A series that grows slowly would hold every entry since its last chunk, and a start would replay them all. */
  function relieveJournal(): void {
    const position = journalPosition();
    const before = replay.excess(position, lowWater() ?? position.seq + 1);
    if (before === undefined) return;
    for (const series of dirty) if (series.firstSeq! <= before) sealSeries(series);
  }

  /** Runs nobody asks for leave memory; their rows bring them back. */
  function forgetIdle(now: number): void {
    for (const [run, { byKey, usedAt }] of runs) {
      if (now - usedAt < 2 * IDLE_MS) continue;
      const clean = [...byKey.values()].every((byRank) =>
        [...byRank.values()].every((series) => !dirty.has(series)),
      );
      if (clean) runs.delete(run);
    }
  }

  function lowWater(): number | undefined {
    let low: number | undefined;
    for (const { firstSeq } of dirty) if (firstSeq !== undefined && !(firstSeq >= low!)) low = firstSeq;
    return low;
  }

  /** In memory they stand by key; who else reads them takes them as they came. */
  function listSeries(run: string): Series[] {
    const all = [...seriesOf(run).byKey.values()].flatMap((byRank) => [...byRank.values()]);
    return all.sort((a, b) => a.firstOrdinal - b.firstOrdinal || a.id - b.id);
  }

  return {
    applier: { kind: "metric.appended", apply, lowWater },

    admit(run, { rank, numbers, texts }) {
      const { admitted } = seriesOf(run);
      const fresh: string[] = [];
      for (const { key } of numbers) if (!admitted.has(`${rank} ${key}`)) fresh.push(`${rank} ${key}`);
      for (const { key } of texts) if (!admitted.has(`${rank} ${key}`)) fresh.push(`${rank} ${key}`);
      if (fresh.length === 0) return;
      if (admitted.size + fresh.length > MAX_SERIES_PER_RUN) throw tooManySeries();
      for (const id of fresh) admitted.add(id);
    },

    room(patient = false) {
      const most = patient ? maxPoints : hardMaxPoints;
      if (pending <= most || closed) return undefined;
      relieveMemory();
      return queue.wait(most);
    },

    list(run) {
      return [...seriesOf(run).byKey].map(([name, byRank]) => summarize(name, byRank));
    },

    ...createReader(table, chunkPoints, find),

    dump(run, before) {
      const list = listSeries(run);
      return {
        series: list.map(declarationOf),
        points: mergePoints(table, list, chunkPoints, before),
        texts: mergeTexts(table, list, before),
      };
    },

    series: (run) => listSeries(run).map(declarationOf),

    windows: (run, range) => recordWindows(table, listSeries(run), chunkPoints, range),

    declare(run, declared) {
      const held = seriesOf(run);
      return declared.map(({ key, rank, x, axis, first }, place) => {
        // Before every record: what is logged later comes behind them.
        const series = hold(held, Series.create(nextId++, run, key, rank, first ?? place - declared.length));
        Object.assign(series.stats, { x, axis });
        return writeOfSeries(series.rowAt(0, -1));
      });
    },

    lastStep(run, only) {
      let last = -Infinity;
      for (const byRank of seriesOf(run).byKey.values())
        for (const [rank, { stats }] of byRank)
          if (only === undefined || rank === only) last = Math.max(last, stats.maxStep);
      return last === -Infinity ? null : last;
    },

    async seal() {
      do {
        for (const series of dirty) sealSeries(series);
        await Promise.all([sealer.idle(), texts.idle()]);
      } while (dirty.size > 0 && !closed);
    },

    async purge(run) {
      for (const byRank of seriesOf(run).byKey.values())
        for (const series of byRank.values()) {
          series.dead = true;
          pending -= series.count - series.sealed + TEXT_POINTS * series.texts.length;
          dirty.delete(series);
        }
      runs.delete(run);
      for (const { id } of table.loadSeries(run))
        while (!closed && table.deletePart(id)) await new Promise((resolve) => setImmediate(resolve));
      runs.delete(run);
    },

    close() {
      closed = true;
      clearInterval(timer);
      sealer.close();
      texts.close();
      queue.admitAll();
    },
  };
}
