import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Encoding } from "../src/entry.ts";
import { packBatch, type MetricBatch } from "../src/metric/batch.ts";
import type { Frame } from "../src/relay/contract.ts";
import { packSamples } from "../src/store/sample-batch.ts";
import { compress, decompress } from "../src/store/zstd.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts } from "./helpers/device.ts";
import { fact, lines, problemOf, records, runRow, streamOfDevice, TestSource } from "./helpers/source.ts";

let platform: TestCollector;
let source: TestSource;

beforeAll(async () => {
  platform = createTestCollector({ platform: true });
  source = await TestSource.create(platform);
  await source.greet(1000);
  await source.send(0, 1, [fact(1, "run.created", "r", runRow())]);
});
afterAll(() => platform.close());

/** Refused for good, by its seq; nothing of it is here, and the next one goes in. */
async function refuses(frame: Frame): Promise<void> {
  const before = platform.collector.journal.bounds().last;
  const problem = await problemOf(await source.batch(1, 2, [{ ...frame, seq: 2 }]));
  expect(problem).toMatchObject({ status: 400, type: "invalid", seq: 2 });
  expect(problem.detail.length).toBeLessThan(1500);
  expect(platform.collector.journal.bounds().last).toBe(before);
}

const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const batchOf = (more: Partial<MetricBatch> = {}): MetricBatch => ({
  ordinal: 0,
  rank: 0,
  count: 3,
  step: Float64Array.of(0, 1, 2),
  time: Float64Array.of(1, 2, 3),
  numbers: [{ key: "loss", index: null, values: Float64Array.of(1, 2, 3) }],
  texts: [],
  axes: [],
  ...more,
});
const packed = (batch: MetricBatch, more: object = {}): Frame => ({
  ...records(2, "r", { ordinal: 0, values: [1, 2, 3] }),
  encoding: Encoding.columns,
  payload: packBatch(batch),
  ...more,
});
/** The header of packed columns, changed. */
function withHeader(change: (header: Record<string, unknown>) => void, batch = batchOf()): Frame {
  const payload = packBatch(batch);
  const view = new DataView(payload.buffer);
  const length = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(payload.subarray(4, 4 + length)));
  change(header);
  const json = bytes(header);
  const start = (4 + json.length + 7) & ~7;
  const changed = new Uint8Array(start + payload.length - 4 - length).fill(0x20, 0, start);
  new DataView(changed.buffer).setUint32(0, start - 4, true);
  changed.set(json, 4);
  changed.set(payload.subarray(4 + length), start);
  return packed(batch, { payload: changed });
}

