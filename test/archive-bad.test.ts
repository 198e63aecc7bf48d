import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { ZipWriterAddDataOptions } from "@zip.js/zip.js";
import { logArtifact } from "../src/artifact/log.ts";
import { LogArtifact } from "../src/artifact/schema.ts";
import { CollectorError } from "../src/error.ts";
import { writeParquet } from "../src/archive/parquet-write.ts";
import { pointColumns } from "../src/archive/tables.ts";
import {
  bytesOf,
  digestAnew,
  exportOf,
  importTo,
  jsonOf,
  putJson,
  textOf,
  tracesOf,
  unzip,
  zipOf,
  type Files,
} from "./helpers/archive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

type Zip = Uint8Array<ArrayBuffer>;

let good: Zip;
let files: Files;
let at: TestCollector;

beforeAll(async () => {
  const source = createTestCollector();
  await source.json("/api/v1/runs", { body: { id: "bad", name: "x", writer: { client: "w" } } });
  const items = Array.from({ length: 200 }, (_, i) => ({
    metrics: { a: i, b: i / 3, t: i === 5 ? "text" : i },
  }));
  await source.json("/api/v1/runs/bad/records", { body: { client: "w", seq: 1, items } });
  const lines = Array.from({ length: 50 }, (_, i) => ({ text: `line ${i}` }));
  await source.json("/api/v1/runs/bad/logs", { body: { client: "w", seq: 2, items: lines } });
  const bytes = Buffer.from("weights");
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  source.collector.blobs.putSmall([{ sha256, bytes }]);
  await logArtifact(
    source.collector,
    "bad",
    LogArtifact.parse({
      kind: "model",
      name: "net",
      type: "model",
      files: [{ path: "w.bin", size: bytes.length, sha256 }],
    }),
  );
  await source.json("/api/v1/runs/bad/finish", { body: {} });
  good = await exportOf(source, "bad");
  await source.close();
});
beforeEach(async () => {
  files = await unzip(good);
  at = createTestCollector();
});
afterEach(() => at.close());

/** The refusal; nothing of the run is there afterwards, and the collector still takes the sound one. */
async function refusalOf(zip: Zip): Promise<{ status: number; detail: string; hint: string }> {
  const response = await importTo(at, zip);
  const text = await response.text();
  if (response.status < 400) throw new Error(`It was taken: ${text}`);
  expect(tracesOf(at.collector, "bad")).toEqual([]);
  expect((await at.json("/api/v1/runs")).runs).toEqual([]);
  expect((await at.json("/api/v1/artifacts")).artifacts).toEqual([]);
  expect((await importTo(at, good)).status).toBe(201);
  await fresh();
  return { status: response.status, ...JSON.parse(text) };
}

async function fresh(): Promise<void> {
  await at.close();
  at = createTestCollector();
}

/** Packed by another tool, with sizes and digests as the files are now. */
async function forged(change: (files: Files) => void, options?: Record<string, ZipWriterAddDataOptions>) {
  change(files);
  digestAnew(files);
  return refusalOf(await zipOf(files, options));
}

/** `from` becomes `to`, of the same length, wherever it stands in the zip. */
function patched(zip: Zip, from: string, to: string): Zip {
  if (from.length !== to.length) throw new Error("of the same length");
  const bytes = Buffer.from(zip);
  let found = 0;
  for (let place = bytes.indexOf(from); place >= 0; place = bytes.indexOf(from, place + 1), found++)
    bytes.write(to, place);
  if (found === 0) throw new Error(`${from} is not there`);
  return new Uint8Array(bytes);
}

test("the sound one, packed again by another tool, is taken", async () => {
  expect((await importTo(at, await zipOf(files))).status).toBe(201);
});

