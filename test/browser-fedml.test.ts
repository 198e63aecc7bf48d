/** What a run of FedML's unmodified client looks like: its files, what never came of them, and its hardware. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import { S3Client } from "bun";
import { connectAsync } from "mqtt";
import { looks, noBrowser, openDashboard, screenshot, type Dashboard } from "./helpers/browser.ts";

setDefaultTimeout(240_000);

const RUN = "100000000000077";
let dashboard: Dashboard;

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard({ fedml: "on" });
  await dashboard.server.fedml!.listen({ host: "127.0.0.1", port: 0 });
  await fill();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

async function zipOf(files: Record<string, number>): Promise<Uint8Array> {
  const writer = new ZipWriter(new Uint8ArrayWriter(), { level: 0 });
  for (const [name, size] of Object.entries(files))
    await writer.add(name, new Uint8ArrayReader(randomBytes(size)));
  return writer.close();
}

async function fill(): Promise<void> {
  const edge = dashboard.server.fedml!;
  const endpoint = `${dashboard.url}/fedml/${edge.keys.secretOf({ run: RUN })}/s3`;
  const storage = new S3Client({
    endpoint,
    ...edge.keys.s3Of({ run: RUN }),
    region: "us-east-1",
    bucket: "fedml",
  });
  const { user, password } = edge.keys.mqttOf({ run: RUN });
  const client = await connectAsync({
    host: "127.0.0.1",
    port: edge.port!,
    protocol: "mqtt",
    username: user,
    password,
  });
  const publish = (topic: string, payload: unknown) =>
    client.publishAsync(topic, JSON.stringify(payload), { qos: 2 });

  async function log(name: string, number: number, typeName: string, bytes?: Uint8Array) {
    const key = `${name}_${typeName}.zip`;
    if (bytes) await storage.write(key, bytes);
    await publish("launch_device/mlops/artifacts", {
      job_id: RUN,
      edge_id: 7,
      artifact_name: name,
      artifact_local_path: `/home/me/.fedml/fedml-client/artifacts/${name}`,
      artifact_url: bytes ? `${endpoint}/fedml/${encodeURIComponent(key)}` : "",
      artifact_type: number,
      artifact_desc: "",
      artifact_ext_info: { accuracy: 0.93 },
      timestamp: Date.now(),
    });
  }

  await log("plots", 1, "general", randomBytes(40_000));
  await log("mnist", 3, "dataset", await zipOf({ "train.csv": 2_000_000, "test.csv": 500_000 }));
  await log("train.py", 4, "source code", randomBytes(9000));
  await log(`fedml-run-${RUN}-edge-7-upload`, 5, "log", randomBytes(70_000));
  await log("lenet", 2, "model", randomBytes(1_200_000));
  await log("predictions", 1, "general");
  await log("resnet", 2, "model");
  await publish("ml_client/mlops/gpu_device_info", {
    edgeId: 7,
    memoryTotal: 503.72,
    memoryAvailable: 400.5,
    diskSpaceTotal: 1800,
    diskSpaceAvailable: 700,
    cpuUtilization: 31,
    cpuCores: 64,
    updateTime: Date.now() - 200_000,
  });
  for (let i = 20; i > 0; i--)
    await publish("fl_client/mlops/system_performance", {
      run_id: 0,
      edge_id: 7,
      cpu_utilization: 30 + (i % 7),
      SystemMemoryUtilization: 20.5 + i / 10,
      process_memory_in_use: 2300 + i,
      process_memory_in_use_size: 0.45,
      process_memory_available: 400_000,
      process_cpu_threads_in_use: 33,
      disk_utilization: 61.2,
      network_traffic: 1_000_000_000 + (20 - i) * 3_000_000,
      metrics_of_all_gpus: [0, 1].map((gpu) => ({
        gpu_id: gpu,
        gpu_name: "NVIDIA H100 80GB HBM3",
        gpu_utilization: 90 - gpu * 20 - (i % 5),
        gpu_memory_allocated: 55.5,
        gpu_temp: 61 + gpu,
        gpu_power_usage: 80 - gpu * 10,
        gpu_time_spent_accessing_memory: 35,
      })),
      timestamp: Date.now() - i * 10_000,
    });
  await client.endAsync();
}

when("its artifacts and models have name, type, size and a download; what never came says why", async () => {
  for (const { size, ...look } of looks) {
    const page = await dashboard.open(`/runs/${RUN}/artifacts`, look);
    const rows = page.locator("table.logged tbody tr");
    await rows.first().waitFor();
    const text = (await rows.allInnerTexts()).join("\n");
    for (const word of ["plots", "mnist", "dataset", "train.py", "source code", "log"])
      expect(text).toContain(word);
    expect(text).toContain("2.38 MiB");
    const missing = page.locator("ul.announced");
    expect(await missing.innerText()).toContain("predictions");
    expect(await missing.innerText()).toContain("Its upload failed");
    const link = await rows.filter({ hasText: "mnist" }).locator("a[download]").getAttribute("href");
    const download = await page.request.get(`${dashboard.url}${link}`);
    expect((await download.body()).length).toBeGreaterThan(2_500_000);
    await missing.scrollIntoViewIfNeeded();
    await screenshot(page, `fedml-artifacts-${size}-${look.colorScheme}`);
    await rows.filter({ hasText: "mnist" }).getByRole("button", { name: "Details" }).click();
    await page.getByText("mnist_dataset.zip").first().click();
    await page.getByText("500,000  test.csv").waitFor();
    await screenshot(page, `fedml-zip-${size}-${look.colorScheme}`);
    await page.goto(`${dashboard.url}/runs/${RUN}/models`);
    await page.getByText("lenet").first().waitFor();
    expect(await page.locator("ul.announced").innerText()).toContain("resnet");
    await page.context().close();
  }
});

when("its hardware is there as a native one's", async () => {
  for (const { size, ...look } of looks) {
    const page = await dashboard.open(`/runs/${RUN}/hardware`, look);
    await page.getByText("GPU utilization").first().waitFor();
    const text = await page.locator("main").innerText();
    for (const word of [
      "edge 7",
      "64 cores",
      "Memory in use",
      "Received and sent",
      "GPU power, of its limit",
    ])
      expect(text).toContain(word);
    // Nobody knows them.
    expect(text).not.toContain("Processor time");
    expect(text).not.toContain("none");
    expect(text).not.toContain("This run’s GPUs");
    await screenshot(page, `fedml-hardware-${size}-${look.colorScheme}`);
    await page.context().close();
  }
});