describe("records", () => {
  const cases: [string, () => Frame][] = [
    ["no columns at all", () => packed(batchOf(), { payload: new Uint8Array() })],
    [
      "a header that is longer than all",
      () => packed(batchOf(), { payload: Uint8Array.of(255, 255, 255, 127, 1) }),
    ],
    ["columns that end early", () => packed(batchOf(), { payload: packBatch(batchOf()).subarray(0, -8) })],
    [
      "columns and more",
      () => packed(batchOf(), { payload: new Uint8Array([...packBatch(batchOf()), 0, 0, 0, 0]) }),
    ],
    ["another count than the head's", () => packed(batchOf(), { count: 4 })],
    ["a count beyond all", () => withHeader((header) => (header["count"] = 4e9))],
    ["a count that is none", () => withHeader((header) => (header["count"] = "3"))],
    ["a rank that is none", () => withHeader((header) => (header["rank"] = -1))],
    ["a length that is none", () => withHeader((header) => (header["numbers"] = [["loss", -3]]))],
    ["a length beyond the records", () => withHeader((header) => (header["numbers"] = [["loss", 4]]))],
    [
      "one metric twice",
      () =>
        withHeader(
          (header) =>
            (header["numbers"] = [
              ["a", 3],
              ["a", 0],
            ]),
        ),
    ],
    ["a metric without a name", () => withHeader((header) => (header["numbers"] = [["", 3]]))],
    [
      "a metric with a control character",
      () => withHeader((header) => (header["numbers"] = [["a\u0000", 3]])),
    ],
    [
      "a metric's name of a megabyte",
      () => withHeader((header) => (header["numbers"] = [["a".repeat(1e6), 3]])),
    ],
    [
      "a metric that is an object",
      () => withHeader((header) => (header["numbers"] = [[{ toString: 1 }, 3]])),
    ],
    [
      "texts at records that are not there",
      () => withHeader((header) => (header["texts"] = [["t", [7], ['"x"']]])),
    ],
    ["texts that are no JSON", () => withHeader((header) => (header["texts"] = [["t", [0], ["{"]]]))],
    [
      "texts out of their order",
      () => withHeader((header) => (header["texts"] = [["t", [1, 0], ["1", "2"]]])),
    ],
    [
      "texts that are nested without end",
      () => withHeader((header) => (header["texts"] = [["t", [0], ["[".repeat(5000) + "]".repeat(5000)]]])),
    ],
    ["axes of nothing", () => withHeader((header) => (header["axes"] = [[[], 3]]))],
    ["a step beyond counting", () => packed(batchOf({ step: Float64Array.of(0, 1, 1e300) }))],
    ["a step that is infinite", () => packed(batchOf({ step: Float64Array.of(0, 1, Infinity) }))],
    ["a value without a step", () => packed(batchOf({ step: Float64Array.of(0, NaN, 2) }))],
    ["a time before 1970", () => packed(batchOf({ time: Float64Array.of(-1, 1, 2) }))],
    ["a time that is none", () => packed(batchOf({ time: Float64Array.of(NaN, 1, 2) }))],
    [
      "records of a column that go back",
      () =>
        packed(
          batchOf({ numbers: [{ key: "a", index: Uint32Array.of(1, 0), values: Float64Array.of(1, 2) }] }),
        ),
    ],
    [
      "records of a column beyond the batch",
      () =>
        packed(
          batchOf({ numbers: [{ key: "a", index: Uint32Array.of(0, 9), values: Float64Array.of(1, 2) }] }),
        ),
    ],
    ["an ordinal below 0", () => packed(batchOf(), { ordinal: -1 })],
    ["an ordinal beyond counting", () => packed(batchOf(), { ordinal: Number.MAX_SAFE_INTEGER })],
    ["no ordinal", () => packed(batchOf(), { ordinal: null })],
    ["a client that is a path", () => packed(batchOf(), { client: "../../etc/passwd" })],
    ["a number of nobody's", () => packed(batchOf(), { client: null, clientSeq: 4 })],
    ["a client's number of 0", () => packed(batchOf(), { clientSeq: 0 })],
    ["a time of the entry that no clock has", () => packed(batchOf(), { time: -1e9 })],
    ["a next step that is none", () => packed(batchOf(), { nextStep: 1e300 })],
    [
      "JSON that is none",
      () => packed(batchOf(), { encoding: Encoding.json, payload: bytes("x").subarray(1) }),
    ],
    [
      "JSON without records",
      () => packed(batchOf(), { encoding: Encoding.json, payload: bytes({ rank: 0 }) }),
    ],
    [
      "a record with a setter's name for its list",
      () =>
        packed(batchOf(), { encoding: Encoding.json, payload: bytes({ rank: 0, items: { __proto__: [] } }) }),
    ],
    ["zstd that is none", () => packed(batchOf(), { encoding: Encoding.columnsZstd })],
    [
      "a bomb",
      () =>
        packed(batchOf(), {
          encoding: Encoding.columnsZstd,
          payload: compress(new Uint8Array(200 * 1024 * 1024)),
        }),
    ],
    [
      "a bomb in two frames, the first of which is small",
      () =>
        packed(batchOf(), {
          encoding: Encoding.columnsZstd,
          payload: new Uint8Array([
            ...compress(new Uint8Array(10)),
            ...compress(new Uint8Array(200 * 1024 * 1024)),
          ]),
        }),
    ],
  ];
  for (const [name, frame] of cases) test(name, () => refuses(frame()));

  test("a name that is a setter's is a metric as any other", async () => {
    const hostile = await TestSource.create(platform, "proto");
    await hostile.greet(2);
    await hostile.send(0, 2, [
      fact(1, "run.created", "p", { ...runRow(), config: JSON.parse('{"__proto__": {"polluted": true}}') }),
      {
        ...records(2, "p", { ordinal: 0, values: [1] }),
        payload: new TextEncoder().encode(
          '{"rank":0,"items":[{"step":0,"time":1,"metrics":{"__proto__":1,"constructor":2}}]}',
        ),
      },
    ]);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    const { metrics } = await platform.json("/api/v1/runs/p/metrics");
    expect(metrics.map(({ name }: { name: string }) => name)).toEqual(["__proto__", "constructor"]);
  });
});

