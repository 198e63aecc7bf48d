import { BLOCK_CHUNKS, type ChunkTable, type Range } from "../store/chunk-table.ts";
import { FAN_OUT, NODE_POINTS, rollNodes, type Nodes } from "../store/rollup.ts";
import { BucketBuilder, bucketsOf, type BucketSet } from "./buckets.ts";
import { readChunkOn, readTail, SLICE_MS } from "./read.ts";
import type { Series } from "./series.ts";
import { CollectorError } from "../error.ts";

export type RangeAxis = "step" | "time";

interface Query {
  axis: RangeAxis;
  /** At most so many buckets. */
  points: number;
  from: number;
  to: number;
}

/** Share of the wanted buckets that a level must be able to fill: a coarser one is read from the level below. */
const FILL = 0.75;

/** A stretch of a series in arrival order. */
type Stretch = BlockStretch | ChunkStretch;

interface BlockStretch {
  kind: "block";
  block: number;
  min: number;
  max: number;
  points: number;
}

interface ChunkStretch {
  kind: "chunk";
  position: number;
  min: number;
  max: number;
  points: number;
}

/**
 * Buckets over steps or times, out of the coarsest level of the pyramid that fills them. A node goes into a bucket as a whole, so a
 * bucket's edge may lie one node off; what is wider than two buckets (a pause, a jump back) or lies across `from` or `to` is opened,
 * down to its points. So every point in the range is counted once, and no other.
 */
export async function queryPyramid(
  table: ChunkTable,
  series: Series,
  chunkPoints: number,
  { axis, points, from, to }: Query,
): Promise<BucketSet> {
  const { stats } = series;
  const low = Math.max(from, axis === "step" ? stats.minStep : stats.minTime);
  const high = Math.min(to, axis === "step" ? stats.maxStep : stats.maxTime);
  const reader = new Reader(table, series, chunkPoints, axis);
  const stretches = reader.stretches().filter(({ min, max }) => min <= to && max >= from);
  // Full chunks never change. What is in none is looked at now: once others had their turn it may be in some.
  const tail = readTail(table, series, chunkPoints);
  const tailX = tail[axis];
  const estimate = stretches.reduce(
    (sum, stretch) => sum + stretch.points * overlap(stretch, low, high),
    tailX.length,
  );
  const level = levelFor(estimate, points);
  if (level < 0) {
    const parts = [];
    for await (const part of inSlices(reader.pointsIn(stretches, from, to), series)) parts.push(part);
    parts.push({ x: tailX, value: tail.value });
    return bucketsOf(
      concat(parts.map(({ x }) => x)),
      concat(parts.map(({ value }) => value)),
      points,
      from,
      to,
    );
  }
  const buckets = new BucketBuilder(points, low, high);
  const descent = new Descent(reader, buckets, from, to, (2 * (high - low)) / points);
  const slices = inSlices(descent.run(stretches, level), series);
  while (!(await slices.next()).done);
  for (let i = 0; i < tailX.length; i++) descent.add(tailX[i]!, tail.value[i]!);
  return buckets.build();
}

/** What costs time a little at a time, with others having their turn in between. */
async function* inSlices<T>(work: Iterable<T>, series: Series): AsyncGenerator<T, void> {
  let until = performance.now() + SLICE_MS;
  for (const part of work) {
    yield part;
    if (performance.now() <= until) continue;
    await new Promise((resolve) => setImmediate(resolve));
    until = performance.now() + SLICE_MS;
    if (series.dead) throw new CollectorError("gone", `Run ${series.run} was deleted.`);
  }
}

/** 0, 1, 2 in the pyramid, or -1 where the points themselves are few enough. */
function levelFor(points: number, buckets: number): number {
  const enough = FILL * buckets;
  if (points / (NODE_POINTS * FAN_OUT * FAN_OUT) >= enough) return 2;
  if (points / (NODE_POINTS * FAN_OUT) >= enough) return 1;
  return points / NODE_POINTS >= enough ? 0 : -1;
}

