import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { appendSamples } from "../src/sample/append.ts";
import { querySamples, resolutionOf } from "../src/sample/query.ts";
import { readingOf, roundStored, splitKey } from "../src/sample/reading.ts";
import type { QuerySamples, Sample, SamplePage } from "../src/sample/schema.ts";
import { packSamples, unpackSamples } from "../src/store/sample-batch.ts";
import {
  decodeRaw,
  decodeRolled,
  encodeRaw,
  encodeRolled,
  type Encoding,
} from "../src/store/sample-chunk.ts";
import { replaceRows, rollRows } from "../src/store/sample-rollup.ts";
import { openStore, type TestStore } from "./helpers/store.ts";

const DEVICE = "0123456789abcdef";
const BEGIN = 1_790_000_400_000;
/** Nothing is sealed behind a test's back. */
const QUIET = { tickMs: 1e9 };

const GPU = "GPU-5a1e1c4e-0000-0000-0000-000000000001";
const sample = (second: number, values: Sample["values"], subject = ""): Sample => ({
  subject,
  time: BEGIN + 1000 * second,
  values,
});
const append = (store: TestStore, ...samples: Sample[]) => appendSamples(store.collector, DEVICE, samples);
const query = (store: TestStore, more: Partial<QuerySamples> = {}): Promise<SamplePage> =>
  querySamples(store.collector, DEVICE, { from: BEGIN, to: BEGIN + 599_999, points: 600, ...more });
