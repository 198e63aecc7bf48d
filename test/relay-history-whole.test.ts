import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { appendRecords } from "../src/metric/append.ts";
import { deleteRun } from "../src/run/delete.ts";
import { pruneRuns } from "../src/run/retain.ts";
import { readParquet } from "../src/archive/parquet-read.ts";
import { sampleColumns } from "../src/archive/tables.ts";
import { useArtifact } from "../src/artifact/use.ts";
import { registerDevice } from "../src/device/register.ts";
import type { DeviceFacts } from "../src/device/schema.ts";
import { recordUse } from "../src/device/use.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { exportOf, importTo, jsonOf, seriesOf, textOf, unzip } from "./helpers/archive.ts";
import { keepFiles, logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { createLink, type Link, type LinkOptions } from "./helpers/relay-link.ts";

let here: TestCollector;
let there: TestCollector;
let links: Link[];
beforeEach(() => {
  here = createTestCollector();
  there = createTestCollector();
  links = [];
});
afterEach(async () => {
  for (const link of links) await link.close();
  await here.close();
  await there.close();
});

function link(options?: LinkOptions): Link {
  const created = createLink(here.collector, there.collector, options);
  links.push(created);
  return created;
}

const sha256Of = (bytes: Uint8Array | undefined) => bytes && createHash("sha256").update(bytes).digest("hex");

/** What a run's export holds of its content, as digests. */
async function contentOf(at: TestCollector, run: string) {
  const files = await unzip(await exportOf(at, run));
  const { series, next_ordinal, next_line, ...row } = jsonOf(files, "run.json");
  // Which batches were taken of a client is told by entries alone: nobody writes to it there.
  delete row.clients;
  const { counts } = jsonOf(files, "manifest.json");
  return {
    row,
    series,
    next_ordinal,
    next_line,
    counts,
    points: sha256Of(files.get("metrics/points.csv")),
    texts: sha256Of(files.get("metrics/texts.ndjson")),
    lines: sha256Of(files.get("logs/lines.ndjson")),
    config: jsonOf(files, "config.json"),
  };
}

/** JSON.stringify has no negative zero, JSON has. */
const negativeZeros = (body: unknown) =>
  JSON.stringify(body, (_, value) => (Object.is(value, -0) ? "@-0" : value)).replaceAll('"@-0"', "-0");

const key = fc.constantFrom("loss", "acc/val", "__proto__", "epoch", 'näme, "quoted"', "note");
const value = fc.oneof(
  { weight: 6, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(-0, 0, "NaN", "Infinity", "-Infinity", 5e-324, 1e308) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>("text", { a: [1, null] }, true, "\ud800") },
);
const record = fc.record(
  {
    metrics: fc.dictionary(key, value, { maxKeys: 4 }),
    step: fc.oneof(fc.integer({ min: -5, max: 5000 }), fc.double({ min: -1e6, max: 1e6, noNaN: true })),
    time: fc.double({ min: 1.6e12, max: 1.9e12, noNaN: true }),
    x: fc.constantFrom("epoch", "loss"),
  },
  { requiredKeys: ["metrics"] },
);
const line = fc.record(
  { text: fc.string({ unit: "binary", maxLength: 40 }), stream: fc.constantFrom("stdout", "stderr") },
  { requiredKeys: ["text"] },
);
const batch = fc.oneof(
  fc.record({
    kind: fc.constant("records" as const),
    rank: fc.constantFrom(0, 0, 1, 7),
    items: fc.array(record, { maxLength: 12 }),
    copies: fc.constantFrom(1, 1, 60),
  }),
  fc.record({
    kind: fc.constant("logs" as const),
    rank: fc.constantFrom(0, 1),
    items: fc.array(line, { maxLength: 8 }),
    copies: fc.constantFrom(1, 50),
  }),
);

/** Lets a destination that comes now find a journal that has been cut. */
async function forgetJournal(at: TestCollector): Promise<void> {
  await at.collector.tidy(10_000);
  expect(at.collector.journal.bounds().first).toBe(at.collector.journal.position().seq + 1);
}

describe("what was there before its journal is the same on the platform", () => {
  let number = 0;

  test("of any records and lines, in the same order, and it goes on from there", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { minLength: 1, maxLength: 10 }),
        fc.array(batch, { maxLength: 4 }),
        async (before, after) => {
          const run = `r${number++}`;
          const seqByClient = new Map<string, number>();
          const send = async (batches: typeof before) => {
            for (const { kind, rank, items, copies } of batches) {
              const client = `c${rank}`;
              const seq = (seqByClient.get(client) ?? 0) + 1;
              seqByClient.set(client, seq);
              const body = { client, seq, rank, items: Array(copies).fill(items).flat() };
              await here.json(`/api/v1/runs/${run}/${kind}`, { body: negativeZeros(body) });
            }
          };
          await here.json("/api/v1/runs", { body: { id: run, config: { lr: 0.1 }, tags: ["a"] } });
          await send(before);
          await forgetJournal(here);
          const relay = link({ name: run });
          try {
            await relay.upToDate();
            expect(relay.pieces.some(({ of }) => of === "facts")).toBe(true);
            expect(await contentOf(there, run)).toEqual(await contentOf(here, run));
            expect(await seriesOf(there.collector, run)).toEqual(await seriesOf(here.collector, run));
            // By the journal from now on.
            const sent = relay.pieces.length;
            await send(after);
            await here.json(`/api/v1/runs/${run}/finish`, { body: { status: "FINISHED", exit_code: 0 } });
            await relay.upToDate();
            expect(relay.pieces.length).toBe(sent);
            expect(await contentOf(there, run)).toEqual(await contentOf(here, run));
          } finally {
            await relay.remove();
          }
        },
      ),
      {
        numRuns: Number(process.env["FC_RUNS"] ?? 20),
        examples: [
          [
            [
              {
                kind: "records",
                rank: 0,
                items: [{ metrics: { loss: 1, note: "text" }, step: -0 }],
                copies: 1,
              },
            ],
            [],
          ],
        ],
      },
    );
    there = await there.restart();
    for (let run = 0; run < number; run += 5)
      expect(await contentOf(there, `r${run}`)).toEqual(await contentOf(here, `r${run}`));
  }, 180_000);
});

