import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { decodeColumns } from "../src/store/column-decode.ts";
import { encodeColumns } from "../src/store/column-encode.ts";

const bits = (column: Float64Array) => [...new BigUint64Array(column.slice().buffer)];

function roundTrips(columns: Float64Array[], shared: boolean): void {
  const bytes = encodeColumns(columns, { shared });
  const decoded = decodeColumns(bytes, columns.length);
  decoded.forEach((column, i) => expect(bits(column)).toEqual(bits(columns[i]!)));
}

const special = fc.constantFrom(
  0,
  -0,
  NaN,
  Infinity,
  -Infinity,
  2 ** 53,
  -(2 ** 53) + 1,
  5e-324,
  1.7e308,
  0.1,
  1e22,
  -1e-9,
);
const value = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.float(),
  special,
  fc.integer().map((i) => i / 1000),
);
const walk = fc
  .tuple(
    fc.double({ noNaN: true, min: -1e6, max: 1e6 }),
    fc.array(fc.integer({ min: -50, max: 50 })),
    fc.constantFrom(1, 0.001, 1e-7, 0.3),
  )
  .map(([start, moves, unit]) => {
    let at = start;
    return moves.map((move) => (at += move * unit));
  });
const column = fc
  .oneof(fc.array(value), fc.array(fc.integer()), fc.array(fc.float()), walk)
  .map((list) => Float64Array.from(list));

test("any column comes back bit by bit", () => {
  fc.assert(
    fc.property(column, fc.boolean(), (column, shared) => roundTrips([column], shared)),
    { numRuns: 2000 },
  );
});

const rows: [string, number, (i: number, random: () => number) => number][] = [
  // name, most bytes a value, value
  ["a step that counts", 0.02, (i) => i],
  ["a constant", 0.01, () => 0.001],
  ["noisy float64", 6.85, (i, random) => 2 / (1 + i / 2000) + 0.1 * random()],
  ["noisy float32", 3.1, (i, random) => Math.fround(2 / (1 + i / 2000) + 0.1 * random())],
  ["noisy, 4 decimals", 1.7, (i, random) => Number((2 / (1 + i / 2000) + 0.1 * random()).toFixed(4))],
  ["cosine learning rate", 1.6, (i) => 0.5 * (1 + Math.cos((Math.PI * i) / 100_000))],
  ["linear learning rate", 0.8, (i) => 0.001 * (1 - i / 100_000)],
  ["time in ms with jitter", 0.65, (i, random) => 1_790_000_000_000 + 1000 * i + Math.floor(random() * 10)],
  ["time with µs", 1.9, (i, random) => 1_790_000_000_000 + 1000 * i + Math.floor(random() * 1e4) / 1000],
  [
    "a gauge that repeats",
    0.5,
    (() => {
      let v = 50;
      return (_: number, random: () => number) => (random() < 0.3 ? (v = 30 + Math.floor(random() * 60)) : v);
    })(),
  ],
  ["bytes of memory", 0.2, (i) => 8e9 + Math.floor(i / 500) * 4096],
];

test.each(rows)("%s takes at most %f bytes a value", (_name, limit, make) => {
  let seed = 42;
  const random = () => {
    seed = (Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    const mixed = Math.imul(seed ^ (seed >>> 13), 0x297a2d39);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32 + (Math.imul(mixed, 0x85ebca6b) >>> 0) / 2 ** 64;
  };
  const column = Float64Array.from({ length: 4096 }, (_, i) => make(i, random));
  roundTrips([column], false);
  const size = encodeColumns([column]).length / column.length;
  if (process.env.SIZES) console.log(_name, size.toFixed(3));
  expect(size).toBeLessThanOrEqual(limit);
});

test("columns can be read one without the others", () => {
  const columns = [0, 1, 2].map((c) => Float64Array.from({ length: 100 }, (_, i) => c + Math.sin(i)));
  const [none, second] = decodeColumns(encodeColumns(columns), 3, [1]);
  expect(none).toHaveLength(0);
  expect(bits(second!)).toEqual(bits(columns[1]!));
});