function run(work: Encoding): Uint8Array {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

describe("any order of appends, with sealing, stops and starts in between, answers like a plain list", () => {
  const KEYS = ["load.1", "cpu.utilization", "memory.used", "disk.read@sda", "of.the.future"];
  const SUBJECTS = ["", GPU, "run/7"];
  const value = fc.oneof(
    fc.integer({ min: 0, max: 3 }),
    fc.double({ min: -1e12, max: 1e12, noNaN: true }),
    fc.constantFrom(NaN, Infinity, -0),
  );
  // Mostly within three hours; now and then days away.
  const time = fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 10_800_000 }) },
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 900 }).map((second) => 1000 * second) },
    { weight: 1, arbitrary: fc.integer({ min: -(10 ** 9), max: 10 ** 9 }) },
  );
  const batch = fc.array(
    fc.record({
      subject: fc.constantFrom(...SUBJECTS),
      time: time.map((offset) => BEGIN + offset),
      values: fc.dictionary(fc.constantFrom(...KEYS), value, { maxKeys: 4 }),
    }),
    { maxLength: 30 },
  );
  const action = fc.oneof(
    { weight: 6, arbitrary: batch },
    { weight: 3, arbitrary: fc.constantFrom("seal", "finish", "reopen", "trim", "again") },
  );
  const question = fc.record(
    {
      from: time.map((offset) => BEGIN + offset),
      length: fc.oneof(fc.integer({ min: 0, max: 10_800_000 }), fc.integer({ min: 0, max: 10 ** 9 })),
      points: fc.integer({ min: 1, max: 2000 }),
      subjects: fc.uniqueArray(fc.constantFrom("machine", GPU, "run/7"), { minLength: 1 }),
      readings: fc.uniqueArray(fc.constantFrom(...KEYS.map((key) => splitKey(key).name)), { minLength: 1 }),
    },
    { requiredKeys: ["from", "length", "points"] },
  );

  type Model = Map<string, Map<number, Record<string, number>>>;

  function put(model: Model, { subject, time, values }: Sample): void {
    const rounded = Object.entries(values)
      .map(([key, value]) => [key, roundStored(splitKey(key).name, value) + 0] as const)
      .filter(([, value]) => Number.isFinite(value));
    if (rounded.length === 0) return;
    let rows = model.get(subject);
    if (!rows) model.set(subject, (rows = new Map()));
    rows.set(time, { ...rows.get(time), ...Object.fromEntries(rounded) });
  }

  interface Expected {
    subject: string;
    key: string;
    buckets: Map<number, number[]>;
  }

  function answer(
    model: Model,
    { tier, step }: { tier: number; step: number },
    { from, to, subjects, readings }: QuerySamples,
  ): Expected[] {
    const series: Expected[] = [];
    const named = subjects?.map((subject) => (subject === "machine" ? "" : subject));
    for (const [subject, rows] of model) {
      if (!(named?.includes(subject) ?? !subject.startsWith("run/"))) continue;
      for (const key of KEYS) {
        if (!(readings?.includes(splitKey(key).name) ?? true)) continue;
        const buckets = new Map<number, number[]>();
        for (const [time, values] of rows) {
          const bucket = Math.floor(time / step);
          const row = Math.floor(time / (1000 * tier));
          if (values[key] === undefined) continue;
          if (row < Math.floor(from! / (1000 * tier)) || row > Math.floor(to! / (1000 * tier))) continue;
          buckets.set(bucket * step, [...(buckets.get(bucket * step) ?? []), values[key]]);
        }
        if (buckets.size > 0) series.push({ subject, key, buckets });
      }
    }
    return series;
  }

  function compare(page: SamplePage, expected: Expected[], asked: QuerySamples): void {
    expect(page.times.length).toBeLessThanOrEqual(asked.points);
    expect(page.times).toEqual(
      [...new Set(expected.flatMap(({ buckets }) => [...buckets.keys()]))].sort((a, b) => a - b),
    );
    const idOf = (subject: string, key: string) => `${subject} ${key}`;
    const found = new Map(
      page.series.map((series) => [
        idOf(series.subject, series.reading + (series.part === null ? "" : `@${series.part}`)),
        series,
      ]),
    );
    expect([...found.keys()].sort()).toEqual(expected.map(({ subject, key }) => idOf(subject, key)).sort());
    for (const { subject, key, buckets } of expected) {
      const { mean, min, max } = found.get(idOf(subject, key))!;
      const isFlat = [...buckets.values()].every((values) => values.every((value) => value === values[0]));
      expect([min === undefined, max === undefined]).toEqual([isFlat, isFlat]);
      page.times.forEach((time, i) => {
        const values = buckets.get(time);
        if (!values) return expect([mean[i], min?.[i] ?? null, max?.[i] ?? null]).toEqual([null, null, null]);
        const lowest = Math.min(...values);
        const highest = Math.max(...values);
        if (!isFlat) expect([min![i], max![i]]).toEqual([lowest, highest]);
        const exact = values.reduce((a, b) => a + b, 0) / values.length;
        const size = Math.max(Math.abs(lowest), Math.abs(highest));
        const rate = readingOf(splitKey(key).name)?.unit === "B/s" ? 1 + size / 500 : 0;
        // Rounded in the rollup and in the answer.
        const tolerance = (readingOf(splitKey(key).name)?.resolution ?? 0) / 4 + rate + size * 1e-12;
        expect(Math.abs(mean[i]! - exact)).toBeLessThanOrEqual(tolerance);
      });
    }
  }

  test("compared with a model", async () => {
    const runs = Number(process.env["RUNS"] ?? 100);
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 1, maxLength: 25 }),
        fc.array(question, { minLength: 1, maxLength: 4 }),
        async (actions, questions) => {
          const store = openStore({
            device: DEVICE,
            samples: { ...QUIET, maxBlocks: 20 },
            trim: { keepEntries: 0 },
          });
          try {
            const model: Model = new Map();
            let last: Sample[] = [];
            for (const action of actions) {
              const { samples } = store.collector;
              if (action === "seal") await samples.seal();
              else if (action === "finish") await samples.finish();
              else if (action === "reopen") await store.reopen();
              else if (action === "trim") await store.collector.tidy(10_000);
              else {
                last = action === "again" ? last : (action as Sample[]);
                for (const one of last) put(model, one);
                await append(store, ...last);
              }
            }
            for (const { length, ...rest } of questions) {
              const asked = { ...rest, to: rest.from + length } as QuerySamples;
              const page = await query(store, asked);
              const resolution = resolutionOf(asked.from!, asked.to!, asked.points);
              expect(page.step).toBe(resolution.step);
              compare(page, answer(model, resolution, asked), asked);
            }
            expect(store.fatal).toEqual([]);
          } finally {
            await store.close();
          }
        },
      ),
      { numRuns: runs },
    );
  }, 300_000);
});