describe("what is no archive of ours is refused, and says what it is", () => {
  const cases: [name: string, zip: () => Zip | Promise<Zip>, detail: RegExp][] = [
    ["nothing", () => new Uint8Array(0), /no zip that can be read/],
    ["a text", () => bytesOf("hello ".repeat(1000)), /no zip that can be read/],
    ["a zip of somebody else", () => zipOf(new Map([["README.md", bytesOf("hi")]])), /no name of a file/],
    [
      "a zip with another program's manifest",
      () => zipOf(new Map([["manifest.json", bytesOf(`{"a":1}`)]])),
      /of another program/,
    ],
    ["a zip without a manifest", () => zipOf(new Map([["run.json", bytesOf("{}")]])), /no manifest\.json/],
    ["a manifest that is no JSON", () => zipOf(new Map([["manifest.json", bytesOf("{")]])), /no JSON/],
    ["an empty zip", () => zipOf(new Map()), /no manifest\.json/],
  ];
  for (const [name, zip, detail] of cases)
    test(name, async () => {
      const refusal = await refusalOf(await zip());
      expect(refusal).toMatchObject({ status: 400, detail: expect.stringMatching(detail) });
      expect(refusal.hint.length).toBeGreaterThan(10);
    });

  test("a newer format", async () => {
    const manifest = jsonOf(files, "manifest.json");
    putJson(files, "manifest.json", { ...manifest, version: 3, files: "of another shape" });
    expect(await refusalOf(await zipOf(files))).toMatchObject({
      status: 415,
      detail: expect.stringContaining("format 3"),
      hint: expect.stringContaining("newer binnacle"),
    });
  });

  test("another content type, or none", async () => {
    for (const type of ["application/json", "text/plain", null]) {
      const response = await at.app.request("/api/v1/runs/import", {
        method: "POST",
        body: good,
        headers: { authorization: `Bearer ${at.trust.tokens.admin}`, ...(type && { "content-type": type }) },
      });
      expect(response.status).toBe(415);
    }
  });
});

describe("what is damaged is refused whole", () => {
  test("cut short anywhere", async () => {
    for (const share of [0.1, 0.5, 0.9, 0.99])
      expect((await refusalOf(good.slice(0, good.length * share))).status).toBe(400);
    expect((await refusalOf(good.slice(0, -1))).status).toBe(400);
    expect((await refusalOf(good.slice(1))).status).toBe(400);
  });

  test("a byte changed in any file", async () => {
    const names = [...files.keys()];
    for (const name of names) {
      files = await unzip(good);
      const bytes = files.get(name)!.slice();
      if (bytes.length === 0) continue;
      bytes[bytes.length >> 1]! ^= 1;
      files.set(name, bytes);
      const { status } = await refusalOf(await zipOf(files));
      expect([name, status]).toEqual([name, 400]);
    }
  });

  test("bytes changed anywhere in the zip never bring in something else", async () => {
    let taken = 0;
    for (let place = 7; place < good.length; place += Math.ceil(good.length / 60)) {
      const bytes = good.slice();
      bytes[place]! ^= 0x55;
      const response = await importTo(at, bytes);
      if (response.status === 201) {
        // A byte that says nothing, such as a date.
        taken++;
        expect((await response.json()) as unknown).toMatchObject({ points: 599, texts: 1, lines: 50 });
        await fresh();
      } else expect(tracesOf(at.collector, "bad")).toEqual([]);
    }
    expect(taken).toBeLessThan(30);
  });

  test("a file missing, or one too many", async () => {
    const all = [...files.keys()];
    for (const name of all.filter((name) => name !== "manifest.json")) {
      files = await unzip(good);
      files.delete(name);
      expect(await refusalOf(await zipOf(files))).toMatchObject({ status: 400 });
    }
    files = await unzip(good);
    files.set("models/net/v1/more.bin", bytesOf("more"));
    expect(await refusalOf(await zipOf(files))).toMatchObject({
      detail: expect.stringContaining("does not name"),
    });
  });

  test("a file of no version, though the manifest names it", async () => {
    const refusal = await forged((files) => files.set("models/net/v1/more.bin", bytesOf("more")));
    expect(refusal.detail).toContain("belongs to no version");
  });
});