function overlap({ min, max }: { min: number; max: number }, low: number, high: number): number {
  return max > min ? Math.min(1, Math.max(0, (Math.min(max, high) - Math.max(min, low)) / (max - min))) : 1;
}

/** What a series has on disk, decoded when asked for; the chunk and block at hand are kept. */
class Reader {
  readonly axis: RangeAxis;
  private readonly table: ChunkTable;
  private readonly series: Series;
  private readonly chunkPoints: number;
  private nodesAt: { position: number; nodes: Nodes } | undefined;
  private pointsAt: { position: number; x: Float64Array; value: Float64Array } | undefined;
  private blockAt: { block: number; nodes: Nodes } | undefined;

  constructor(table: ChunkTable, series: Series, chunkPoints: number, axis: RangeAxis) {
    this.table = table;
    this.series = series;
    this.chunkPoints = chunkPoints;
    this.axis = axis;
  }

  get nodesPerChunk(): number {
    return this.chunkPoints / NODE_POINTS;
  }

  private rangeOn(range: Range): { min: number; max: number } {
    return this.axis === "step"
      ? { min: range.stepMin, max: range.stepMax }
      : { min: range.timeMin, max: range.timeMax };
  }

  /** Blocks, then the full chunks after the last of them. */
  stretches(): Stretch[] {
    const { table, series, chunkPoints } = this;
    if (series.sealed < chunkPoints) return [];
    const blocks = Math.floor(series.sealed / chunkPoints / BLOCK_CHUNKS);
    const heads = blocks > 0 ? table.blockHeads(series.id) : [];
    const list: Stretch[] = heads.map((head) => ({
      kind: "block",
      block: head.block,
      points: BLOCK_CHUNKS * chunkPoints,
      ...this.rangeOn(head),
    }));
    return [...list, ...this.chunksFrom(blocks * BLOCK_CHUNKS, Math.floor(series.sealed / chunkPoints))];
  }

  chunksOf(block: number): ChunkStretch[] {
    return this.chunksFrom(block * BLOCK_CHUNKS, (block + 1) * BLOCK_CHUNKS);
  }

  private chunksFrom(first: number, end: number): ChunkStretch[] {
    return this.table.chunkHeads(this.series.id, first, end).map((head) => ({
      kind: "chunk",
      position: head.position,
      points: head.count,
      ...this.rangeOn(head),
    }));
  }

  nodes(position: number): Nodes {
    if (this.nodesAt?.position !== position)
      this.nodesAt = { position, nodes: this.table.nodes(this.series.id, position, this.axis) };
    return this.nodesAt.nodes;
  }

  points(position: number): { x: Float64Array; value: Float64Array } {
    if (this.pointsAt?.position !== position)
      this.pointsAt = { position, ...readChunkOn(this.table, this.series, position, this.axis) };
    return this.pointsAt;
  }

  blockNodes(block: number): Nodes {
    if (this.blockAt?.block !== block)
      this.blockAt = { block, nodes: this.table.blockNodes(this.series.id, block, this.axis) };
    return this.blockAt.nodes;
  }

  blockUpper(block: number): Nodes {
    return this.table.blockUpper(this.series.id, block, this.axis);
  }

  /** Points of the stretches, a chunk at a time; those outside the range may be among them. */
  *pointsIn(
    stretches: Stretch[],
    from: number,
    to: number,
  ): Generator<{ x: Float64Array; value: Float64Array }, void> {
    for (const stretch of stretches)
      for (const chunk of stretch.kind === "chunk" ? [stretch] : this.chunksOf(stretch.block))
        if (chunk.min <= to && chunk.max >= from && this.reaches(chunk, from, to))
          yield this.points(chunk.position);
  }

