import { toWire, type AxisColumn, type MetricBatch } from "../metric/batch.ts";
import type { LogLine } from "../log/schema.ts";
import type { OpenLines } from "../log/open.ts";
import type { Run } from "../run/schema.ts";
import { ARTIFACT_STREAM } from "../entry.ts";
import { toSpan } from "../span/list.ts";
import type { LiveSpans, SpanRow } from "../span/schema.ts";

/** New points of one series. */
export interface LiveSeries {
  key: string;
  rank: number;
  /** Custom x axis; null: the step. */
  x: string | null;
  /** Points since the last tick, of which `points` are those that a chart needs: ends, extremes, all that are not finite. */
  n: number;
  /** [ordinal, step, time, value], and with a custom axis its value, or null where the record had none. */
  points: unknown[][];
}

/** Data of a `record` event. */
export interface LiveRecords {
  run: string;
  series: LiveSeries[];
  /** More series changed than one event holds: ask for what is shown. */
  more: boolean;
}

/** Data of a `log` event. `skipped` lines came before these in this tick: read them by number. */
export interface LiveLines {
  run: string;
  skipped: number;
  lines: LogLine[];
}

/** Data of an `open` event: a writer's lines that are still being rewritten. */
export interface LiveOpen extends OpenLines {
  run: string;
}

/** Data of an `artifact` event: models or artifacts changed, by this run or by nobody's. What they are now is asked for. */
export interface LiveArtifact {
  run: string | null;
}

/** Data of a `run` event. */
export interface LiveRun extends Run {
  deleted: boolean;
}

/** Of one series, and of all in one event: a tick stays below a few hundred kilobytes, whatever is logged. */
const MAX_POINTS = 200;
const MAX_POINTS_IN_ALL = 10_000;
const MAX_SERIES = 1000;
const MAX_LINES = 500;
const MAX_LINE_CHARACTERS = 256 * 1024;
const MAX_SPANS = 500;
const MAX_TEXTS = 20;
const MAX_TEXT = 200;

/** One value of a series in a batch. */
interface Part {
  batch: MetricBatch;
  index: Uint32Array | null;
  values: Float64Array;
  axis: { index: Uint32Array | null; values: Float64Array } | null;
}

interface Pending {
  key: string;
  rank: number;
  x: string | null;
  n: number;
  parts: Part[];
  texts: unknown[][];
}

/** What happened to a run since the last tick. Batches are kept as they came and looked into once, however many watch. */
export class Tick {
  readonly #seriesById = new Map<string, Pending>();
  #more = false;
  #lines: LogLine[] = [];
  #skipped = 0;
  readonly #openByRank = new Map<number, OpenLines>();
  #run: LiveRun | undefined;
  #hasArtifacts = false;
  readonly #spansById = new Map<string, SpanRow>();
  #moreSpans = false;
  isEmpty = true;

  addRecords(batch: MetricBatch): void {
    this.isEmpty = false;
    for (const { key, index, values } of batch.numbers) {
      const pending = this.#pending(key, batch.rank);
      if (!pending) continue;
      const axisKey = axisOf(batch.axes, index ? (index.at(-1) ?? 0) : batch.count - 1);
      const axis = axisKey === null ? undefined : batch.numbers.find((column) => column.key === axisKey);
      pending.x = axisKey === key ? pending.x : axisKey;
      pending.n += values.length;
      pending.parts.push({ batch, index, values, axis: axis ?? null });
    }
    for (const { key, index, json } of batch.texts) {
      const pending = this.#pending(key, batch.rank);
      if (!pending) continue;
      pending.n += json.length;
      const from = Math.max(0, json.length - MAX_TEXTS);
      for (let i = from; i < json.length; i++) pending.texts.push(textPoint(batch, index[i]!, json[i]!));
      if (pending.texts.length > MAX_TEXTS) pending.texts = pending.texts.slice(-MAX_TEXTS);
    }
  }

