import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { getArtifactByName, listFiles } from "../src/artifact/find.ts";
import { logArtifact } from "../src/artifact/log.ts";
import { LogArtifact } from "../src/artifact/schema.ts";
import { setVersion } from "../src/artifact/set.ts";
import { useArtifact } from "../src/artifact/use.ts";
import { SMALL_BYTES } from "../src/blob/schema.ts";
import type { Collector } from "../src/collector.ts";
import { registerDevice } from "../src/device/register.ts";
import type { DeviceFacts } from "../src/device/schema.ts";
import { recordUse } from "../src/device/use.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { exportOf, importTo, jsonOf, seriesOf, textOf, tracesOf, unzip } from "./helpers/archive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const DEVICE = "0123456789abcdef";
const GPU = "GPU-5a1e1c4e-0000-0000-0000-000000000001";

let here: TestCollector;
let there: TestCollector;
beforeEach(() => {
  here = createTestCollector();
  there = createTestCollector();
});
afterEach(async () => {
  await here.close();
  await there.close();
});

/** All answers of a collector about a run, as text; `run` stands for its id. */
async function answersOf(
  at: TestCollector,
  run: string,
  more: string[] = [],
): Promise<Record<string, string>> {
  const { metrics } = await at.json(`/api/v1/runs/${run}/metrics`);
  const paths = [
    `/runs/${run}`,
    `/runs/${run}/metrics`,
    `/runs/${run}/logs?after=0&limit=10000`,
    `/runs/${run}/logs?grep=line&level=WARNING`,
    `/runs/${run}/devices`,
    `/devices/${DEVICE}/events?from=0&subjects=machine,cgroup,${GPU},run/${run}`,
    ...more.map((path) => path.replaceAll("RUN", run)),
  ];
  for (const { name, ranks, x } of metrics as { name: string; ranks: number[]; x: string | null }[])
    for (const rank of ranks)
      for (const query of [
        "x=step",
        "x=time",
        "x=time&points=7",
        ...(x ? [`x=${encodeURIComponent(x)}`] : []),
      ])
        paths.push(`/runs/${run}/points?key=${encodeURIComponent(name)}&rank=${rank}&${query}`);
  const answers: Record<string, string> = {};
  for (const path of paths) {
    const text = await (await at.request(`/api/v1${path}`)).text();
    answers[path.replaceAll(run, "RUN")] = text.replaceAll(run, "RUN");
  }
  return answers;
}

/** JSON.stringify has no negative zero, JSON has. */
const negativeZeros = (body: unknown) =>
  JSON.stringify(body, (_, value) => (Object.is(value, -0) ? "@-0" : value)).replaceAll('"@-0"', "-0");

/** What differs between two answers by right: numbers that a collector gives. */
const withoutIds = (answers: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(answers).map(([path, text]) => [path, text.replaceAll(/"id":\d+,/g, "")]),
  );

