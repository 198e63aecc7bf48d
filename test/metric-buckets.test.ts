import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { toWire } from "../src/metric/batch.ts";
import type { Buckets } from "../src/metric/schema.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

/** Chunks of 128 points: a block of the pyramid has 8,192, so that a small series has every level. */
const chunkPoints = 128;

const RUNS = Number(process.env["RUNS"] ?? 20);

interface P {
  x: number;
  y: number;
}

/** A pseudo-random sequence from a seed: fast-check shrinks the seed's parameters, not thousands of points. */
function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const shapes = {
  counting: (i: number) => i,
  repeated: (i: number) => Math.floor(i / 7),
  "back once": (i: number, n: number) => (i < n / 2 ? i : i - Math.floor(n / 3)),
  "anew every 500": (i: number) => i % 500,
  constant: () => 5,
  "a long pause": (i: number, n: number) => (i < n / 3 ? i : i + 1_000_000),
  backwards: (i: number, n: number) => n - i,
  shuffled: (_i: number, n: number, random: () => number) => Math.floor(random() * n),
} satisfies Record<string, (i: number, n: number, random: () => number) => number>;

function makePoints(shape: keyof typeof shapes, n: number, seed: number): P[] {
  const random = randomFrom(seed);
  const next: (i: number, n: number, random: () => number) => number = shapes[shape];
  return Array.from({ length: n }, (_, i) => {
    const dice = random();
    const y =
      dice < 0.002
        ? NaN
        : dice < 0.003
          ? Infinity
          : dice < 0.004
            ? -Infinity
            : dice < 0.006
              ? 1000 * random()
              : random();
    return { x: next(i, n, random), y };
  });
}

/** Every point of the range in exactly one bucket, and every figure that of its points. */
function checkBuckets(buckets: Buckets, points: P[], from: number, to: number, limit: number): void {
  const inRange = points.filter(({ x }) => x >= from && x <= to);
  const { n, x0, x1, min, max, mean, nan, inf, ninf, first, last } = buckets;
  expect(n.length).toBeLessThanOrEqual(limit);
  for (const column of [x0, x1, min, max, mean, nan, inf, ninf, first, last])
    expect(column).toHaveLength(n.length);
  expect(buckets.count).toBe(inRange.length);
  expect(n.reduce((sum, count) => sum + count, 0)).toBe(inRange.length);
  expect([...x0].sort((a, b) => Number(a) - Number(b))).toEqual(x0);
  const all = points.map(({ x }) => x);
  const low = Math.max(from, Math.min(...all));
  const high = Math.min(to, Math.max(...all));
  // As fine as asked for: a bucket's own width, and two for the node that lies across its edge.
  const widest = Math.max(0, ...x0.map((x, i) => Number(x1[i]) - Number(x)));
  expect(widest).toBeLessThanOrEqual((3.001 * Math.max(0, high - low)) / limit);
  const finite = inRange.filter(({ y }) => Number.isFinite(y)).map(({ y }) => y);
  const count = (wanted: number) => inRange.filter(({ y }) => Object.is(y, wanted)).length;
  const total = (column: number[]) => column.reduce((sum, value) => sum + value, 0);
  expect([total(nan), total(inf), total(ninf)]).toEqual([count(NaN), count(Infinity), count(-Infinity)]);
  const extremes = (column: (number | null)[]) => column.filter((value) => value !== null);
  if (finite.length > 0) {
    expect(Math.min(...extremes(min))).toBe(Math.min(...finite));
    expect(Math.max(...extremes(max))).toBe(Math.max(...finite));
    const sum = mean.reduce<number>(
      (sum, value, i) => sum + (value ?? 0) * (n[i]! - nan[i]! - inf[i]! - ninf[i]!),
      0,
    );
    expect(sum).toBeCloseTo(
      finite.reduce((sum, y) => sum + y, 0),
      4,
    );
  }
}

/** For a series that never goes back, each bucket is a stretch of its points: the figures follow one by one. */
function checkStretches(buckets: Buckets, points: P[], from: number, to: number): void {
  const inRange = points.filter(({ x }) => x >= from && x <= to);
  let at = 0;
  buckets.n.forEach((n, i) => {
    const part = inRange.slice(at, at + n);
    at += n;
    const finite = part.map(({ y }) => y).filter(Number.isFinite);
    expect({
      x0: buckets.x0[i],
      x1: buckets.x1[i],
      min: buckets.min[i],
      max: buckets.max[i],
      first: buckets.first[i],
      last: buckets.last[i],
      nan: buckets.nan[i],
    }).toEqual({
      x0: part[0]!.x,
      x1: part.at(-1)!.x,
      min: finite.length > 0 ? Math.min(...finite) : null,
      max: finite.length > 0 ? Math.max(...finite) : null,
      first: toWire(part[0]!.y),
      last: toWire(part.at(-1)!.y),
      nan: part.filter(({ y }) => Number.isNaN(y)).length,
    });
  });
}

async function fill(
  store: TestStore,
  points: P[],
  cuts: { at: number; what: "seal" | "reopen" }[],
): Promise<void> {
  await store.addRun("r");
  let at = 0;
  for (const { at: cut, what } of [
    ...cuts.sort((a, b) => a.at - b.at),
    { at: points.length, what: "none" as const },
  ]) {
    while (at < cut) {
      const end = Math.min(cut, at + 997);
      const wire = ({ x, y }: P) => ({
        step: x,
        time: 1000 + x,
        metrics: { y: toWire(y), ...(x % 2 === 0 ? { even: x } : {}) },
      });
      await store.append("r", points.slice(at, end).map(wire));
      at = end;
    }
    if (what === "seal") await store.collector.series.seal();
    if (what === "reopen") await store.reopen();
  }
}