describe("lines", () => {
  const said = (change: object): Frame => {
    const frame = lines(2, "r", { first: 1, texts: ["a", "b"] });
    const said = JSON.parse(new TextDecoder().decode(frame.payload));
    return { ...frame, payload: bytes({ ...said, ...change }) };
  };
  const cases: [string, () => Frame][] = [
    ["another first line than the head's", () => said({ first: 5 })],
    ["fewer times than texts", () => said({ time: [1] })],
    ["a time that is none", () => said({ time: [1, null] })],
    ["a stream that is none", () => said({ stream: "ox" })],
    ["a level that is none", () => said({ level: "-9" })],
    ["a rank that is none", () => said({ rank: "0" })],
    ["ranks of others", () => said({ rank: [0] })],
    ["a text that is none", () => said({ text: ["a", 7] })],
    ["a text of two million characters", () => said({ text: ["a", "b".repeat(2e6)] })],
    ["no texts", () => said({ text: { length: 2 } })],
    ["nothing", () => ({ ...said({}), payload: bytes(null) })],
    ["line 0", () => ({ ...said({ first: 0 }), ordinal: 0 })],
  ];
  for (const [name, frame] of cases) test(name, () => refuses(frame()));
});

describe("samples", () => {
  const stream = streamOfDevice(DEVICE);
  const sample = (payload: Uint8Array, more: object = {}): Frame =>
    fact(2, "sample.appended", stream, null, { encoding: Encoding.columnsZstd, payload, count: 2, ...more });
  const good = () =>
    decompress(
      packSamples([
        { subject: "", time: 1000, values: { "cpu.utilization": 0.5 } },
        { subject: "", time: 2000, values: { "cpu.utilization": 0.25 } },
      ]).payload,
    );
  function withHeads(change: (heads: Record<string, unknown>[]) => void): Frame {
    const all = good();
    const length = new DataView(all.buffer, all.byteOffset).getUint32(0, true);
    const heads = JSON.parse(new TextDecoder().decode(all.subarray(4, 4 + length)));
    change(heads);
    const json = bytes(heads);
    const body = new Uint8Array(4 + json.length + all.length - 4 - length);
    new DataView(body.buffer).setUint32(0, json.length, true);
    body.set(json, 4);
    body.set(all.subarray(4 + length), 4 + json.length);
    return sample(compress(body));
  }
  const cases: [string, () => Frame][] = [
    ["nothing", () => sample(compress(new Uint8Array()))],
    ["no zstd", () => sample(good())],
    ["another count", () => sample(compress(good()), { count: 3 })],
    ["a device that is none", () => sample(compress(good()), { run: "device:../../x" })],
    ["a run's stream", () => sample(compress(good()), { run: "r" })],
    ["a subject that is none", () => withHeads((heads) => (heads[0]!["subject"] = 7))],
    ["a reading twice", () => withHeads((heads) => (heads[0]!["keys"] = ["a", "a"]))],
    ["a reading that is a setter", () => withHeads((heads) => (heads[0]!["keys"] = ["__proto__"]))],
    ["fewer bytes than it says", () => withHeads((heads) => (heads[0]!["bytes"] = 1e9))],
    [
      "rows that would take all memory",
      () => {
        const body = good();
        const length = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
        new DataView(body.buffer, body.byteOffset).setUint32(4 + length + 4, 0xffff_ffff, true);
        return sample(compress(body));
      },
    ],
    ["a bomb", () => sample(compress(new Uint8Array(100 * 1024 * 1024)))],
  ];
  for (const [name, frame] of cases) test(name, () => refuses(frame()));

  test("bytes that were turned over are refused or are samples, and never more", async () => {
    const all = good();
    for (let at = 0; at < all.length; at++) {
      const changed = all.slice();
      changed[at]! ^= 0x55;
      const response = await source.batch(1, 1, [], {});
      expect(response.status).toBe(200);
      const again = new TestSource(platform, source.token);
      await again.greet(1);
      const { status } = await again.batch(0, 1, [{ ...sample(compress(changed)), seq: 1 }]);
      expect([200, 400]).toContain(status);
    }
  });
});