async function bring(run: string, query = ""): Promise<{ run: string; [more: string]: unknown }> {
  const response = await importTo(there, await exportOf(here, run), query);
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${text}`);
  return JSON.parse(text);
}

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

async function logFiles(
  at: Collector,
  run: string | null,
  name: string,
  textByPath: Record<string, string>,
  more = {},
) {
  const files = Object.entries(textByPath).map(([path, text]) => {
    const bytes = Buffer.from(text);
    return { path, bytes, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  });
  at.blobs.putSmall(files.filter(({ size }) => size <= SMALL_BYTES));
  for (const { sha256, bytes, size } of files) {
    if (size <= SMALL_BYTES) continue;
    await at.blobs.open(sha256, { size, chunks: [sha256] });
    await at.blobs.putChunk(sha256, 0, Uint8Array.from(bytes));
    await at.blobs.commit(sha256);
  }
  return logArtifact(
    at,
    run,
    LogArtifact.parse({
      kind: "model",
      name,
      type: "model",
      files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
      ...more,
    }),
  );
}

describe("any records and lines come back bit for bit", () => {
  const key = fc.constantFrom("loss", "acc/val", "__proto__", "epoch", 'näme, "quoted"', "note");
  const value = fc.oneof(
    { weight: 6, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
    { weight: 2, arbitrary: fc.constantFrom<unknown>(-0, 0, "NaN", "Infinity", "-Infinity", 5e-324, 1e308) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
    { weight: 1, arbitrary: fc.constantFrom<unknown>("text", "\ud800", { a: [1, null] }, true) },
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
    {
      text: fc.oneof(
        fc.string({ unit: "binary", maxLength: 40 }),
        fc.constantFrom("line ERROR", "bytes \udcff\udc80", "", "a\rb", "line, WARNING: \u001b[31mred"),
      ),
      stream: fc.constantFrom("stdout", "stderr"),
      level: fc.constantFrom("DEBUG", "ERROR"),
      time: fc.integer({ min: 1_600_000_000_000, max: 1_900_000_000_000 }),
    },
    { requiredKeys: ["text"] },
  );
  const batch = fc.oneof(
    fc.record({
      kind: fc.constant("records" as const),
      rank: fc.constantFrom(0, 0, 1, 7),
      items: fc.array(record, { maxLength: 12 }),
    }),
    fc.record({
      kind: fc.constant("logs" as const),
      rank: fc.constantFrom(0, 1),
      items: fc.array(line, { maxLength: 8 }),
    }),
  );

  let number = 0;

  test("and so do the numbering, the order of metrics, their axes, and where a writer goes on", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { maxLength: 12 }),
        fc.constantFrom("seal", "memory"),
        async (batches, where) => {
          const run = `r${number++}`;
          await here.json("/api/v1/runs", { body: { id: run, writer: { client: "c0", rank: 0 } } });
          const seqByClient = new Map<string, number>();
          for (const { kind, rank, items } of batches) {
            const client = `c${rank}`;
            const seq = (seqByClient.get(client) ?? 0) + 1;
            seqByClient.set(client, seq);
            await here.json(`/api/v1/runs/${run}/${kind}`, {
              body: negativeZeros({ client, seq, rank, items }),
            });
          }
          await here.json(`/api/v1/runs/${run}/finish`, { body: { status: "FINISHED", exit_code: 0 } });
          if (where === "seal") await here.collector.tidy(10_000);

          await bring(run);
          expect(await answersOf(there, run)).toEqual(await answersOf(here, run));
          expect(await seriesOf(there.collector, run)).toEqual(await seriesOf(here.collector, run));
          // Both go on alike: the same numbers, the same steps.
          for (const at of [here, there]) {
            const seq = (seqByClient.get("c0") ?? 0) + 1;
            await at.json(`/api/v1/runs/${run}/records`, {
              body: { client: "c0", seq, items: [{ metrics: { later: 1, loss: 2 }, time: 1.7e12 }] },
            });
          }
          expect(await answersOf(there, run)).toEqual(await answersOf(here, run));
        },
      ),
      { numRuns: Number(process.env["FC_RUNS"] ?? 25) },
    );
    // What was only in memory is in the journal: a start brings it back.
    there = await there.restart();
    for (let run = 0; run < number; run += 5)
      expect(await seriesOf(there.collector, `r${run}`)).toEqual(await seriesOf(here.collector, `r${run}`));
  }, 120_000);
});

describe("a run with everything", () => {
  const BEGIN = 1_790_000_400_000;

  async function makeRun(id: string): Promise<void> {
    const { collector } = here;
    const config = { lr: 0.1, deep: { list: [1, null, "x"] }, big: "12345678901234567890" };
    await here.json("/api/v1/runs", {
      body: {
        id,
        name: "digits",
        project: "demo",
        tags: ["a", "b"],
        notes: "of note",
        command: "python3 train.py",
        config,
        started: BEGIN,
        writer: { client: "w", device: "gpu1", pid: 17, boot: "b", start: 5 },
      },
    });
    const items = Array.from({ length: 300 }, (_, i) => ({
      time: BEGIN + 1000 * i,
      x: "epoch",
      metrics: {
        loss: i === 7 ? "NaN" : 1 / (i + 1),
        epoch: Math.floor(i / 10),
        sample: i % 100 ? -0 : "png",
      },
    }));
    await here.json(`/api/v1/runs/${id}/records`, {
      body: negativeZeros({ client: "w", seq: 1, items }),
    });
    const lines = Array.from({ length: 40 }, (_, i) => ({ text: `line ${i}`, time: BEGIN + i }));
    await here.json(`/api/v1/runs/${id}/logs`, { body: { client: "w", seq: 2, items: lines } });
    await registerDevice(collector, DEVICE, facts);
    for (let minute = 0; minute < 20; minute++)
      await appendSamples(
        collector,
        DEVICE,
        Array.from({ length: 60 }, (_, i) => 60 * minute + i).flatMap((second) => [
          { subject: "", time: BEGIN + 1000 * second, values: { "cpu.utilization": (second % 10) / 10 } },
          { subject: GPU, time: BEGIN + 1000 * second, values: { "gpu.power": 200 + (second % 7) } },
          { subject: `run/${id}`, time: BEGIN + 1000 * second, values: { "memory.used": 4096 * second } },
          { subject: "run/other", time: BEGIN + 1000 * second, values: { "memory.used": 4096 } },
        ]) as never,
      );
    await recordEvents(collector, DEVICE, [
      { subject: GPU, time: BEGIN - 5000, kind: "gpu.lost", text: "lost before it began" },
      { subject: "", time: BEGIN + 1000, kind: "clock.jumped", text: "jumped", detail: { ms: 5 } },
      { subject: `run/${id}`, time: BEGIN + 2000, kind: "sampling.began", text: "began" },
      { subject: "run/other", time: BEGIN + 2000, kind: "sampling.began", text: "of another run" },
    ]);
    await recordUse(collector, DEVICE, {
      run: id,
      from: BEGIN,
      to: BEGIN + 1_200_000,
      attribution: "cgroup",
      cpuSeconds: 12.5,
      gpus: {
        [GPU]: { index: 0, name: "G", by: "process", energy: 1, hours: 0.3, peak_memory: 5, shared: false },
      },
      note: null,
    });
    const large = "x".repeat(200_000);
    await logFiles(
      collector,
      id,
      "net",
      { "weights.bin": large, "sub/größe.txt": "1" },
      { aliases: ["best"] },
    );
    await logFiles(
      collector,
      id,
      "net",
      { "weights.bin": large, "sub/größe.txt": "2" },
      {
        metadata: { acc: 0.9 },
        description: "second",
        origin: { environment: "dev", edge: "7" },
      },
    );
    const used = await logFiles(
      collector,
      null,
      "data",
      { "a.csv": "1" },
      { kind: "artifact", type: "dataset" },
    );
    await useArtifact(collector, id, used.id, 1);
    await here.json(`/api/v1/runs/${id}/finish`, {
      body: {
        client: "w",
        status: "FAILED",
        exit_code: 3,
        reason: "out of luck",
        finished: BEGIN + 1_200_000,
      },
    });
  }

  const hardware = [
    `/devices/${DEVICE}/samples?from=${BEGIN}&to=${BEGIN + 1_199_999}&points=2000&subjects=machine,${GPU},run/RUN`,
    `/devices/${DEVICE}/samples?from=${BEGIN}&to=${BEGIN + 1_199_999}&points=20&subjects=machine,${GPU},run/RUN`,
    `/runs/RUN/artifacts`,
  ];

  test("is the same elsewhere, query by query, and again after a restart", async () => {
    await makeRun("full1");
    const imported = await bring("full1");
    expect(imported).toMatchObject({
      run: "full1",
      status: "FAILED",
      points: 897,
      texts: 3,
      lines: 40,
      samples: 3600,
      notes: [],
      versions: [
        { name: "net", exported_as: "v1", version: "v1", is_new: true },
        { name: "data", exported_as: "v1", version: "v1", is_new: true },
        { name: "net", exported_as: "v2", version: "v2", is_new: true },
      ],
    });
    const expected = withoutIds(await answersOf(here, "full1", hardware));
    expect(withoutIds(await answersOf(there, "full1", hardware))).toEqual(expected);
    const list = async (at: TestCollector) => (await at.json("/api/v1/runs")).runs;
    expect(await list(there)).toEqual(await list(here));
    there = await there.restart();
    expect(withoutIds(await answersOf(there, "full1", hardware))).toEqual(expected);
    await there.collector.samples.finish();
    expect(withoutIds(await answersOf(there, "full1", hardware))).toEqual(expected);
  });

  test("brings its files, each of them once in the archive", async () => {
    await makeRun("full2");
    const files = await unzip(await exportOf(here, "full2"));
    expect([...files.keys()].filter((path) => /^(models|artifacts)\//.test(path))).toEqual([
      "models/net/v1/sub/größe.txt",
      "models/net/v1/weights.bin",
      "models/net/v2/sub/größe.txt",
    ]);
    await bring("full2");
    const { id } = await getArtifactByName(there.collector, "model", "net");
    for (const [version, path] of [
      [1, "weights.bin"],
      [2, "weights.bin"],
      [2, "sub/größe.txt"],
    ] as const) {
      const of = (at: TestCollector, id: number) =>
        at.request(`/api/v1/artifacts/${id}/versions/v${version}/file?path=${encodeURIComponent(path)}`);
      const { id: own } = await getArtifactByName(here.collector, "model", "net");
      expect(await (await of(there, id)).text()).toBe(await (await of(here, own)).text());
    }
    expect(await there.collector.blobs.verify()).toEqual([]);
  });

  test("says in its manifest what it holds, and is readable without us", async () => {
    await makeRun("full3");
    const files = await unzip(await exportOf(here, "full3"));
    const manifest = jsonOf(files, "manifest.json");
    expect(manifest).toMatchObject({
      format: "binnacle-run",
      version: 1,
      run: { id: "full3", status: "FAILED" },
    });
    expect([...files.keys()].at(-1)).toBe("manifest.json");
    for (const { path, size, sha256 } of manifest.files) {
      expect(files.get(path)!.length).toBe(size);
      expect(createHash("sha256").update(files.get(path)!).digest("hex")).toBe(sha256);
    }
    expect(manifest.files).toHaveLength(files.size - 1);
    expect(jsonOf(files, "config.json").big).toBe("12345678901234567890");
    expect(textOf(files, "logs/output.txt").split("\n").slice(0, 2)).toEqual(["line 0", "line 1"]);
    const [head, first, ...rows] = textOf(files, "metrics/points.csv").trimEnd().split("\n");
    expect(head).toBe("ordinal,rank,step,time,metric,value");
    expect(first).toBe(`0,0,0,${BEGIN},loss,1`);
    expect(rows).toContain(`7,0,7,${BEGIN + 7000},loss,NaN`);
    expect(rows).toContain(`7,0,7,${BEGIN + 7000},sample,-0.0`);
    expect(textOf(files, "metrics/texts.ndjson").split("\n")[0]).toBe(
      `{"ordinal":0,"rank":0,"step":0,"time":${BEGIN},"metric":"sample","value":"png"}`,
    );
    expect(textOf(files, "hardware/events.ndjson")).not.toContain("another run");
  });

  test("under a new id has that in all that speaks of it, and stands beside the first", async () => {
    await makeRun("full4");
    await bring("full4");
    const { run } = await bring("full4", "?new_id=true");
    expect(run).toMatch(/^\d{15}$/);
    const first = withoutIds(await answersOf(there, "full4", hardware));
    const second = withoutIds(await answersOf(there, run, hardware));
    // Both runs made it.
    const lineage = (answers: Record<string, string>) => ({ ...answers, "/runs/RUN/artifacts": "" });
    const pages = (await there.json(`/api/v1/runs/${run}/artifacts`)).outputs;
    expect(pages.map(({ version }: { version: string }) => version)).toEqual(["v1", "v2"]);
    expect(new Set(pages[0].produced_by)).toEqual(new Set(["full4", run]));
    const others = lineage(first);
    expect(lineage(second)).toMatchObject(others);
    expect((await there.json("/api/v1/runs")).runs).toHaveLength(2);
  });

  test("that is there already is refused, and so is one that was deleted; with what to do", async () => {
    await makeRun("full5");
    const zip = await exportOf(here, "full5");
    const again = await importTo(here, zip);
    expect(again.status).toBe(409);
    expect((await again.json()) as unknown).toMatchObject({ hint: expect.stringContaining("--new-id") });
    await here.request("/api/v1/runs/full5", { method: "DELETE" });
    const buried = await importTo(here, zip);
    expect(buried.status).toBe(409);
    expect((await buried.json()) as unknown).toMatchObject({ detail: expect.stringContaining("deleted") });
    expect((await importTo(here, zip, "?new_id=true")).status).toBe(201);
  });
});

describe("versions find their place without changing what is there", () => {
  test("the same files are that version; a number that is taken, or was, is not taken again; no alias moves", async () => {
    await here.json("/api/v1/runs", { body: { id: "v" } });
    await logFiles(here.collector, "v", "net", { a: "one" }, { aliases: ["best"] });
    await logFiles(here.collector, "v", "net", { a: "two" }, { aliases: ["prod"] });
    await logFiles(here.collector, "v", "net", { a: "three" });
    await logFiles(there.collector, null, "net", { a: "other" }, { aliases: ["best"], description: "mine" });
    await logFiles(there.collector, null, "net", { a: "two" });
    await here.json("/api/v1/runs/v/finish", { body: {} });

    const { versions } = await bring("v");
    expect(versions).toMatchObject([
      { exported_as: "v1", version: "v3", is_new: true, aliases_left: ["best"] },
      { exported_as: "v2", version: "v2", is_new: false, aliases_left: [] },
      { exported_as: "v3", version: "v4", is_new: true, aliases_left: [] },
    ]);
    const { id } = await getArtifactByName(there.collector, "model", "net");
    const { versions: all } = await there.json(`/api/v1/artifacts/${id}/versions`);
    const of = (version: string) => all.find((one: { version: string }) => one.version === version);
    expect(of("v1")).toMatchObject({ aliases: ["best"], description: "mine", produced_by: [] });
    expect(of("v2")).toMatchObject({ aliases: ["prod"], produced_by: ["v"] });
    expect(await listFiles(there.collector, id, 3)).toMatchObject([{ path: "a", size: 3 }]);
    // The store counts on behind them.
    expect(await logFiles(there.collector, null, "net", { a: "five" })).toMatchObject({ version: "v5" });
  });

  test("a number that was never used here is kept, though those before it are not here", async () => {
    await here.json("/api/v1/runs", { body: { id: "v" } });
    await logFiles(here.collector, null, "net", { a: "one" });
    const { id } = await logFiles(here.collector, "v", "net", { a: "two" });
    await setVersion(here.collector, id, 2, { add_aliases: ["最佳"] });
    await here.json("/api/v1/runs/v/finish", { body: {} });
    expect(await bring("v")).toMatchObject({ versions: [{ version: "v2", is_new: true }] });
    expect(await logFiles(there.collector, null, "net", { a: "one" })).toMatchObject({ version: "v3" });
  });
});

describe("what is not as it was", () => {
  test("a run that was live is FAILED where it is imported, says so, and goes on when its writer comes", async () => {
    await here.json("/api/v1/runs", { body: { id: "live", writer: { client: "w" } } });
    await here.json("/api/v1/runs/live/records", {
      body: { client: "w", seq: 1, items: [{ metrics: { a: 1 } }] },
    });
    expect(await bring("live")).toMatchObject({
      status: "FAILED",
      notes: ["It was RUNNING when it was exported, and is FAILED here."],
    });
    expect(await there.json("/api/v1/runs/live")).toMatchObject({
      status: "FAILED",
      reason: "It was RUNNING when it was exported.",
    });
    // The export did nothing to the original.
    expect(await here.json("/api/v1/runs/live")).toMatchObject({ status: "RUNNING" });
  });

  test("what is logged while an export is read is not in it, and the export is whole", async () => {
    await here.json("/api/v1/runs", { body: { id: "busy", writer: { client: "w" } } });
    const post = (seq: number) =>
      here.json("/api/v1/runs/busy/records", {
        body: {
          client: "w",
          seq,
          items: Array.from({ length: 500 }, (_, i) => ({ metrics: { a: i, [`k${seq}`]: i } })),
        },
      });
    for (let seq = 1; seq <= 5; seq++) await post(seq);
    const response = await here.request("/api/v1/runs/busy/export");
    const reader = response.body!.getReader();
    const parts: Uint8Array[] = [];
    for (let seq = 6; ; seq++) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
      if (seq < 60) await post(seq);
    }
    const imported = await importTo(there, new Uint8Array(Buffer.concat(parts)));
    expect((await imported.json()) as unknown).toMatchObject({ points: 5000 });
  });

  test("coarser rows come back where the fine ones have expired; rows that are here stay as they are", async () => {
    const NOW = 1_790_000_400_000;
    const old = NOW - 5 * 24 * 3600_000;
    await here.close();
    await there.close();
    here = createTestCollector({ now: () => NOW });
    there = createTestCollector({ now: () => NOW });
    await here.json("/api/v1/runs", { body: { id: "old", started: old } });
    await registerDevice(here.collector, DEVICE, facts);
    const samples = Array.from({ length: 1200 }, (_, i) => ({
      subject: "",
      time: old + 1000 * i,
      values: { "load.1": i % 13 },
    }));
    await appendSamples(here.collector, DEVICE, samples as never);
    await recordUse(here.collector, DEVICE, {
      run: "old",
      from: old,
      to: old + 1_200_000,
      attribution: null,
      cpuSeconds: 0,
      gpus: {},
      note: null,
    });
    await here.json("/api/v1/runs/old/finish", { body: { finished: old + 1_200_000 } });
    await here.collector.samples.finish();
    await here.collector.samples.expire();
    const page = async (at: TestCollector, points: number) =>
      at.json(
        `/api/v1/devices/${DEVICE}/samples?from=${old}&to=${old + 1_199_999}&points=${points}&subjects=machine`,
      );
    expect((await page(here, 2000)).step).toBe(10_000);
    await bring("old");
    for (const points of [2000, 30, 3]) expect(await page(there, points)).toEqual(await page(here, points));
    // A second time nothing of the machine changes.
    await bring("old", "?new_id=true");
    expect(await page(there, 2000)).toEqual(await page(here, 2000));
  });
});

test("archives that nobody reads hold up no other", async () => {
  await here.json("/api/v1/runs", { body: { id: "held" } });
  const unread = await Promise.all(Array.from({ length: 8 }, () => here.request("/api/v1/runs/held/export")));
  expect((await exportOf(here, "held")).length).toBeGreaterThan(0);
  for (const { body } of unread) await body!.cancel();
});

test("an import that its process does not live to end leaves nothing, and can be made again", async () => {
  await here.json("/api/v1/runs", { body: { id: "crash" } });
  const items = Array.from({ length: 2000 }, (_, i) => ({ metrics: { a: i, b: -i } }));
  await here.json("/api/v1/runs/crash/records", { body: { client: "w", seq: 1, items } });
  await here.json("/api/v1/runs/crash/finish", { body: {} });
  const zip = await exportOf(here, "crash");
  const { journal } = there.collector;
  const append = journal.append.bind(journal);
  // Stops where the last entry would be written, with all others durable: as a kill does.
  const stopped = Promise.withResolvers<void>();
  journal.append = (entry, ...more) => {
    if (entry.kind !== "run.imported") return append(entry, ...more);
    stopped.resolve();
    return new Promise(() => {});
  };
  void importTo(there, zip);
  await stopped.promise;
  expect(tracesOf(there.collector, "crash")).toContain("journal");
  expect((await there.request("/api/v1/runs/crash")).status).toBe(404);
  expect((await there.request("/api/v1/runs/crash/metrics")).status).toBe(404);
  expect((await there.json("/api/v1/runs")).runs).toEqual([]);

  there = await there.restart();
  // The last of what a start does for deleted runs.
  await there.collector.pruner.vacuum();
  expect(tracesOf(there.collector, "crash")).toEqual([]);
  expect((await there.json("/api/v1/runs")).runs).toEqual([]);
  expect((await importTo(there, zip)).status).toBe(201);
  there = await there.restart();
  expect(await seriesOf(there.collector, "crash")).toEqual(await seriesOf(here.collector, "crash"));
});