describe("what is packed comes back", () => {
  const values = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    fc.integer(),
    fc.constant(NaN),
  );
  const table = fc
    .record({ rows: fc.integer({ min: 1, max: 80 }), keys: fc.uniqueArray(fc.string(), { maxLength: 5 }) })
    .chain(({ rows, keys }) =>
      fc.record({
        times: fc
          .uniqueArray(fc.integer({ min: 0, max: 599_999 }), { minLength: rows, maxLength: rows })
          .map((times) => Float64Array.from(times.sort((a, b) => a - b))),
        columns: fc
          .tuple(...keys.map(() => fc.array(values, { minLength: rows, maxLength: rows })))
          .map((columns) => new Map(keys.map((key, i) => [key, Float64Array.from(columns[i]!)]))),
      }),
    );

  /** As plain values: whether two typed arrays within a Map are equal is not what a matcher looks at. */
  const plain = (value: unknown): unknown => {
    if (value instanceof Float64Array) return [...value];
    if (value instanceof Map) return [...value].map(([key, one]) => [key, plain(one)]).sort();
    if (typeof value === "object" && value !== null)
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
    return value;
  };

  test("samples of an entry", () => {
    const batch = fc.array(
      fc.record({
        subject: fc.string(),
        time: fc.integer({ min: 0, max: 8.64e15 }),
        values: fc.dictionary(
          fc.string().filter((key) => key !== "__proto__"),
          fc.double({ noNaN: true }),
          { minKeys: 1, maxKeys: 6, noNullPrototype: true },
        ),
      }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(batch, (samples) => {
        const bySubject = (a: Sample, b: Sample) =>
          a.subject < b.subject ? -1 : a.subject > b.subject ? 1 : 0;
        expect([...unpackSamples(packSamples(samples))].sort(bySubject)).toEqual(
          [...samples].sort(bySubject),
        );
      }),
    );
  });

  test("a batch too large for one frame", () => {
    const samples = Array.from({ length: 3000 }, (_, i) =>
      sample(i, { "load.1": Math.random(), "load.5": i }),
    );
    expect(unpackSamples(packSamples(samples))).toEqual(samples);
  });

  test("rows of a chunk, and their rollups", () => {
    fc.assert(
      fc.property(table, (rows) => {
        const present = new Map(
          [...rows.columns].filter(([, column]) => column.some((v) => !Number.isNaN(v))),
        );
        expect(plain(decodeRaw(run(encodeRaw(rows))))).toEqual(
          plain({ times: rows.times, columns: present }),
        );
        const rolled = rollRows({ times: rows.times, columns: present }, 60);
        for (const isPlain of [false, true])
          expect(plain(decodeRolled(run(encodeRolled(rolled, isPlain))))).toEqual(plain(rolled));
      }),
    );
  });

  test("a rollup that is replaced in the middle is as if it had been made at once", () => {
    fc.assert(
      fc.property(table, fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 10 }), (rows, a, b) => {
        const [from, to] = [60_000 * Math.min(a, b), 60_000 * Math.max(a, b)];
        const part = (keep: (time: number) => boolean, change = 0) => {
          const index = [...rows.times.keys()].filter((row) => keep(rows.times[row]!));
          const pick = (column: Float64Array) => Float64Array.from(index, (row) => column[row]! + change);
          return {
            times: Float64Array.from(index, (row) => rows.times[row]!),
            columns: new Map([...rows.columns].map(([key, column]) => [key, pick(column)])),
          };
        };
        const isInside = (time: number) => time >= from && time < to;
        // Outside as it is to be, inside something else.
        const before = replaceRows(rollRows(rows, 60), rollRows(part(isInside, 1), 60), from, to);
        const whole = rollRows(rows, 60);
        for (const [key, { count }] of whole.columns)
          if (count.every((n) => n === 0)) whole.columns.delete(key);
        const replaced = replaceRows(before, rollRows(part(isInside), 60), from, to);
        expect(plain(replaced)).toEqual(plain(whole));
      }),
    );
  });
});