describe("facts", () => {
  const cases: [string, () => Frame][] = [
    ["a run's id that is a path", () => fact(2, "run.created", "../../r", runRow())],
    ["a run's id that is none", () => fact(2, "run.created", "", runRow())],
    ["a status that is none", () => fact(2, "run.created", "x", { ...runRow(), status: "DONE" })],
    ["a name of two lines", () => fact(2, "run.created", "x", { ...runRow(), name: "a\nb" })],
    ["a time that is text", () => fact(2, "run.created", "x", { ...runRow(), created: "now" })],
    ["no object", () => fact(2, "run.created", "x", [])],
    [
      "a config nested without end",
      () => ({
        ...fact(2, "run.created", "x", {}),
        payload: new TextEncoder().encode(
          JSON.stringify(runRow()).replace(
            '"config":{}',
            `"config":{"a":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
          ),
        ),
      }),
    ],
    [
      "text that is no UTF-8",
      () => ({ ...fact(2, "run.changed", "r", {}), payload: Uint8Array.of(0xff, 0xfe) }),
    ],
    ["columns where JSON should be", () => fact(2, "run.changed", "r", {}, { encoding: Encoding.columns })],
    [
      "a writer that is none",
      () => fact(2, "run.changed", "r", { writers: [{ what: "joined", writer: {} }] }),
    ],
    ["a device's facts that are none", () => fact(2, "device.changed", streamOfDevice(DEVICE), { name: 1 })],
    ["a device that is none", () => fact(2, "device.changed", "device:zz", facts())],
    ["a use of no device", () => fact(2, "use.changed", "r", { device: "x" })],
    [
      "an event of no kind",
      () =>
        fact(2, "event.recorded", streamOfDevice(DEVICE), [{ subject: "", time: 1, kind: "x", text: "x" }]),
    ],
    [
      "a file that goes upwards",
      () =>
        fact(2, "artifact.logged", "artifact:", {
          kind: "model",
          name: "n",
          type: "model",
          files: [{ path: "../../etc/passwd", size: 1, sha256: "a".repeat(64) }],
          aliases: [],
          origin: {},
          version: 1,
          time: 1,
        }),
    ],
    [
      "a digest that is a path",
      () =>
        fact(2, "artifact.logged", "artifact:", {
          kind: "model",
          name: "n",
          type: "model",
          files: [{ path: "a", size: 1, sha256: "../".repeat(21) + "a" }],
          aliases: [],
          origin: {},
          version: 1,
          time: 1,
        }),
    ],
    [
      "a bomb",
      () =>
        fact(2, "run.changed", "r", null, {
          encoding: Encoding.jsonZstd,
          payload: compress(new Uint8Array(200 * 1024 * 1024).fill(0x20)),
        }),
    ],
  ];
  for (const [name, frame] of cases) test(name, () => refuses(frame()));
});
