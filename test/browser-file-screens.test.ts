/** Pictures of models, artifacts and files, for people to look at: test/screenshots-out. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { useArtifact } from "../src/artifact/use.ts";
import { logFiles, modelFiles } from "./helpers/artifacts.ts";
import {
  createWriter,
  looks,
  noBrowser,
  openDashboard,
  screenshot,
  type Dashboard,
} from "./helpers/browser.ts";

setDefaultTimeout(240_000);

let dashboard: Dashboard;

beforeAll(async () => {
  if (!noBrowser) dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);
const LONG =
  "a-name-that-somebody-generated-from-all-of-their-hyperparameters-lr0.00031-bs4096-wd0.05-seed-1234567-and-then-some";

async function createRun(name: string, metrics: Record<string, unknown>): Promise<string> {
  const { id } = await dashboard.api("/runs", { body: { name, project: "digits" } });
  await createWriter(dashboard, id).records([{ step: 900, metrics }]);
  return id;
}

interface Filled {
  run: string;
  many: string;
  none: string;
  model: number;
  long: number;
}

async function fill(): Promise<Filled> {
  const { collector } = dashboard.server;
  const log = logFiles.bind(undefined, collector);
  const data = await log(null, "mnist-8x8", {
    kind: "artifact",
    type: "dataset",
    files: { "train.csv": "x,y\n1,2\n", "test.csv": "x,y\n3,4\n" },
    description: "1,797 digits of 8 × 8 pixels, split 80 : 20.",
  });
  const names = ["brisk-heron", "quiet-finch", "brave-otter", "calm-tern", "swift-hare", "merry-wren"];
  const ids: string[] = [];
  let model = 0;
  for (const [index, name] of names.entries()) {
    const accuracy = 0.9 + index * 0.013;
    const run = await createRun(name, {
      "val/accuracy": accuracy,
      "val/loss": 0.4 - index * 0.03,
      loss: 0.31 - index * 0.02,
      lr: 0.001,
      epoch: 12,
    });
    ids.push(run);
    await useArtifact(collector, run, data.id, 1);
    ({ id: model } = await log(run, "digits", {
      files: modelFiles(index + 1),
      description: index === 5 ? "Warm-up of 200 steps, and label smoothing." : undefined,
      metadata: { epochs: 12, optimizer: { name: "adamw", betas: [0.9, 0.999] } },
      aliases: index === 3 ? ["best", "production"] : index === 5 ? ["candidate"] : [],
    }));
    if (index < 5) await dashboard.api(`/runs/${run}/finish`, { body: {} });
  }
  const [, , , calm, swift] = ids;
  await useArtifact(collector, ids[5]!, model, 4);
  const long = await log(calm!, LONG, {
    files: { [`${LONG}/${LONG}.safetensors`]: Uint8Array.from({ length: 70_000 }, (_, i) => i % 256) },
    description: "One line that goes on and on. ".repeat(12),
    aliases: ["an-alias-that-is-much-longer-than-anybody-would-want-it"],
  });
  await log(calm!, "tokenizer", { kind: "artifact", type: "general", files: { "vocab.json": '{"a": 1}' } });
  for (let i = 0; i < 14; i++)
    await log(swift!, "checkpoint", { files: { "state.pt": `${i}` }, aliases: i === 9 ? ["best"] : [] });
  const { id: none } = await dashboard.api("/runs", { body: { name: "no-files", project: "digits" } });
  return { run: ids[5]!, many: swift!, none, model, long: long.id };
}

when("pictures of every state, by day, by night and on a phone; nothing sticks out to the side", async () => {
  const empty = await dashboard.open("/models", { viewport: looks[0]!.viewport });
  await empty.waitForSelector('#live[data-state="live"]');
  await screenshot(empty, "models-none");
  await empty.context().close();

  const { run, many, none, model, long } = await fill();
  const paths: Record<string, [path: string, shown: string]> = {
    "models-list": ["/models", "tr[data-href]"],
    "artifacts-list": ["/models?kind=artifact", "tr[data-href]"],
    "model-versions": [`/models/${model}`, "td.metric"],
    version: [`/models/${model}/v6`, ".files tr"],
    "version-text": [`/models/${model}/v6?file=README.md`, ".preview-text"],
    "version-json": [`/models/${model}/v6?file=config.json`, ".preview-text"],
    "version-table": [`/models/${model}/v6?file=history.csv`, ".preview-table"],
    "version-image": [`/models/${model}/v6?file=plots%2Fconfusion.png`, ".preview img"],
    "version-binary": [`/models/${model}/v6?file=weights.bin`, ".preview-word"],
    "version-long": [`/models/${long}/v1`, ".files tr"],
    "run-models": [`/runs/${run}/models`, "tr[data-row]"],
    "run-models-open": [`/runs/${run}/models?open=${model}.v6`, ".details .files tr"],
    "run-models-many": [`/runs/${many}/models`, "tr[data-row]"],
    "run-artifacts": [`/runs/${run}/artifacts`, "tr[data-row]"],
    "run-models-none": [`/runs/${none}/models`, "#none-yet"],
  };
  for (const { size, viewport, colorScheme } of looks) {
    const page = await dashboard.open("/", { colorScheme, viewport });
    await page.addInitScript(() => {
      const page = window as { moved?: number };
      page.moved = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) page.moved! += (entry as unknown as { value: number }).value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    for (const [name, [path, shown]] of Object.entries(paths)) {
      await page.goto(dashboard.url + path);
      await page.waitForSelector(shown);
      await page.waitForSelector('#live[data-state="live"]');
      await page.waitForTimeout(250);
      const moved = await page.evaluate(() => (window as { moved?: number }).moved);
      expect(moved!, `what moves on ${name}, on a ${size}`).toBeLessThan(0.05);
      const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(width!, `${name} on a ${size}`).toBeLessThanOrEqual(room!);
      expect(await page.locator("h1").count(), name).toBe(1);
      await screenshot(page, `${name}-${size}-${colorScheme}`);
    }
    page.complaints = page.complaints.filter((text) => !/status of 415/.test(text));
    await page.context().close();
  }
});