describe("a run that goes on while its history is sent", () => {
  const item = (step: number) => ({
    step,
    time: 1.7e12 + step,
    metrics: { loss: step / 7, acc: 1 - step / 1e6, ...(step % 50 === 0 ? { note: `at ${step}` } : {}) },
  });

  test("arrives once: what came before by content, what came later by the journal", async () => {
    await here.json("/api/v1/runs", { body: { id: "live" } });
    let seq = 0;
    let step = 0;
    let line = 0;
    const send = async (records: number) => {
      const items = Array.from({ length: records }, () => item(step++));
      await appendRecords(here.collector, "live", { client: "c0", seq: ++seq, items });
      const lines = Array.from({ length: 20 }, () => ({ text: `line ${line++}` }));
      await here.json("/api/v1/runs/live/logs", { body: { client: "c0", seq: ++seq, items: lines } });
    };
    for (let i = 0; i < 20; i++) await send(5000);
    await forgetJournal(here);
    let requests = 0;
    let sending = Promise.resolve();
    const relay = link({
      async onRequest(what) {
        if (what === "greet" || requests++ > 60) return;
        // Between any two requests more comes, and sometimes is still under way.
        sending = sending.then(() => send(30));
        if (requests % 2 === 0) await sending;
      },
    });
    for (let last: unknown; last !== sending;) {
      await (last = sending);
      await relay.upToDate();
    }
    expect(relay.pieces.filter(({ of }) => of === "metrics").length).toBeGreaterThan(2);
    expect(step).toBeGreaterThan(40_000);
    const sent = await contentOf(here, "live");
    expect(sent.counts).toMatchObject({ lines: line });
    expect(await contentOf(there, "live")).toEqual(sent);
    expect(await seriesOf(there.collector, "live")).toEqual(await seriesOf(here.collector, "live"));
  }, 60_000);

  test("is not sent again from its beginning when the way breaks in the middle", async () => {
    await here.json("/api/v1/runs", { body: { id: "long" } });
    for (let seq = 1; seq <= 40; seq++) {
      const items = Array.from({ length: 5000 }, (_, i) => item(seq * 5000 + i));
      await appendRecords(here.collector, "long", { client: "c0", seq, items });
    }
    await forgetJournal(here);
    let pieces = 0;
    const relay = link({
      onRequest(what) {
        if (what === "history" && ++pieces % 3 === 0) throw new Error("The way is broken.");
      },
    });
    await relay.upToDate();
    const metrics = relay.pieces.filter(({ of }) => of === "metrics");
    expect(pieces).toBeGreaterThan(metrics.length);
    metrics.reduce((at, { from, to }) => (expect(from).toBe(at), to), 0);
    expect(await contentOf(there, "long")).toEqual(await contentOf(here, "long"));
  }, 60_000);

  test("and is deleted meanwhile just ends; the platform hears of it, and keeps what came", async () => {
    await here.json("/api/v1/runs", { body: { id: "kept" } });
    for (const id of ["gone", "pruned"]) await here.json("/api/v1/runs", { body: { id } });
    for (const id of ["kept", "gone", "pruned"]) {
      for (let seq = 1; seq <= 16; seq++) {
        const items = Array.from({ length: 5000 }, (_, i) => item(seq * 5000 + i));
        await appendRecords(here.collector, id, { client: "c0", seq, items });
      }
      await here.json(`/api/v1/runs/${id}/finish`, { body: { status: "FINISHED", exit_code: 0 } });
    }
    await forgetJournal(here);
    let pieces = 0;
    const relay = link({
      async onRequest(what) {
        if (what !== "history" || ++pieces !== 3) return;
        await deleteRun(here.collector, "gone", false);
        await pruneRuns(here.collector, { keepBytes: 0 }, false);
      },
    });
    await relay.upToDate();
    const { runs } = await there.json("/api/v1/runs");
    const gone = runs.find(({ id }: { id: string }) => id === "gone");
    expect(gone).toMatchObject({ status: "FINISHED" });
    expect(gone.deleted_at_source).not.toBeNull();
    const pruned = runs.find(({ id }: { id: string }) => id === "pruned");
    expect(pruned).toMatchObject({ deleted_at_source: null, status: "FINISHED" });
    expect((await here.json("/api/v1/runs")).runs).toEqual([]);
  }, 60_000);
});

