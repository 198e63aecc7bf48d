import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { recordUse } from "../src/device/use.ts";
import { pruneRuns } from "../src/run/retain.ts";
import { listLiveWriters } from "../src/run/writers.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts, machineValues } from "./helpers/device.ts";
import { fact, okay, problemOf, records, runRow, TestSource } from "./helpers/source.ts";

let platform: TestCollector;
let node: TestCollector;
let source: TestSource;

beforeEach(async () => {
  platform = createTestCollector({ platform: true });
  node = createTestCollector();
  source = await TestSource.create(platform);
});
afterEach(async () => {
  await node.close();
  await platform.close();
});

const RUN = "run-1";

async function train(at: TestCollector, run = RUN): Promise<void> {
  await at.json("/api/v1/runs", {
    body: {
      id: run,
      name: "net",
      config: { lr: 0.1, __proto__: null },
      tags: ["a"],
      writer: { client: "c1", rank: 0, device: "node-1", pid: 7 },
    },
  });
  for (let seq = 1; seq <= 3; seq++)
    await at.json(`/api/v1/runs/${run}/records`, {
      body: {
        client: "c1",
        seq,
        items: Array.from({ length: 20 }, (_, i) => ({
          step: 20 * (seq - 1) + i,
          time: 1_700_000_000_000 + i,
          metrics: { loss: 1 / (i + seq), acc: i === 3 ? "NaN" : i / 20, note: i === 5 ? "text" : i },
        })),
      },
    });
  await at.json(`/api/v1/runs/${run}/logs`, {
    body: {
      client: "c1",
      seq: 4,
      items: [
        { text: "hello", time: 1 },
        { text: "wörld \udc80", stream: "stderr" },
      ],
    },
  });
}

/** What a person sees of a run, but for whose it is. */
async function view(at: TestCollector, run = RUN) {
  const { writers, ...detail } = await at.json(`/api/v1/runs/${run}`);
  return {
    detail: { ...detail, source: undefined },
    writers: writers.map((writer: object) => ({ ...writer, live: undefined })),
    metrics: await at.json(`/api/v1/runs/${run}/metrics`),
    loss: await at.json(`/api/v1/runs/${run}/points?key=loss`),
    note: await at.json(`/api/v1/runs/${run}/points?key=note`),
    buckets: await at.json(`/api/v1/runs/${run}/points?key=acc&points=10`),
    logs: await at.json(`/api/v1/runs/${run}/logs`),
  };
}

describe("a journal that is relayed", () => {
  test("is here as it is there: run, writers, metrics, lines", async () => {
    await train(node);
    const acked = await source.relay(node.collector);
    expect(acked).toBe(node.collector.journal.bounds().last);
    expect(await view(platform)).toEqual(await view(node));
    expect((await platform.json(`/api/v1/runs/${RUN}`)).source).toBe("lab");
  });

  test("goes on being so after a restart of the platform", async () => {
    await train(node);
    await source.relay(node.collector);
    platform = await platform.restart();
    Object.assign(source, { platform });
    expect(await view(platform)).toEqual(await view(node));
    await node.json(`/api/v1/runs/${RUN}/finish`, { body: { client: "c1", status: "FAILED", exit_code: 3 } });
    await source.relay(node.collector);
    expect(await view(platform)).toEqual(await view(node));
  });
});