  /** False where a chunk's range spans the wanted one but no node of it comes near: steps that start anew every epoch. */
  private reaches({ position, min, max }: ChunkStretch, from: number, to: number): boolean {
    if (min >= from || max <= to) return true;
    const nodes = this.nodes(position);
    const [lows, highs] = rangesOn(nodes, this.axis);
    return lows.some((low, i) => low <= to && highs[i]! >= from);
  }
}

const rangesOn = (nodes: Nodes, axis: RangeAxis): [min: Float64Array, max: Float64Array] =>
  axis === "step" ? [nodes.stepMin, nodes.stepMax] : [nodes.timeMin, nodes.timeMax];

function concat(parts: Float64Array[]): Float64Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

class Descent {
  private readonly reader: Reader;
  private readonly buckets: BucketBuilder;
  private readonly from: number;
  private readonly to: number;
  private readonly widest: number;

  constructor(reader: Reader, buckets: BucketBuilder, from: number, to: number, widest: number) {
    this.reader = reader;
    this.buckets = buckets;
    this.from = from;
    this.to = to;
    this.widest = widest;
  }

  /** Stops wherever points were read: that is what takes long. */
  *run(stretches: Stretch[], level: number): Generator<void, void> {
    const { reader } = this;
    for (const stretch of stretches) {
      if (stretch.kind === "chunk") {
        const { position } = stretch;
        const nodes = reader.nodes(position);
        if (level === 0) yield* this.base(position, 0, nodes.n.length);
        else
          for (const i of this.each(rollNodes(nodes), 0, Infinity))
            yield* this.base(position, i * FAN_OUT, (i + 1) * FAN_OUT);
      } else if (level === 2) {
        for (const i of this.each(reader.blockUpper(stretch.block), 0, Infinity))
          yield* this.middle(stretch.block, i * FAN_OUT, (i + 1) * FAN_OUT);
      } else if (level === 1) yield* this.middle(stretch.block, 0, Infinity);
      else
        for (const { position, min, max } of reader.chunksOf(stretch.block))
          if (min <= this.to && max >= this.from) yield* this.base(position, 0, Infinity);
    }
  }

  add(x: number, value: number): void {
    if (x >= this.from && x <= this.to) this.buckets.add(this.buckets.bucketOf(x), x, value);
  }

  /** Nodes of a block's second level. */
  private *middle(block: number, first: number, end: number): Generator<void, void> {
    const { nodesPerChunk } = this.reader;
    for (const i of this.each(this.reader.blockNodes(block), first, end)) {
      // Nodes below it lie in one chunk, or in several where chunks are small.
      for (let node = i * FAN_OUT; node < (i + 1) * FAN_OUT;) {
        const start = node % nodesPerChunk;
        const stop = Math.min(nodesPerChunk, start + (i + 1) * FAN_OUT - node);
        yield* this.base(block * BLOCK_CHUNKS + Math.floor(node / nodesPerChunk), start, stop);
        node += stop - start;
      }
    }
  }

  /** Nodes of a chunk's lowest level. */
  private *base(position: number, first: number, end: number): Generator<void, void> {
    for (const i of this.each(this.reader.nodes(position), first, end)) {
      const { x, value } = this.reader.points(position);
      const stop = Math.min(x.length, (i + 1) * NODE_POINTS);
      for (let point = i * NODE_POINTS; point < stop; point++) this.add(x[point]!, value[point]!);
      yield;
    }
  }

  /** Puts whole nodes into buckets; those that don't fit are to be opened. */
  private *each(nodes: Nodes, first: number, end: number): Generator<number, void> {
    const [lows, highs] = rangesOn(nodes, this.reader.axis);
    const stop = Math.min(end, lows.length);
    for (let i = first; i < stop; i++) {
      const low = lows[i]!;
      const high = highs[i]!;
      if (high < this.from || low > this.to) continue;
      if (low >= this.from && high <= this.to && high - low <= this.widest)
        this.buckets.addNode(this.buckets.bucketOf(low), low, high, nodes, i);
      else yield i;
    }
  }
}