const scenario = fc.record({
  shape: fc.constantFrom(...(Object.keys(shapes) as (keyof typeof shapes)[])),
  n: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 300, max: 30_000 })),
  seed: fc.integer(),
  cuts: fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: 30_000 }),
      what: fc.constantFrom("seal" as const, "reopen" as const),
    }),
    { maxLength: 3 },
  ),
  queries: fc.array(
    fc.record({
      axis: fc.constantFrom("step", "time"),
      limit: fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 10, max: 500 })),
      // Parts of the whole range.
      from: fc.option(fc.double({ min: -0.2, max: 1.2, noNaN: true })),
      to: fc.option(fc.double({ min: -0.2, max: 1.2, noNaN: true })),
    }),
    { minLength: 3, maxLength: 6 },
  ),
});

test(
  "buckets hold every point of their range once, whatever the steps do and wherever the points are",
  async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async ({ shape, n, seed, cuts, queries }) => {
        const points = makePoints(shape, n, seed);
        const store = openStore({ series: { chunkPoints, useWorker: false } });
        try {
          await fill(
            store,
            points,
            cuts.map(({ at, what }) => ({ at: Math.min(at, n), what })),
          );
          const low = Math.min(...points.map(({ x }) => x));
          const high = Math.max(...points.map(({ x }) => x));
          for (const { axis, limit, ...query } of queries) {
            const shift = axis === "time" ? 1000 : 0;
            const place = (part: number | null) =>
              part === null ? undefined : low + shift + part * (high - low || 1);
            const from = place(query.from);
            const to = place(query.to);
            const buckets = await store.collector.series.buckets("r", "y", {
              x: axis,
              points: limit,
              from,
              to,
            });
            const shifted = points.map(({ x, y }) => ({ x: x + shift, y }));
            checkBuckets(buckets!, shifted, from ?? -Infinity, to ?? Infinity, limit);
            if (
              shape === "counting" ||
              shape === "repeated" ||
              shape === "a long pause" ||
              shape === "constant"
            )
              checkStretches(buckets!, shifted, from ?? -Infinity, to ?? Infinity);
          }
          expect(store.fatal).toEqual([]);
        } finally {
          await store.close();
        }
      }),
      { numRuns: 2 * RUNS },
    );
  },
  6000 * RUNS,
);

test("others have their turn while a long series without order is gathered, and what comes meanwhile is not in it", async () => {
  const n = 40_000;
  const points = makePoints("shuffled", n, 7);
  // Small chunks, so that there is as much to read as of a long series.
  const store = openStore({ series: { chunkPoints, useWorker: false } });
  try {
    await fill(store, points, [{ at: n - 50, what: "seal" }]);
    const asked = store.collector.series.buckets("r", "y", { x: "step", points: 100 });
    let isAnswered = false;
    void asked.then(() => (isAnswered = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isAnswered).toBe(false);
    const late = makePoints("shuffled", 300, 8).map(({ x }) => ({ step: x, time: 5, metrics: { y: 1e6 } }));
    await store.append("r", late);
    await store.collector.series.seal();
    const buckets = (await asked)!;
    checkBuckets(buckets, points, -Infinity, Infinity, 100);
  } finally {
    await store.close();
  }
});

test("over a custom x the buckets are those of the points that have it", async () => {
  const points = makePoints("shuffled", 3000, 7);
  const store = openStore({ series: { chunkPoints, useWorker: false } });
  await fill(store, points, [{ at: 2000, what: "seal" }]);
  const withX = points.filter(({ x }) => x % 2 === 0);
  for (const [from, to, limit] of [
    [-Infinity, Infinity, 100],
    [500, 1700, 30],
    [500, 502, 30],
  ] as const) {
    const buckets = await store.collector.series.buckets("r", "y", { x: "even", points: limit, from, to });
    checkBuckets(buckets!, withX, from, to, limit);
  }
  await store.close();
});

test("a custom x that spans next to nothing loses no point, nor does one that spans everything", async () => {
  const store = openStore({ series: { useWorker: false } });
  await store.addRun("r");
  for (const [key, high] of [
    ["least", 5e-324],
    ["most", 1.7e308],
  ] as const) {
    const items = Array.from({ length: 100 }, (_, i) => ({
      metrics: { y: i, [key]: i % 2 === 0 ? high : key === "most" ? -high : 0 },
    }));
    await store.append("r", items, { client: key });
    const buckets = await store.collector.series.buckets("r", "y", { x: key, points: 10 });
    expect(buckets!.count).toBe(100);
  }
  await store.close();
});

test(
  "every point comes back in order, whatever was sealed when",
  async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async ({ shape, n, seed, cuts }) => {
        const points = makePoints(shape, Math.min(n, 3000), seed);
        const store = openStore({ series: { chunkPoints, useWorker: false } });
        try {
          await fill(
            store,
            points,
            cuts.map(({ at, what }) => ({ at: Math.min(at, points.length), what })),
          );
          const answer = await store.collector.series.points("r", "y");
          expect(answer!.points).toEqual(points.map(({ x, y }) => [x, toWire(y)]));
        } finally {
          await store.close();
        }
      }),
      { numRuns: RUNS },
    );
  },
  6000 * RUNS,
);
