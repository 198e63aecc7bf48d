import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { S3Client } from "bun";
import { listFiles } from "../src/artifact/find.ts";
import { listRunArtifacts } from "../src/artifact/list.ts";
import { aboutOfKey, settleUnannounced } from "../src/fedml/unannounced.ts";
import { createTestStorage, type TestStorage } from "./helpers/storage.ts";

const RUN = "100000000000077";
const OTHER = "100000000000078";
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

let storage: TestStorage;
let skew: number;
beforeEach(async () => {
  skew = 0;
  storage = await createTestStorage({ now: () => Date.now() + skew });
});
afterEach(() => storage.close());

const put = (run: string, key: string, bytes: string) =>
  new S3Client({ ...storage.of(run), region: "us-east-1", bucket: "run", retry: 0 }).write(key, bytes);
const placeOf = (key: string, scope = RUN) => ({ scope, bucket: "run", key });
const settle = () => settleUnannounced(storage.collector, storage.objects);

async function announce(run: string, name: string, key: string): Promise<void> {
  const client = await storage.mqtt(run);
  const payload = {
    job_id: run,
    edge_id: 7,
    artifact_name: name,
    artifact_type: 2,
    artifact_url: `${storage.of(run).endpoint}/run/${key}`,
    artifact_ext_info: { accuracy: 0.5 },
  };
  await client.publishAsync("launch_device/mlops/artifacts", JSON.stringify(payload), { qos: 2 });
}

async function loggedBy(run: string) {
  const all = await listRunArtifacts(storage.collector, run);
  return Promise.all(
    all.map(async ({ version: { id, version, kind, name, type } }) => {
      const [file] = await listFiles(storage.collector, id, Number(version.slice(1)));
      return [kind, name, type, version, file!.sha256];
    }),
  );
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

describe("what a key says of an object that no message announces", () => {
  test.each([
    ["net_model.zip", "model", "net", "model"],
    ["my data_dataset.zip", "artifact", "my data", "dataset"],
    ["a_b_source code.zip", "artifact", "a_b", "source code"],
    ["fedml-run-1-edge-2-upload_log.zip", "artifact", "fedml-run-1-edge-2-upload", "log"],
    ["folder/x_general.zip", "artifact", "folder-x", "general"],
    ["fedml-model-input-run-1", "artifact", "model-input", "general"],
  ])("%s", (key, kind, name, type) => expect(aboutOfKey(key)).toMatchObject({ kind, name, type }));

  test.each(["", "_model.zip", "net_model", "net_mystery.zip", "fedml_1_0_2-5b0c9f3e"])(
    "%p says nothing",
    (key) => expect(aboutOfKey(key)).toBeUndefined(),
  );
});

describe("an object that no message announces", () => {
  test("is its run's artifact after five minutes, by the name in its key, and stays", async () => {
    await put(RUN, "net_model.zip", "weights");
    await put(OTHER, "net_model.zip", "other weights");
    skew = 4 * MINUTE;
    await settle();
    expect(await loggedBy(RUN)).toEqual([]);
    skew = 6 * MINUTE;
    for (let again = 0; again < 2; again++) await settle();
    expect(await loggedBy(RUN)).toEqual([["model", "net", "model", "v1", sha256("weights")]]);
    expect(await loggedBy(OTHER)).toEqual([["model", "net", "model", "v2", sha256("other weights")]]);
    skew = 30 * DAY;
    await settle();
    expect(storage.objects.find(placeOf("net_model.zip"))).toBeDefined();
    await storage.collector.blobs.collect();
    expect(storage.collector.blobs.size(sha256("weights"))).toBe(7);
  });

  test("is the same version if the message comes after all, with what that says", async () => {
    await put(RUN, "net_model.zip", "weights");
    skew = 6 * MINUTE;
    await settle();
    await announce(RUN, "net", "net_model.zip");
    expect(await loggedBy(RUN)).toEqual([["model", "net", "model", "v1", sha256("weights")]]);
    const [logged] = await listRunArtifacts(storage.collector, RUN);
    expect(logged!.version.metadata).toEqual({ accuracy: 0.5 });
  });

  test("that was announced is left alone", async () => {
    await put(RUN, "net_model.zip", "weights");
    await announce(RUN, "my own name", "net_model.zip");
    skew = 6 * MINUTE;
    await settle();
    expect(await loggedBy(RUN)).toEqual([["model", "my own name", "model", "v1", sha256("weights")]]);
  });

  test("and is nothing that a run logs goes after a week, with its bytes", async () => {
    const key = "fedml_1_0_2-5b0c9f3e";
    await put(RUN, key, "weights on their way");
    skew = 6 * DAY;
    await settle();
    expect(storage.objects.find(placeOf(key))).toBeDefined();
    skew = 8 * DAY;
    await settle();
    expect(storage.objects.find(placeOf(key))).toBeUndefined();
    await storage.collector.blobs.collect();
    expect(storage.collector.blobs.size(sha256("weights on their way"))).toBeUndefined();
    expect(await loggedBy(RUN)).toEqual([]);
  });
});
