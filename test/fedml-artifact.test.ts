import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { TextReader, Uint8ArrayReader, Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import { S3Client } from "bun";
import type { MqttClient } from "mqtt";
import { announce as announceHere, listAnnounced } from "../src/artifact/announce.ts";
import { deleteVersion } from "../src/artifact/delete.ts";
import { CollectorError } from "../src/error.ts";
import { getArtifactByName, listFiles } from "../src/artifact/find.ts";
import { listRunArtifacts, listVersions } from "../src/artifact/list.ts";
import { createRun } from "../src/run/create.ts";
import { deleteRun } from "../src/run/delete.ts";
import { createTestStorage, type TestStorage } from "./helpers/storage.ts";

const RUN = "100000000000077";
const OTHER = "100000000000078";
const BUCKET = "fedml";
const EDGE = "1716563514434392064";

let storage: TestStorage;
let clients: Map<string, MqttClient>;
beforeEach(async () => {
  storage = await createTestStorage();
  clients = new Map();
});
afterEach(() => storage.close());

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");

const put = (run: string, key: string, bytes: Uint8Array | string) =>
  new S3Client({ ...storage.of(run), region: "us-east-1", bucket: BUCKET }).write(key, bytes);

/** As the client makes it of a presigned address, whose query it cuts off. */
const urlOf = (run: string, key: string) =>
  `${storage.of(run).endpoint}/${BUCKET}/${encodeURIComponent(key)}`;

async function publish(run: string, topic: string, payload: unknown): Promise<void> {
  const client = clients.get(run) ?? (await storage.mqtt(run));
  clients.set(run, client);
  await client.publishAsync(topic, typeof payload === "string" ? payload : JSON.stringify(payload), {
    qos: 2,
  });
}

const announce = (run: string, name: string, url: string, more: Record<string, unknown> = {}) =>
  publish(run, "launch_device/mlops/artifacts", {
    job_id: "0",
    edge_id: 0,
    artifact_name: name,
    artifact_local_path: "/home/me/.fedml/fedml-client/artifacts/x",
    artifact_url: url,
    artifact_type: 1,
    artifact_desc: "",
    artifact_ext_info: {},
    timestamp: 1_795_478_344_338,
    ...more,
  });

/** As a kill leaves it that comes before the object is logged. */
async function putUnseen(key: string, text: string): Promise<void> {
  async function* bytes() {
    yield Buffer.from(text);
  }
  const { sha256, size } = await storage.collector.blobs.intake.put(bytes());
  storage.objects.put({ scope: RUN, bucket: BUCKET, key }, { sha256, size });
}

const about = (name: string, type: string) => ({
  kind: "artifact" as const,
  name,
  type,
  description: "",
  metadata: {},
  aliases: [],
  origin: {},
});

async function loggedBy(run: string) {
  const all = await listRunArtifacts(storage.collector, run);
  return Promise.all(
    all.map(async ({ version, origin }) => {
      const [file] = await listFiles(storage.collector, version.id, Number(version.version.slice(1)));
      return { ...version, origin, file };
    }),
  );
}

describe("an artifact", () => {
  test.each([
    [1, "artifact", "general"],
    [2, "model", "model"],
    [3, "artifact", "dataset"],
    [4, "artifact", "source code"],
    [99, "artifact", "general"],
  ])("of type %d is the run's %s of type %s, with what is said of it", async (number, kind, type) => {
    const bytes = randomBytes(100_000);
    const key = `mine_${type}.zip`;
    await put(RUN, key, bytes);
    await announce(RUN, "mine", urlOf(RUN, key), {
      artifact_type: number,
      artifact_desc: "made by hand",
      artifact_ext_info: { accuracy: 0.5, note: "x" },
    });
    const [version] = await loggedBy(RUN);
    expect(version).toMatchObject({
      kind,
      type,
      name: "mine",
      description: "made by hand",
      metadata: { accuracy: 0.5, note: "x" },
      size: bytes.length,
      origin: { edge: "0" },
      file: { path: key, size: bytes.length, sha256: sha256(bytes) },
    });
    expect(JSON.stringify(version)).not.toContain("/fedml/");
  });

  test("keeps an edge of nineteen digits exactly", async () => {
    await put(RUN, "a_general.zip", "a");
    const text = JSON.stringify({
      job_id: 7,
      edge_id: 8,
      artifact_name: "a",
      artifact_url: urlOf(RUN, "a_general.zip"),
      artifact_type: 1,
    });
    await publish(RUN, "launch_device/mlops/artifacts", text.replace(":8,", `:${EDGE},`));
    expect((await loggedBy(RUN))[0]!.origin).toEqual({ edge: EDGE });
  });

  test("with the same name in two runs is both, each in its own", async () => {
    await put(RUN, "m_model.zip", "mine");
    await put(OTHER, "m_model.zip", "yours");
    await announce(RUN, "m", urlOf(RUN, "m_model.zip"), { artifact_type: 2 });
    await announce(OTHER, "m", urlOf(OTHER, "m_model.zip"), { artifact_type: 2 });
    expect((await loggedBy(RUN)).map(({ version, file }) => [version, file!.sha256])).toEqual([
      ["v1", sha256("mine")],
    ]);
    expect((await loggedBy(OTHER)).map(({ version, file }) => [version, file!.sha256])).toEqual([
      ["v2", sha256("yours")],
    ]);
  });

  test("of two types by one name is two, each of its own, missing or not", async () => {
    for (const [number, key] of [
      [3, "twice_dataset.zip"],
      [5, "twice_log.zip"],
    ] as const) {
      await announce(RUN, "twice", urlOf(RUN, key), { artifact_type: number });
      expect(listAnnounced(storage.collector, RUN)).toHaveLength(number === 3 ? 1 : 2);
    }
    await put(RUN, "twice_dataset.zip", "data");
    expect(listAnnounced(storage.collector, RUN)).toMatchObject([{ name: "twice", type: "log" }]);
    await put(RUN, "twice_log.zip", "log");
    expect((await loggedBy(RUN)).map(({ type, file }) => [type, file!.path])).toEqual([
      ["dataset", "twice_dataset.zip"],
      ["log", "twice_log.zip"],
    ]);
    const { id } = await getArtifactByName(storage.collector, "artifact", "twice");
    const { latest } = await storage.json(`/api/v1/artifacts/${id}`);
    expect(latest.type).toBe("log");
  });

  test("that is logged again is another version, and the first keeps its bytes", async () => {
    for (const bytes of ["first", "second"]) {
      await put(RUN, "a_general.zip", bytes);
      await announce(RUN, "a", urlOf(RUN, "a_general.zip"));
    }
    expect((await loggedBy(RUN)).map(({ version, file }) => [version, file!.sha256])).toEqual([
      ["v1", sha256("first")],
      ["v2", sha256("second")],
    ]);
  });

  test("whose message comes first waits for its object, over a restart, too", async () => {
    await announce(RUN, "late", urlOf(RUN, "late_general.zip"), { artifact_desc: "soon" });
    expect(listAnnounced(storage.collector, RUN)).toMatchObject([
      { name: "late", type: "general", state: "awaited", reason: null },
    ]);
    expect(await loggedBy(RUN)).toEqual([]);
    storage = await storage.restart();
    await put(RUN, "late_general.zip", "here");
    expect(await loggedBy(RUN)).toMatchObject([{ name: "late", description: "soon", version: "v1" }]);
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
  });

  test("whose object came while nobody was there to log it is logged at the next start", async () => {
    await announce(RUN, "late", urlOf(RUN, "late_general.zip"));
    await putUnseen("late_general.zip", "here");
    storage = await storage.restart();
    expect(await loggedBy(RUN)).toMatchObject([{ name: "late", version: "v1" }]);
  });

  test("that is put anew while it is logged is not taken for logged", async () => {
    const { collector, objects } = storage;
    await createRun(collector, { id: RUN });
    await putUnseen("second_general.zip", "second");
    await putUnseen("net_general.zip", "first");
    const place = { scope: RUN, bucket: BUCKET, key: "net_general.zip" };
    const logged = announceHere(collector, objects, {
      run: RUN,
      about: about("net", "general"),
      at: { place },
    });
    objects.put(place, objects.find({ ...place, key: "second_general.zip" })!);
    await logged;
    expect(await loggedBy(RUN)).toMatchObject([{ version: "v1", file: { sha256: sha256("first") } }]);
    expect(objects.unclaimed(Infinity)).toContainEqual(place);
  });

  test("whose upload failed is shown as missing, until it comes after all", async () => {
    await announce(RUN, "broken", "", { artifact_type: 2 });
    expect(listAnnounced(storage.collector, RUN)).toMatchObject([
      { kind: "model", name: "broken", state: "failed", reason: expect.stringContaining("upload failed") },
    ]);
    const { announced } = await storage.json(`/api/v1/runs/${RUN}/artifacts`);
    expect(announced).toMatchObject([{ name: "broken", state: "failed" }]);
    await put(RUN, "broken_model.zip", "x");
    await announce(RUN, "broken", urlOf(RUN, "broken_model.zip"), { artifact_type: 2 });
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
    expect(await loggedBy(RUN)).toHaveLength(1);
  });

  test("at an address of another run, or of another storage, is missing and not taken from there", async () => {
    await put(OTHER, "a_general.zip", "theirs");
    await announce(RUN, "stolen", urlOf(OTHER, "a_general.zip"));
    await announce(RUN, "far", "https://fedml.s3.amazonaws.com/a_general.zip");
    expect(await loggedBy(RUN)).toEqual([]);
    expect(listAnnounced(storage.collector, RUN).map(({ name, state }) => [name, state])).toEqual(
      expect.arrayContaining([
        ["stolen", "failed"],
        ["far", "failed"],
      ]),
    );
    expect(storage.edge.counts.list()).toMatchObject([{ what: "forbidden", count: 1 }]);
  });

  test.each([
    ["a/b\\c", "a-b-c"],
    ["", "unnamed"],
    ["..", "unnamed"],
    ["two\nlines", "twolines"],
    [7, "7"],
  ])("called %j is %s", async (given, name) => {
    await put(RUN, "a_general.zip", "a");
    await announce(RUN, given as string, urlOf(RUN, "a_general.zip"));
    expect((await loggedBy(RUN)).map((each) => each.name)).toEqual([name]);
  });

  test("goes with its run, what is missing of it as well", async () => {
    await put(RUN, "a_general.zip", "a");
    await announce(RUN, "a", urlOf(RUN, "a_general.zip"));
    await announce(RUN, "b", "");
    await deleteRun(storage.collector, RUN, true);
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
    await announce(RUN, "c", urlOf(RUN, "a_general.zip"));
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
    expect(storage.edge.counts.list()).toMatchObject([{ what: "gone", count: 1 }]);
  });
});

test("the zip that a client makes of files is kept as it is, and shows what is in it", async () => {
  const writer = new ZipWriter(new Uint8ArrayWriter());
  await writer.add("weights.bin", new Uint8ArrayReader(new Uint8Array(1_234_567)));
  await writer.add("folder/notes\u202e.txt", new TextReader("hello"));
  const bytes = await writer.close();
  const show = async (key: string) => {
    const [version] = (await loggedBy(RUN)).slice(-1);
    const base = `/api/v1/artifacts/${version!.id}/versions/${version!.version}`;
    const file = await storage.request(`${base}/file?path=${key}`);
    const preview = await storage.request(`${base}/preview?path=${key}`);
    return { bytes: await file.bytes(), status: preview.status, text: await preview.text() };
  };
  await put(RUN, "net_model.zip", bytes);
  await announce(RUN, "net", urlOf(RUN, "net_model.zip"), { artifact_type: 2 });
  const whole = await show("net_model.zip");
  expect(sha256(whole.bytes)).toBe(sha256(bytes));
  expect(whole.text.split("\n").map((line) => line.trim())).toEqual([
    "1,234,567  weights.bin",
    "5  folder/notes\ufffd.txt",
  ]);
  await put(RUN, "cut_model.zip", bytes.subarray(0, 1000));
  await announce(RUN, "cut", urlOf(RUN, "cut_model.zip"), { artifact_type: 2 });
  expect((await show("cut_model.zip")).status).toBe(415);
});

describe("the log of a run", () => {
  const KEY = `fedml-run-${RUN}-edge-0-upload_log.zip`;

  test("that is put again each half minute is the newest alone, and the others' bytes are gone", async () => {
    const old = randomBytes(100_000);
    await put(RUN, KEY, old);
    await announce(RUN, `fedml-run-${RUN}-edge-0-upload`, urlOf(RUN, KEY), { artifact_type: 5 });
    const newest = randomBytes(110_000);
    await put(RUN, KEY, randomBytes(105_000));
    await put(RUN, KEY, newest);
    const logged = await loggedBy(RUN);
    expect(logged).toMatchObject([{ type: "log", version: "v3", file: { sha256: sha256(newest) } }]);
    expect(await listVersions(storage.collector, logged[0]!.id)).toHaveLength(1);
    expect(storage.collector.blobs.has(sha256(old))).toBe(false);
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
  });

  test("that came while nobody was there to log it is logged at the next start, and not again once it is deleted", async () => {
    await put(RUN, KEY, "old");
    await announce(RUN, "log", urlOf(RUN, KEY), { artifact_type: 5 });
    await putUnseen(KEY, "newest");
    storage = await storage.restart();
    clients.clear();
    const logged = await loggedBy(RUN);
    expect(logged).toMatchObject([{ version: "v2", file: { sha256: sha256("newest") } }]);
    await deleteVersion(storage.collector, logged[0]!.id, 2);
    storage = await storage.restart();
    expect(await loggedBy(RUN)).toEqual([]);
    await put(RUN, KEY, "newer still");
    expect(await loggedBy(RUN)).toMatchObject([{ version: "v3" }]);
  });

  test("that was there before it was announced, and could not be logged then, is logged at the next start", async () => {
    const { collector, objects } = storage;
    await createRun(collector, { id: RUN });
    await putUnseen(KEY, "all of it");
    await Bun.sleep(2);
    collector.journal.append = () => Promise.reject(new CollectorError("disk-full", "No space left."));
    const problem = await announceHere(collector, objects, {
      run: RUN,
      about: about("log", "log"),
      at: { place: { scope: RUN, bucket: BUCKET, key: KEY } },
      follow: true,
    }).catch((error: unknown) => error);
    expect(problem).toMatchObject({ code: "disk-full" });
    storage = await storage.restart();
    expect(await loggedBy(RUN)).toMatchObject([{ version: "v1", file: { sha256: sha256("all of it") } }]);
  });

  test("is kept where somebody gave it an alias", async () => {
    await put(RUN, KEY, "old");
    await announce(RUN, "log", urlOf(RUN, KEY), { artifact_type: 5 });
    const { id } = await getArtifactByName(storage.collector, "artifact", "log");
    await storage.json(`/api/v1/artifacts/${id}/versions/v1`, {
      method: "PATCH",
      body: { add_aliases: ["crash"] },
    });
    await put(RUN, KEY, "new");
    expect((await listVersions(storage.collector, id)).map(({ version }) => version)).toEqual(["v2", "v1"]);
    expect(storage.collector.blobs.has(sha256("old"))).toBe(true);
  });

  test("that was announced before it came is shown as awaited until then", async () => {
    await announce(RUN, "log", urlOf(RUN, KEY), { artifact_type: 5 });
    expect(listAnnounced(storage.collector, RUN)).toMatchObject([{ state: "awaited", type: "log" }]);
    await put(RUN, KEY, "x");
    expect(listAnnounced(storage.collector, RUN)).toEqual([]);
    expect(await loggedBy(RUN)).toMatchObject([{ name: "log", type: "log" }]);
  });
});

describe("a model of a federated run", () => {
  test("is named by whose it is and by its round", async () => {
    await put(RUN, "m", "m");
    const url = urlOf(RUN, "m");
    await publish(RUN, "fl_server/mlops/global_aggregated_model", {
      run_id: "0",
      round_idx: 3,
      global_aggregated_model_s3_address: url,
    });
    await publish(RUN, "fl_server/mlops/client_model", {
      run_id: "0",
      edge_id: 7,
      round_idx: 3,
      client_model_s3_address: url,
    });
    await publish(RUN, "fl_server/mlops/training_model_net", {
      run_id: "0",
      training_model_net_s3_address: url,
    });
    const logged = await loggedBy(RUN);
    expect(logged.map(({ kind, name, metadata, origin }) => [kind, name, metadata, origin])).toEqual([
      ["model", "global-model-round-3", { role: "global", round: 3 }, {}],
      ["model", "client-model-edge-7-round-3", { role: "client", round: 3 }, { edge: "7" }],
      ["model", "model-net", { role: "net" }, {}],
    ]);
  });

  test("that lies elsewhere is missing", async () => {
    await publish(RUN, "fl_server/mlops/global_aggregated_model", {
      run_id: "0",
      round_idx: 0,
      global_aggregated_model_s3_address: "ipfs://x",
    });
    expect(listAnnounced(storage.collector, RUN)).toMatchObject([
      { kind: "model", name: "global-model-round-0", state: "failed" },
    ]);
  });
});