  #pending(key: string, rank: number): Pending | undefined {
    const id = `${rank} ${key}`;
    let pending = this.#seriesById.get(id);
    if (pending) return pending;
    if (this.#seriesById.size >= MAX_SERIES) {
      this.#more = true;
      return undefined;
    }
    pending = { key, rank, x: null, n: 0, parts: [], texts: [] };
    this.#seriesById.set(id, pending);
    return pending;
  }

  addLines(lines: LogLine[]): void {
    this.isEmpty = false;
    this.#lines = lastLines([...this.#lines, ...lines.slice(-MAX_LINES)]);
    this.#skipped += lines.length;
  }

  setOpen(open: OpenLines): void {
    this.isEmpty = false;
    this.#openByRank.set(open.rank, open);
  }

  setRun(run: LiveRun): void {
    this.isEmpty = false;
    this.#run = run;
  }

  addSpans(rows: readonly SpanRow[]): void {
    this.isEmpty = false;
    for (const row of rows) this.#spansById.set(row.id, row);
    if (this.#spansById.size <= MAX_SPANS) return;
    this.#spansById.clear();
    this.#moreSpans = true;
  }

  noteArtifact(): void {
    this.isEmpty = false;
    this.#hasArtifacts = true;
  }

  /** The events of this tick, in an order in which none speaks of what the reader does not know yet. */
  events(run: string): [event: string, data: unknown][] {
    const events: [string, unknown][] = [];
    if (this.#seriesById.size > 0) {
      const each = Math.min(MAX_POINTS, Math.ceil(MAX_POINTS_IN_ALL / this.#seriesById.size));
      const series = [...this.#seriesById.values()].map((pending) => liveSeries(pending, each));
      events.push(["record", { run, series, more: this.#more } satisfies LiveRecords]);
    }
    if (this.#skipped > 0) {
      const lines = this.#lines;
      events.push(["log", { run, skipped: this.#skipped - lines.length, lines } satisfies LiveLines]);
    }
    for (const open of this.#openByRank.values()) events.push(["open", { run, ...open } satisfies LiveOpen]);
    if (this.#spansById.size > 0 || this.#moreSpans) {
      const spans = this.#moreSpans ? [] : [...this.#spansById.values()].map(toSpan);
      events.push(["span", { run, spans, more: this.#moreSpans } satisfies LiveSpans]);
    }
    if (this.#hasArtifacts)
      events.push(["artifact", { run: run === ARTIFACT_STREAM ? null : run } satisfies LiveArtifact]);
    if (this.#run) events.push(["run", this.#run]);
    return events;
  }
}

function axisOf(axes: AxisColumn[], record: number): string | null {
  for (const { keys, index } of axes) if (!index || index.includes(record)) return keys[0] ?? null;
  return null;
}

function textPoint(batch: MetricBatch, record: number, json: string): unknown[] {
  const value: unknown = json.length > MAX_TEXT ? `${json.slice(0, MAX_TEXT)}…` : JSON.parse(json);
  return [batch.ordinal + record, batch.step[record], batch.time[record], value];
}

function liveSeries({ key, rank, x, n, parts, texts }: Pending, maxPoints: number): LiveSeries {
  const points = thinned(parts, maxPoints).map(([part, at]) => numberPoint(part, at));
  const merged = texts.length === 0 ? points : [...points, ...texts].sort(byOrdinal);
  return { key, rank, x, n, points: merged };
}

const byOrdinal = (left: unknown[], right: unknown[]) => (left[0] as number) - (right[0] as number);

function numberPoint({ batch, index, values, axis }: Part, at: number): unknown[] {
  const record = index ? index[at]! : at;
  const point: unknown[] = [
    batch.ordinal + record,
    batch.step[record],
    batch.time[record],
    toWire(values[at]!),
  ];
  if (axis) {
    const place = axis.index ? axis.index.indexOf(record) : record;
    point.push(place < 0 ? null : toWire(axis.values[place]!));
  }
  return point;
}

/** The last of the lines, as many as one event may hold. */
function lastLines(lines: LogLine[]): LogLine[] {
  let from = lines.length;
  let characters = 0;
  while (from > 0 && lines.length - from < MAX_LINES) {
    characters += lines[from - 1]!.text.length;
    if (characters > MAX_LINE_CHARACTERS) break;
    from--;
  }
  return lines.slice(from);
}

/**
 * At most about `maxPoints` of the points, in order: of each stretch its ends, its least, its greatest and the first of each
 * kind that is not finite, so that no spike and no NaN is missed on screen.
 */
function thinned(parts: Part[], maxPoints: number): [part: Part, at: number][] {
  const all = parts.reduce((sum, { values }) => sum + values.length, 0);
  const stretch = all <= maxPoints ? 1 : Math.ceil(all / (maxPoints / 4));
  const kept: [Part, number][] = [];
  let open = newStretch();
  let inStretch = 0;
  const close = () => {
    kept.push(...open.points());
    open = newStretch();
    inStretch = 0;
  };
  for (const part of parts)
    for (let at = 0; at < part.values.length; at++) {
      open.add(part, at);
      if (++inStretch === stretch) close();
    }
  if (inStretch > 0) close();
  return kept;
}

function newStretch() {
  let first: [Part, number] | undefined;
  let last: [Part, number] | undefined;
  let least: [Part, number] | undefined;
  let greatest: [Part, number] | undefined;
  const strange = new Map<number, [Part, number]>();
  const value = ([part, at]: [Part, number]) => part.values[at]!;
  const order = ([part, at]: [Part, number]) => part.batch.ordinal + (part.index ? part.index[at]! : at);
  return {
    add(part: Part, at: number): void {
      const point: [Part, number] = [part, at];
      first ??= point;
      last = point;
      const number = part.values[at]!;
      if (!Number.isFinite(number)) {
        if (!strange.has(number)) strange.set(number, point);
        return;
      }
      if (!least || number < value(least)) least = point;
      if (!greatest || number > value(greatest)) greatest = point;
    },
    points(): [Part, number][] {
      const byOrder = new Map<number, [Part, number]>();
      for (const point of [first, least, greatest, ...strange.values(), last])
        if (point) byOrder.set(order(point), point);
      return [...byOrder].sort(([left], [right]) => left - right).map(([, point]) => point);
    },
  };
}