describe("names lead nowhere", () => {
  for (const name of [
    "../evil",
    "models/../../evil",
    "/etc/passwd",
    "models//x",
    "models/./x",
    "C:\\evil",
    "models\\..\\x",
    "models/a\0b",
    "models/\u202egpj.exe",
    "run.json/",
    `models/${"x".repeat(1400)}`,
    "other/thing",
  ])
    test(JSON.stringify(name.slice(0, 40)), async () => {
      files.set("models/PLACEHOLDER", bytesOf("evil"));
      let zip: Zip;
      try {
        files.delete("models/PLACEHOLDER");
        files.set(name, bytesOf("evil"));
        zip = await zipOf(files);
      } catch {
        // The library writes no such name: another tool would.
        files.delete(name);
        const stand = "models/".padEnd(Math.max(8, name.length), "z");
        files.set(stand, bytesOf("evil"));
        zip = patched(await zipOf(files), stand, name.padEnd(stand.length, "z"));
      }
      expect(await refusalOf(zip)).toMatchObject({ status: 400 });
    });

  test("two files of one name", async () => {
    files.set("models/net/v1/w.bim", bytesOf("weights"));
    expect(
      await refusalOf(patched(await zipOf(files), "models/net/v1/w.bim", "models/net/v1/w.bin")),
    ).toMatchObject({
      status: 400,
    });
  });

  test("links, folders and what is encrypted", async () => {
    const cases: [ZipWriterAddDataOptions, RegExp][] = [
      [{ externalFileAttributes: (0o120777 << 16) >>> 0, versionMadeBy: 0x031e } as never, /link/],
      [{ externalFileAttributes: (0o010644 << 16) >>> 0, versionMadeBy: 0x031e } as never, /link/],
      [{ password: "secret" }, /encrypted/],
    ];
    for (const [options, detail] of cases) {
      files = await unzip(good);
      const refusal = await forged(() => {}, { "models/net/v1/w.bin": options });
      expect(refusal).toMatchObject({ status: 400, detail: expect.stringMatching(detail) });
    }
    files = await unzip(good);
    files.set("models/net/v1/", bytesOf(""));
    expect(await refusalOf(await zipOf(files, { "models/net/v1/": { directory: true } }))).toMatchObject({
      status: 400,
    });
  });
});

describe("bombs do not go off", () => {
  test("a file of zeros that is a thousandth of its size in the zip", async () => {
    const before = process.memoryUsage().rss;
    const refusal = await forged((files) => files.set("logs/output.txt", new Uint8Array(64 * 1024 * 1024)), {
      // (What level 1 makes of zeros is not too tight.)
      "logs/output.txt": { level: 9 },
    });
    expect(refusal).toMatchObject({ status: 413, detail: expect.stringContaining("times as long") });
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024);
  });

  test("a file that is longer than it says", async () => {
    files.set("logs/output.txt", new Uint8Array(3 * 1024 * 1024));
    digestAnew(files);
    const zip = Buffer.from(await zipOf(files));
    // In the central directory and wherever else: it claims to be 256 bytes long.
    const claimed = Buffer.alloc(4);
    claimed.writeUInt32LE(3 * 1024 * 1024);
    let found = 0;
    for (let place = zip.indexOf(claimed); place >= 0; place = zip.indexOf(claimed, place + 1), found++)
      zip.writeUInt32LE(256, place);
    expect(found).toBeGreaterThan(0);
    expect((await refusalOf(new Uint8Array(zip))).status).toBe(400);
  });

  test("a list of files that claims to be endless", async () => {
    for (const [offset, value] of [
      [10, 0xffff],
      [12, 0xffff_ffff],
      [16, 0xffff_ffff],
    ] as const) {
      const zip = Buffer.from(await zipOf(files));
      const end = zip.lastIndexOf(Buffer.from("PK\x05\x06"));
      if (offset === 10) zip.writeUInt16LE(value, end + offset);
      else zip.writeUInt32LE(value, end + offset);
      expect((await refusalOf(new Uint8Array(zip))).status).toBe(400);
    }
  });

  test("a text that is one endless line", async () => {
    const refusal = await forged(
      (files) => {
        files.set("logs/lines.ndjson", new Uint8Array(Buffer.alloc(20 * 1024 * 1024, "xyzw1234567890 abcd")));
      },
      {
        "logs/lines.ndjson": { level: 0 },
      },
    );
    expect(refusal.detail).toContain("too long a line");
  });
});

