import { BLOCK_CHUNKS, type ChunkTable, type Range } from "../store/chunk-table.ts";
import { FAN_OUT, NODE_POINTS, rollNodes, type Nodes } from "../store/rollup.ts";
import { BucketBuilder, bucketsOf, type BucketSet } from "./buckets.ts";
import { readChunkOn } from "./read.ts";
import type { Series } from "./series.ts";

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
export function queryPyramid(
  table: ChunkTable,
  series: Series,
  chunkPoints: number,
  { axis, points, from, to }: Query,
): BucketSet {
  const { stats } = series;
  const low = Math.max(from, axis === "step" ? stats.minStep : stats.minTime);
  const high = Math.min(to, axis === "step" ? stats.maxStep : stats.maxTime);
  const reader = new Reader(table, series, chunkPoints, axis);
  const stretches = reader.stretches().filter(({ min, max }) => min <= to && max >= from);
  const estimate = stretches.reduce((sum, stretch) => sum + stretch.points * overlap(stretch, low, high), 0);
  const level = levelFor(estimate, points);
  if (level < 0) {
    const { x, value } = reader.pointsIn(stretches, from, to);
    return bucketsOf(x, value, points, from, to);
  }
  const buckets = new BucketBuilder(points, low, high);
  new Descent(reader, buckets, from, to, (2 * (high - low)) / points).run(stretches, level);
  for (const page of series.pages) {
    const columns = page.columns();
    const x = columns[axis];
    for (let i = 0; i < x.length; i++)
      if (x[i]! >= from && x[i]! <= to) buckets.add(buckets.bucketOf(x[i]!), x[i]!, columns.value[i]!);
  }
  return buckets.build();
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

  /** Blocks, then the chunks after the last of them. */
  stretches(): Stretch[] {
    const { table, series, chunkPoints } = this;
    if (series.sealed === 0) return [];
    const blocks = Math.floor(series.sealed / chunkPoints / BLOCK_CHUNKS);
    const heads = blocks > 0 ? table.blockHeads(series.id) : [];
    const list: Stretch[] = heads.map((head) => ({
      kind: "block",
      block: head.block,
      points: BLOCK_CHUNKS * chunkPoints,
      ...this.rangeOn(head),
    }));
    return [...list, ...this.chunksFrom(blocks * BLOCK_CHUNKS, Math.ceil(series.sealed / chunkPoints))];
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

  /** Points of the stretches and of memory; those outside the range may be among them. */
  pointsIn(stretches: Stretch[], from: number, to: number): { x: Float64Array; value: Float64Array } {
    const parts: { x: Float64Array; value: Float64Array }[] = [];
    for (const stretch of stretches) {
      for (const chunk of stretch.kind === "chunk" ? [stretch] : this.chunksOf(stretch.block))
        if (chunk.min <= to && chunk.max >= from && this.reaches(chunk, from, to))
          parts.push(this.points(chunk.position));
    }
    for (const page of this.series.pages) {
      const columns = page.columns();
      parts.push({ x: columns[this.axis], value: columns.value });
    }
    return { x: concat(parts.map(({ x }) => x)), value: concat(parts.map(({ value }) => value)) };
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

  run(stretches: Stretch[], level: number): void {
    const { reader } = this;
    for (const stretch of stretches) {
      if (stretch.kind === "chunk") {
        const nodes = reader.nodes(stretch.position);
        if (level === 0) this.base(stretch.position, 0, nodes.n.length);
        else
          this.each(rollNodes(nodes), 0, Infinity, (i) =>
            this.base(stretch.position, i * FAN_OUT, (i + 1) * FAN_OUT),
          );
      } else if (level === 2) {
        this.each(reader.blockUpper(stretch.block), 0, Infinity, (i) =>
          this.middle(stretch.block, i * FAN_OUT, (i + 1) * FAN_OUT),
        );
      } else if (level === 1) this.middle(stretch.block, 0, Infinity);
      else
        for (const { position, min, max } of reader.chunksOf(stretch.block))
          if (min <= this.to && max >= this.from) this.base(position, 0, Infinity);
    }
  }

  /** Nodes of a block's second level. */
  private middle(block: number, first: number, end: number): void {
    const { nodesPerChunk } = this.reader;
    this.each(this.reader.blockNodes(block), first, end, (i) => {
      // Nodes below it lie in one chunk, or in several where chunks are small.
      for (let node = i * FAN_OUT; node < (i + 1) * FAN_OUT;) {
        const start = node % nodesPerChunk;
        const stop = Math.min(nodesPerChunk, start + (i + 1) * FAN_OUT - node);
        this.base(block * BLOCK_CHUNKS + Math.floor(node / nodesPerChunk), start, stop);
        node += stop - start;
      }
    });
  }

  /** Nodes of a chunk's lowest level. */
  private base(position: number, first: number, end: number): void {
    this.each(this.reader.nodes(position), first, end, (i) => {
      const { x, value } = this.reader.points(position);
      const stop = Math.min(x.length, (i + 1) * NODE_POINTS);
      for (let point = i * NODE_POINTS; point < stop; point++) {
        const at = x[point]!;
        if (at >= this.from && at <= this.to) this.buckets.add(this.buckets.bucketOf(at), at, value[point]!);
      }
    });
  }

  /** Puts whole nodes into buckets; `open` gets those that don't fit. */
  private each(nodes: Nodes, first: number, end: number, open: (index: number) => void): void {
    const [lows, highs] = rangesOn(nodes, this.reader.axis);
    const stop = Math.min(end, lows.length);
    for (let i = first; i < stop; i++) {
      const low = lows[i]!;
      const high = highs[i]!;
      if (high < this.from || low > this.to) continue;
      if (low >= this.from && high <= this.to && high - low <= this.widest)
        this.buckets.addNode(this.buckets.bucketOf(low), low, high, nodes, i);
      else open(i);
    }
  }
}