describe("kinds of entries", () => {
  test("devices, their samples and events, and what runs used of them", async () => {
    const { collector } = node;
    await train(node);
    await registerDevice(collector, DEVICE, facts());
    await appendSamples(
      collector,
      DEVICE,
      Array.from({ length: 30 }, (_, i) => ({
        subject: i % 2 === 0 ? "" : `run/${RUN}`,
        time: 1_700_000_000_000 + 1000 * i,
        values: machineValues,
      })),
    );
    await recordEvents(collector, DEVICE, [
      {
        subject: "",
        time: 1_700_000_000_500,
        kind: "clock.jumped",
        text: "The clock jumped.",
        detail: { ms: 5 },
      },
    ]);
    await recordUse(collector, DEVICE, {
      run: RUN,
      from: 1_700_000_000_000,
      to: null,
      attribution: "cgroup",
      cpuSeconds: 12.5,
      gpus: {},
      note: null,
    });
    await source.relay(collector);
    const window = "from=1699999999000&to=1700000060000";
    for (const path of [
      `/api/v1/devices/${DEVICE}/samples?${window}`,
      `/api/v1/devices/${DEVICE}/samples?${window}&subjects=run/${RUN}`,
      `/api/v1/runs/${RUN}/devices`,
    ])
      expect(await platform.json(path)).toEqual(await node.json(path));
    const events = await platform.json(`/api/v1/devices/${DEVICE}/events?${window}`);
    expect(events.events).toMatchObject([{ text: "The clock jumped.", detail: { ms: 5 } }]);
    const device = await platform.json(`/api/v1/devices/${DEVICE}`);
    expect(device).toMatchObject({ source: "lab", local: false, name: facts().name });
  });

  test("models: versions, aliases, what is said of them, who uses them; their bytes come later", async () => {
    await train(node);
    const bytes = new TextEncoder().encode("weights");
    const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
    node.collector.blobs.putSmall([{ sha256, bytes }]);
    const log = (path: string, aliases: string[]) =>
      node.json(`/api/v1/runs/${RUN}/artifacts`, {
        body: { kind: "model", name: "net", type: "model", files: [{ path, size: 7, sha256 }], aliases },
      });
    const { id } = await log("a.bin", ["best"]);
    await log("b.bin", ["best"]);
    await node.json(`/api/v1/artifacts/${id}/versions/v1`, {
      method: "PATCH",
      body: { description: "first", metadata: { f1: 0.5 }, add_aliases: ["old"] },
    });
    await node.json(`/api/v1/runs/${RUN}/inputs`, { body: { kind: "model", name: "net", version: "v1" } });
    await source.relay(node.collector);
    const own = await node.json(`/api/v1/runs/${RUN}/artifacts`);
    const here = await platform.json(`/api/v1/runs/${RUN}/artifacts`);
    const said = ({ outputs, inputs }: { outputs: object[]; inputs: object[] }) =>
      [...outputs, ...inputs].map(
        // eslint-disable-next-line typescript/no-explicit-any
        ({
          version,
          aliases,
          digest,
          size,
          files,
          description,
          metadata,
          created,
          produced_by,
          used_by,
        }: any) => ({
          version,
          aliases,
          digest,
          size,
          files,
          description,
          metadata,
          created,
          produced_by,
          used_by,
        }),
      );
    expect(said(here)).toEqual(said(own));
    const [model] = (await platform.json("/api/v1/artifacts?kind=model")).artifacts;
    expect(model).toMatchObject({ name: "net", source: "lab", versions: 2 });

    const file = `/api/v1/artifacts/${model.id}/versions/v1/file?path=a.bin`;
    expect(await problemOf(await platform.request(file))).toMatchObject({ status: 409, type: "conflict" });
    const missing = await source.request("content/missing", { json: { sha256: [sha256] } });
    expect(await okay(missing)).toEqual({ missing: [sha256] });
    const pack = new Uint8Array(36 + bytes.length);
    pack.set(Buffer.from(sha256, "hex"));
    new DataView(pack.buffer).setUint32(32, bytes.length, true);
    pack.set(bytes, 36);
    const sent = await source.request("content/pack", {
      body: pack,
      headers: { "content-type": "application/vnd.binnacle.blobs" },
    });
    expect(await okay(sent)).toEqual({ stored: 1 });
    expect(await (await platform.request(file)).text()).toBe("weights");
    expect((await platform.json("/api/v1/sources")).sources[0].pending).toEqual({ files: 0, bytes: 0 });
  });

  test("a version that its source deletes stays; names that led to it do not", async () => {
    await train(node);
    const sha256 = await logModel(node, "net", ["best"]);
    await source.relay(node.collector);
    expect(sha256).toHaveLength(64);
    const { artifacts } = await node.json("/api/v1/artifacts?kind=model");
    await node.json(`/api/v1/artifacts/${artifacts[0].id}/versions/v1?force=true`, { method: "DELETE" });
    await source.relay(node.collector);
    const here = (await platform.json("/api/v1/artifacts?kind=model")).artifacts[0];
    expect(here).toMatchObject({ versions: 1, latest: { version: "v1", aliases: ["latest"] } });
  });

  test("a run that its source deletes stays, with a mark, and what was live is over", async () => {
    await train(node);
    await node.json(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await source.relay(node.collector);
    const run = await platform.json(`/api/v1/runs/${RUN}`);
    expect(run.status).toBe("KILLED");
    expect(run.deleted_at_source).not.toBeNull();
    expect((await platform.json(`/api/v1/runs/${RUN}/metrics`)).metrics).toHaveLength(3);
  });

  test("a run that retention removes at its source stays as it was", async () => {
    await train(node);
    await node.json(`/api/v1/runs/${RUN}/finish`, { body: {} });
    await source.relay(node.collector);
    const before = await view(platform);
    const seq = node.collector.journal.bounds().last;
    expect(await source.send(seq, seq + 1, [fact(seq + 1, "run.pruned", RUN, { id: RUN })])).toBe(seq + 1);
    expect(await view(platform)).toEqual(before);
  });

  test("one that is deleted upstream, too, is gone here", async () => {
    await train(node);
    await source.relay(node.collector);
    const seq = node.collector.journal.bounds().last;
    await source.send(seq, seq + 2, [
      fact(seq + 1, "run.deleted", RUN, { id: RUN, upstream: true }),
      records(seq + 2, RUN, { ordinal: 60, values: [1] }),
    ]);
    expect((await platform.request(`/api/v1/runs/${RUN}`)).status).toBe(410);
    expect((await platform.json("/api/v1/runs")).runs).toEqual([]);
  });

  test("what is deleted here is taken note of, and does not come back", async () => {
    await train(node);
    await source.relay(node.collector);
    await platform.json(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await node.json(`/api/v1/runs/${RUN}/records`, {
      body: { client: "c1", seq: 5, items: [{ metrics: { loss: 1 } }] },
    });
    expect(await source.relay(node.collector)).toBe(node.collector.journal.bounds().last);
    expect((await platform.request(`/api/v1/runs/${RUN}`)).status).toBe(410);
    expect(await source.positions([{ of: "metrics", run: RUN }])).toEqual([Number.MAX_SAFE_INTEGER]);
  });

  test("an import is not an entry that is sent", async () => {
    await source.greet(1);
    const refused = await problemOf(await source.batch(0, 1, [fact(1, "run.imported", RUN, {})]));
    expect(refused).toMatchObject({ status: 400, type: "invalid", seq: 1 });
  });

  test("a kind from the future stops its source and is no dead letter", async () => {
    await source.greet(2);
    const frames = [fact(1, "run.created", "r", runRow()), fact(2, "profile.taken", "r", {})];
    const refused = await problemOf(await source.batch(0, 2, frames));
    expect(refused).toMatchObject({ status: 422, type: "unknown-kind", seq: 2, kind: "profile.taken" });
    const newer = await problemOf(
      await source.batch(0, 1, [fact(1, "run.created", "r", runRow(), { version: 2 })]),
    );
    expect(newer).toMatchObject({ status: 422, type: "unknown-kind", seq: 1 });
    expect((await platform.json("/api/v1/runs")).runs).toEqual([]);
  });
});

describe("a run that is relayed", () => {
  beforeEach(async () => {
    await train(node);
    await source.relay(node.collector);
  });

  test("is steered and written to by its source alone", async () => {
    const post = (path: string, body: object) => platform.request(`/api/v1/runs/${RUN}/${path}`, { body });
    const tries = [
      platform.request("/api/v1/runs", { body: { id: RUN } }),
      post("stop", {}),
      post("finish", {}),
      post("records", { client: "x", seq: 1, items: [{ metrics: { loss: 1 } }] }),
      post("logs", { client: "x", seq: 1, items: [{ text: "x" }] }),
      post("inputs", { kind: "model", name: "net" }),
      platform.request(`/api/v1/runs/${RUN}/heartbeat?client=c1`),
    ];
    for (const response of await Promise.all(tries.slice(0, 5))) {
      const problem = await problemOf(response);
      expect(problem).toMatchObject({ status: 409, type: "conflict", source: "lab" });
      expect(problem.detail).toContain("lab");
    }
    expect((await tries[6]!).status).toBe(409);
  });

  test("is nobody's to presume dead, whatever its writers' pids are here", async () => {
    const again = await platform.restart();
    platform = again;
    Object.assign(source, { platform });
    expect(await listLiveWriters(platform.collector)).toEqual([]);
    expect(platform.collector.presence.review()).toEqual([]);
    expect((await platform.json(`/api/v1/runs/${RUN}`)).status).toBe("RUNNING");
  });

  test("may be called something else here, and is exported and pruned as others are", async () => {
    await platform.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { tags: ["kept"] } });
    expect((await platform.json(`/api/v1/runs/${RUN}`)).tags).toEqual(["kept"]);
    const archive = await platform.request(`/api/v1/runs/${RUN}/export`);
    expect((await archive.arrayBuffer()).byteLength).toBeGreaterThan(1000);
    await node.json(`/api/v1/runs/${RUN}/finish`, { body: {} });
    await source.relay(node.collector);
    expect(await pruneRuns(platform.collector, { keepDays: -1 }, false)).toEqual([RUN]);
  });

  test("is live in the dashboard: batches are announced as they are logged", async () => {
    const heard: string[] = [];
    const end = platform.collector.bus.subscribe(({ kind, run }) => void heard.push(`${kind} ${run}`));
    await node.json(`/api/v1/runs/${RUN}/records`, {
      body: { client: "c1", seq: 5, items: [{ metrics: { loss: 1 } }] },
    });
    await node.json(`/api/v1/runs/${RUN}/finish`, { body: { client: "c1" } });
    await source.relay(node.collector);
    end();
    expect(heard).toEqual([`metric.appended ${RUN}`, `run.changed ${RUN}`]);
  });
});