describe("files that are sound and say what cannot be", () => {
  type Change = (files: Files) => void | Promise<void>;
  const edit =
    (name: string, change: (value: any) => void): Change =>
    (files) => {
      const value = jsonOf(files, name);
      change(value);
      putJson(files, name, value);
    };
  const lines =
    (name: string, change: (lines: string[]) => string[]): Change =>
    (files) =>
      void files.set(
        name,
        bytesOf(
          change(textOf(files, name).trimEnd().split("\n"))
            .map((line) => `${line}\n`)
            .join(""),
        ),
      );
  const points =
    (columns: Record<string, string>, values: unknown[]): Change =>
    async (files) => {
      const parts: Uint8Array[] = [];
      for await (const part of writeParquet(
        columns as never,
        (async function* () {
          yield values as never;
        })(),
      ))
        parts.push(part);
      files.set("metrics/points.parquet", new Uint8Array(Buffer.concat(parts)));
    };
  const row = (change: Partial<Record<keyof typeof pointColumns, unknown>>) =>
    points(pointColumns, [
      BigInt64Array.of((change.ordinal as bigint) ?? 0n),
      Int32Array.of(0),
      Float64Array.of((change.step as number) ?? 0),
      Float64Array.of((change.time as number) ?? 1e12),
      [change.metric ?? "a"],
      Float64Array.of(1),
    ]);

  const cases: [name: string, change: Change, detail: RegExp][] = [
    ["another run's manifest", edit("run.json", (run) => (run.id = "other")), /another run/],
    ["an id that is none", edit("manifest.json", (manifest) => (manifest.run.id = "../../etc")), /run\.id/],
    [
      "more points than it has",
      edit("manifest.json", (manifest) => (manifest.counts.points = 7)),
      /599 points/,
    ],
    [
      "no points at all",
      points(pointColumns, [
        new BigInt64Array(),
        new Int32Array(),
        new Float64Array(),
        new Float64Array(),
        [],
        new Float64Array(),
      ]),
      /points/,
    ],
    ["other columns", points({ a: "INT32" }, [Int32Array.of(1)]), /other columns/],
    [
      "points that are no Parquet",
      (files) => void files.set("metrics/points.parquet", bytesOf("PAR1nothing at allPAR1")),
      /Parquet/,
    ],
    ["a record beyond the last", row({ ordinal: 10_000n }), /no record 10000/],
    ["a record before the first", row({ ordinal: -1n }), /order|no record/],
    ["a step that is none", row({ step: NaN }), /impossible step/],
    ["a time that is none", row({ time: 1e300 }), /impossible step or time/],
    ["a metric that nobody named", row({ metric: "zzz" }), /does not name all of its metrics/],
    [
      "a text of a metric that nobody named",
      lines("metrics/texts.ndjson", ([text]) => [text!.replace(`"t"`, `"z"`)]),
      /does not name all/,
    ],
    ["lines out of order", lines("logs/lines.ndjson", (all) => all.reverse()), /out of its order/],
    ["the same line twice", lines("logs/lines.ndjson", (all) => [all[0]!, ...all]), /out of its order/],
    [
      "a line beyond the last",
      lines("logs/lines.ndjson", (all) => [...all, all[0]!.replace(`"line":1`, `"line":999`)]),
      /out of its order/,
    ],
    ["a line that is no JSON", lines("logs/lines.ndjson", (all) => [...all, "{"]), /no JSON/],
    ["a line of another shape", lines("logs/lines.ndjson", (all) => [...all, "[]"]), /lines\.ndjson/],
    [
      "a text that ends within a line",
      (files) => void files.set("logs/lines.ndjson", bytesOf("{}")),
      /ends within a line/,
    ],
    [
      "bytes that are no UTF-8",
      (files) => void files.set("metrics/texts.ndjson", Uint8Array.of(0xff, 10)),
      /no UTF-8/,
    ],
    [
      "a config that nests without end",
      (files) => void files.set("config.json", bytesOf(`${`{"a":`.repeat(5000)}1${"}".repeat(5000)}`)),
      /config\.json/,
    ],
    ["a status that is none", edit("run.json", (run) => (run.status = "ODD")), /status/],
    ["a metric twice", edit("run.json", (run) => run.series.push(run.series[0])), /twice/],
    [
      "an event of another device",
      (files) =>
        void files.set(
          "hardware/events.ndjson",
          bytesOf(
            `{"device":"0123456789abcdef","subject":"","time":1,"kind":"clock.jumped","text":"","detail":{}}\n`,
          ),
        ),
      /another device/,
    ],
    [
      "a version whose bytes are missing",
      edit("artifacts.json", (all) => (all[0].files[0].sha256 = "0".repeat(64))),
      /are missing/,
    ],
    [
      "a version whose file leads elsewhere",
      edit("artifacts.json", (all) => (all[0].files[0].path = "../../x")),
      /artifacts\.json/,
    ],
    [
      "a model's name with slashes",
      edit("artifacts.json", (all) => (all[0].name = "../x")),
      /artifacts\.json/,
    ],
    ["a version twice", edit("artifacts.json", (all) => all.push(all[0])), /twice/],
  ];
  for (const [name, change, detail] of cases)
    test(name, async () => {
      await change(files);
      digestAnew(files);
      const refusal = await refusalOf(await zipOf(files));
      expect(refusal).toMatchObject({ status: 400, detail: expect.stringMatching(detail) });
    });
});

test("a disk that has no room refuses, and takes it when there is some", async () => {
  const { journal, quota } = at.collector;
  await quota.check();
  journal.refuse(new CollectorError("disk-full", "Nothing was stored: the disk is full."));
  const response = await importTo(at, good);
  expect(response.status).toBe(507);
  expect(await response.json()).toMatchObject({
    detail: "The disk is full: nothing was imported.",
    hint: expect.stringContaining("and import again"),
  });
  expect(tracesOf(at.collector, "bad")).toEqual([]);
  journal.refuse(undefined);
  expect((await importTo(at, good)).status).toBe(201);
});

test("a sender that stops half-way leaves nothing", async () => {
  const broken = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(good.slice(0, 1000));
    },
    pull(controller) {
      controller.error(new Error("gone"));
    },
  });
  const response = await at.app.request("/api/v1/runs/import", {
    method: "POST",
    body: broken,
    headers: { "content-type": "application/zip", authorization: `Bearer ${at.trust.tokens.admin}` },
  });
  expect(response.status).toBe(400);
  expect(tracesOf(at.collector, "bad")).toEqual([]);
});