test("runs that were deleted while the journal was cut are said to be; of those that retention took nothing is said", async () => {
  for (const id of ["kept", "gone", "everywhere", "pruned"])
    await here.json("/api/v1/runs", { body: { id } });
  const before = link();
  await before.upToDate();
  await before.remove();
  for (const id of ["gone", "everywhere", "pruned"])
    await here.json(`/api/v1/runs/${id}/finish`, { body: { status: "FINISHED", exit_code: 0 } });
  await deleteRun(here.collector, "gone", false);
  await deleteRun(here.collector, "everywhere", false, true);
  await pruneRuns(here.collector, { keepBytes: 0 }, false);
  await forgetJournal(here);
  await link({ name: "later" }).upToDate();
  const { runs } = await there.json("/api/v1/runs");
  const told = Object.fromEntries(
    runs.map(({ id, deleted_at_source }: { id: string; deleted_at_source: string | null }) => [
      id,
      deleted_at_source !== null,
    ]),
  );
  expect(told).toEqual({ kept: false, gone: true, pruned: false });
});

describe("machines, their readings and events, models and artifacts", () => {
  const DEVICE = "0123456789abcdef";
  const GPU = "GPU-5a1e1c4e-0000-0000-0000-000000000001";
  const DAY = 24 * 3600 * 1000;

  const facts: DeviceFacts = {
    name: "gpu1",
    os: "Linux",
    kernel: "6.1",
    architecture: "x64",
    boot: null,
    processor: "a fast one",
    cores: 8,
    memory: 64 * 2 ** 30,
    container: false,
    gpu_reader: { status: "ok", reason: null, advice: null, driver: "550", cuda: "12.4", library: null },
    gpus: [],
  };

  async function read(at: TestCollector, from: number, seconds: number, run: string): Promise<void> {
    for (let begun = 0; begun < seconds; begun += 60)
      await appendSamples(
        at.collector,
        DEVICE,
        Array.from({ length: 60 }, (_, i) => begun + i).flatMap((second) => [
          { subject: "", time: from + 1000 * second, values: { "cpu.utilization": (second % 10) / 10 } },
          {
            subject: GPU,
            time: from + 1000 * second,
            values: { "gpu.power": 200 + (second % 7), ...(second % 3 === 0 && { "gpu.temperature": 50 }) },
          },
          { subject: `run/${run}`, time: from + 1000 * second, values: { "memory.used": 4096 * second } },
        ]) as never,
      );
  }

  async function makeRun(at: TestCollector, id: string, from: number, to: number): Promise<void> {
    await at.json("/api/v1/runs", { body: { id, name: "with everything", started: from } });
    await appendRecords(at.collector, id, {
      client: "w",
      seq: 1,
      items: Array.from({ length: 300 }, (_, i) => ({
        time: from + 1000 * i,
        metrics: { loss: 1 / (i + 1) },
      })),
    });
    await registerDevice(at.collector, DEVICE, facts);
    await recordEvents(at.collector, DEVICE, [
      { subject: GPU, time: from - 5000, kind: "gpu.lost", text: "lost before it began" },
      { subject: "", time: from + 1000, kind: "clock.jumped", text: "jumped", detail: { ms: 5 } },
      { subject: `run/${id}`, time: from + 2000, kind: "sampling.began", text: "began" },
    ]);
    const gpu = { index: 0, name: "G", by: "process" as const, energy: 1, hours: 0.3, peak_memory: 5 };
    await recordUse(at.collector, DEVICE, {
      run: id,
      from,
      to,
      attribution: "cgroup",
      cpuSeconds: 12.5,
      gpus: { [GPU]: { ...gpu, shared: false } },
      note: null,
    });
    const large = "x".repeat(200_000);
    await logFiles(at.collector, id, "net", { files: { "w.bin": large, "a.txt": "1" }, aliases: ["best"] });
    await logFiles(at.collector, id, "net", {
      files: { "w.bin": large, "a.txt": "2" },
      metadata: { acc: 0.9 },
    });
    const data = await logFiles(at.collector, null, "data", {
      kind: "artifact",
      files: { "d.csv": "1,2" },
    });
    await useArtifact(at.collector, id, data.id, 1);
    await at.json(`/api/v1/runs/${id}/finish`, {
      body: { status: "FAILED", exit_code: 3, reason: "out of luck", finished: to },
    });
  }

  /** In the place of the lane that does it beside. */
  async function bringFiles(): Promise<void> {
    for (const { sha256 } of here.collector.connection
      .prepare("SELECT DISTINCT sha256 FROM artifact_file")
      .all() as { sha256: string }[]) {
      const bytes = await new Response(here.collector.blobs.read(sha256)).bytes();
      await keepFiles(there.collector, { file: bytes });
    }
  }

  /** What an export says of hardware, events and versions; ids of artifacts are each collector's own. */
  async function restOf(at: TestCollector, run: string) {
    const files = await unzip(await exportOf(at, run));
    const path = join(at.dataDir, "samples.parquet");
    writeFileSync(path, files.get("hardware/samples.parquet")!);
    const samples: string[] = [];
    for await (const group of readParquet(path, sampleColumns)) {
      const columns = Object.values(group) as ArrayLike<unknown>[];
      for (let row = 0; row < columns[0]!.length; row++)
        samples.push(columns.map((column) => String(column[row])).join(" "));
    }
    return {
      samples: samples.sort(),
      devices: jsonOf(files, "hardware/devices.json"),
      events: textOf(files, "hardware/events.ndjson"),
      artifacts: jsonOf(files, "artifacts.json"),
    };
  }

  test("arrive as they are kept, readings of days ago as coarse as they are here", async () => {
    const now = Date.now();
    const from = Math.floor((now - 4 * DAY) / 600_000) * 600_000;
    await makeRun(here, "all1", from, from + 7200_000);
    await read(here, from, 7200, "all1");
    await here.collector.samples.finish();
    await here.collector.samples.expire();
    const recent = Math.floor((now - 7200_000) / 600_000) * 600_000;
    await makeRun(here, "all2", recent, recent + 3600_000);
    await read(here, recent, 3600, "all2");
    await forgetJournal(here);
    const relay = link();
    await relay.upToDate();
    await bringFiles();
    for (const run of ["all1", "all2"]) {
      const kept = await restOf(here, run);
      expect(await restOf(there, run)).toEqual(kept);
      expect(await contentOf(there, run)).toEqual(await contentOf(here, run));
      const widths = new Set(kept.samples.map((row) => row.split(" ").length));
      expect(widths.size).toBe(1);
      expect(kept.samples.length).toBeGreaterThan(500);
    }
    const coarse = (await restOf(there, "all1")).samples.join("\n");
    expect(coarse).toMatch(/ 10 1\d{12} 10 /);
  }, 90_000);

  test("of a run that is imported here arrive, though what the machine read later is there already", async () => {
    const now = Date.now();
    const recent = Math.floor((now - 3600_000) / 600_000) * 600_000;
    await makeRun(here, "mine", recent, recent + 600_000);
    await read(here, recent, 600, "mine");
    const relay = link();
    await relay.upToDate();
    const other = createTestCollector();
    try {
      const from = recent - 7200_000;
      await makeRun(other, "theirs", from, from + 1200_000);
      await read(other, from, 1200, "theirs");
      const response = await importTo(here, await exportOf(other, "theirs"));
      expect(response.status).toBe(201);
      await relay.upToDate();
      await bringFiles();
      expect(relay.pieces.some(({ of }) => of === "samples")).toBe(true);
      expect(await restOf(there, "theirs")).toEqual(await restOf(here, "theirs"));
      expect(await contentOf(there, "theirs")).toEqual(await contentOf(other, "theirs"));
      expect(await restOf(there, "mine")).toEqual(await restOf(here, "mine"));
    } finally {
      await other.close();
    }
  }, 60_000);
});