async function logModel(at: TestCollector, name: string, aliases: string[] = []): Promise<string> {
  const bytes = new TextEncoder().encode(name);
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  at.collector.blobs.putSmall([{ sha256, bytes }]);
  await at.json("/api/v1/artifacts", {
    body: { kind: "model", name, type: "model", files: [{ path: "m", size: bytes.length, sha256 }], aliases },
  });
  return sha256;
}

describe("names", () => {
  test("a run keeps its id unless that is taken here", async () => {
    await platform.json("/api/v1/runs", { body: { id: RUN, name: "ours" } });
    await train(node);
    await source.relay(node.collector);
    expect((await platform.json(`/api/v1/runs/${RUN}`)).name).toBe("ours");
    const theirs = await platform.json(`/api/v1/runs/${RUN}.lab`);
    expect(theirs).toMatchObject({ name: "net", source: "lab" });
    const { points } = await platform.json(`/api/v1/runs/${RUN}.lab/points?key=loss`);
    expect(points).toHaveLength(60);
  });

  test("two sources with the same run, machine and model have one each", async () => {
    const other = createTestCollector();
    const second = await TestSource.create(platform, "office");
    for (const [at, from] of [
      [node, source],
      [other, second],
    ] as const) {
      await train(at);
      await registerDevice(at.collector, DEVICE, facts());
      await appendSamples(at.collector, DEVICE, [
        { subject: `run/${RUN}`, time: 1_700_000_000_000, values: machineValues },
      ]);
      await logModel(at, "net");
      await from.relay(at.collector);
    }
    const { runs } = await platform.json("/api/v1/runs");
    expect(runs.map(({ id, source }: { id: string; source: string }) => `${id} ${source}`).sort()).toEqual([
      `${RUN} lab`,
      `${RUN}.office office`,
    ]);
    const { devices } = await platform.json("/api/v1/devices");
    expect(devices.map(({ source }: { source: string }) => source).sort()).toEqual(["lab", "office"]);
    const theirs = devices.find(({ source }: { source: string }) => source === "office");
    expect(theirs.id).not.toBe(DEVICE);
    const samples = await platform.json(
      `/api/v1/devices/${theirs.id}/samples?from=1699999999000&to=1700000060000&subjects=run/${RUN}.office`,
    );
    expect(samples.series.length).toBeGreaterThan(0);
    const { artifacts } = await platform.json("/api/v1/artifacts?kind=model");
    expect(artifacts.map(({ source }: { source: string }) => source).sort()).toEqual(["lab", "office"]);
    await other.close();
  });

  test("the platform's own machine is not the same as a source's, though they are one", async () => {
    const { collector } = node;
    await registerDevice(collector, platform.collector.device, facts());
    await source.relay(collector);
    const { devices } = await platform.json("/api/v1/devices");
    expect(devices).toHaveLength(1);
    expect(devices[0].id).not.toBe(platform.collector.device);
  });

  test("an own model of the same name goes on by itself", async () => {
    await logModel(node, "net");
    await source.relay(node.collector);
    await logModel(platform, "net");
    const { artifacts } = await platform.json("/api/v1/artifacts?kind=model");
    expect(artifacts).toHaveLength(2);
    expect(artifacts.map(({ versions }: { versions: number }) => versions)).toEqual([1, 1]);
  });

  test("a second installation with the same token has a label of its own", async () => {
    const second = new TestSource(platform, source.token);
    await source.greet(0);
    await second.greet(0);
    const { sources } = await platform.json("/api/v1/sources");
    expect(sources.map(({ name, label }: { name: string; label: string }) => [name, label])).toEqual([
      ["lab", "lab"],
      ["lab", "lab-2"],
    ]);
  });
});