test("the same archive twice at once is taken once", async () => {
  const statuses = await Promise.all([importTo(at, good), importTo(at, good)]);
  expect(statuses.map(({ status }) => status).sort()).toEqual([201, 409]);
  expect((await at.json("/api/v1/runs/bad/metrics")).metrics).toHaveLength(3);
});

test("who may: writers bring runs in, a run's own token brings none, and reads its own alone", async () => {
  const tokens = at.trust.tokens;
  expect(await statusWith(tokens.read)).toBe(403);
  expect(await statusWith(tokens.ofRun("bad"))).toBe(403);
  expect(await statusWith(null)).toBe(401);
  expect(await statusWith(tokens.write)).toBe(201);
  const read = (token: string) =>
    at.request("/api/v1/runs/bad/export", { token }).then(({ status }) => status);
  expect(await read(tokens.read)).toBe(200);
  expect(await read(tokens.ofRun("bad"))).toBe(200);
  expect(await read(tokens.ofRun("other"))).toBe(403);

  async function statusWith(token: string | null): Promise<number> {
    const response = await at.app.request("/api/v1/runs/import", {
      method: "POST",
      body: good,
      headers: {
        "content-type": "application/zip",
        ...(token !== null && { authorization: `Bearer ${token}` }),
      },
    });
    return response.status;
  }
});
