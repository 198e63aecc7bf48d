import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import type { LoggedArtifact } from "../src/artifact/schema.ts";
import { useArtifact } from "../src/artifact/use.ts";
import { logFiles, modelFiles } from "./helpers/artifacts.ts";
import { createWriter, noBrowser, openDashboard, type Dashboard } from "./helpers/browser.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;
let model: LoggedArtifact;
let data: LoggedArtifact;
const runs: string[] = [];

const when = test.skipIf(noBrowser);

const log = (...args: Parameters<typeof logFiles> extends [unknown, ...infer Rest] ? Rest : never) =>
  logFiles(dashboard.server.collector, ...args);

const use = ({ id, version }: LoggedArtifact, run: string) =>
  useArtifact(dashboard.server.collector, run, id, Number(version.slice(1)));

async function createRun(name: string, metrics: Record<string, unknown> = {}): Promise<string> {
  const { id } = await dashboard.api("/runs", { body: { name, project: "digits" } });
  if (Object.keys(metrics).length > 0) await createWriter(dashboard, id).records([{ step: 1, metrics }]);
  return id;
}

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const cells = (page: Page, selector: string) =>
  page
    .locator(selector)
    .evaluateAll((nodes) => nodes.map((node) => node.textContent!.replace(/\s+/g, " ").trim()));

const isLive = (page: Page) => page.waitForSelector('#live[data-state="live"]');

when("an empty page says how to log a model, and fills itself", async () => {
  const page = await dashboard.open("/");
  await page.getByRole("link", { name: "Models" }).click();
  await page.waitForURL(/\/models$/);
  expect(await page.locator("header nav [aria-current]").textContent()).toBe("Models");
  expect(await page.locator("h2").textContent()).toBe("No models yet");
  expect(await page.locator("pre").first().textContent()).toContain('binnacle.log_model("classifier"');
  await isLive(page);
  await page.getByRole("link", { name: /^Artifacts/ }).click();
  await page.waitForSelector("text=No artifacts yet");
  expect(await page.locator("pre").first().textContent()).toContain("binnacle.log_artifact(");
  await page.getByRole("link", { name: /^Models 0/ }).click();
  await page.waitForSelector("text=No models yet");
  runs.push(await createRun("quiet-finch", { "val/accuracy": 0.71, loss: 1.25, lr: 0.1 }));
  model = await log(runs[0]!, "digits", {
    files: modelFiles(1),
    description: "A first try.",
    metadata: { epochs: 10 },
  });
  await page.waitForSelector("tr[data-href]");
  expect(await cells(page, "tr[data-href] td")).toEqual([
    "digitsA first try.",
    "1 version",
    "v1",
    expect.stringMatching(/^\d+ KiB$/),
    "quiet-finch",
    "just now",
  ]);
  await page.context().close();
});

when("a run's tab shows what it logged, by itself, with the count beside its name", async () => {
  const run = runs[0]!;
  data = await log(null, "train-data", {
    kind: "artifact",
    type: "dataset",
    files: { "a.csv": "a,b\n1,2\n" },
  });
  const page = await dashboard.open(`/runs/${run}`);
  await isLive(page);
  const tab = (name: string) => page.locator(".tabs a", { hasText: name });
  expect(await tab("Models").textContent()).toBe("Models 1");
  expect(await tab("Artifacts").textContent()).toBe("Artifacts");
  await use(data, run);
  await page.waitForFunction(() => document.querySelector(".tabs")?.textContent?.endsWith("Artifacts 1"));
  await page.keyboard.press("6");
  await page.waitForURL(/\/artifacts$/);
  await page.waitForSelector("text=Used by this run");
  expect(await page.title()).toBe("Artifacts · quiet-finch · binnacle");
  await page.keyboard.press("5");
  await page.waitForURL(/\/models$/);
  // What stands alone is open from the start.
  await page.waitForSelector(".files tr.file");
  expect(await cells(page, ".files .file-name")).toEqual([
    "README.md",
    "config.json",
    "history.csv",
    "plots/ 2 files",
    "confusion.png",
    "more/ 1 file",
    "about.txt",
    "weights.bin",
  ]);
  expect(await page.locator(".lineage").textContent()).toBe("Logged byquiet-finchRunningUsed byno run yet");
  await isLive(page);
  await log(run, "digits", { files: modelFiles(2) });
  await page.waitForSelector('tr[data-row$=".v2"]');
  expect(await cells(page, "tr[data-row] .cell-aliases")).toEqual(["latest", ""]);
  expect(await tab("Models").textContent()).toBe("Models 2");
  // The row that was open stays open, and the address says so.
  expect(await page.locator("tr.details").count()).toBe(1);
  await page.getByRole("button", { name: "Details of digits v1" }).click();
  await page.getByRole("button", { name: "Details of digits v2" }).click();
  expect(new URL(page.url()).search).toBe(`?open=${model.id}.v2`);
  await page.reload();
  await page.waitForSelector('tr[data-row$=".v2"][data-open] + tr.details .files');
  await page.context().close();
});

when("aliases are given and taken in the row; one that another version has moves", async () => {
  const page = await dashboard.open(`/models/${model.id}`);
  await isLive(page);
  const aliases = () => cells(page, ".cell-aliases");
  const add = async (version: string, alias: string) => {
    await page.getByRole("button", { name: `Add an alias to digits ${version}` }).click();
    await page.waitForSelector('input[name="alias"]:focus');
    await page.keyboard.type(alias);
    await page.keyboard.press("Enter");
  };
  await add("v1", "best");
  await page.waitForSelector('tr:has-text("v1") .alias:has-text("best")');
  await add("v2", "best");
  await page.waitForSelector('tr[data-href$="/v2"] .alias:has-text("best")');
  expect(await aliases()).toEqual(["latestbest", ""]);
  await add("v2", "最佳");
  await page.waitForSelector('.alias:has-text("最佳")');
  await page.getByRole("button", { name: "Remove the alias 最佳 from digits v2" }).click();
  await page.waitForSelector('.alias:has-text("最佳")', { state: "detached" });
  await add("v1", "latest");
  await page.waitForSelector('[role="alert"]');
  expect(await page.locator('[role="alert"]').textContent()).toBe("The alias is always the newest version.");
  await add("v1", "not a word");
  await page.waitForSelector('[role="alert"]:has-text("must be letters")');
  expect(await page.locator('[role="alert"]').textContent()).toBe(
    "The alias must be letters, digits, '.', '_' and '-', and begin with a letter or a digit.",
  );
  expect(await page.getByRole("button", { name: /^Remove the alias latest/ }).count()).toBe(0);
  page.complaints = page.complaints.filter((text) => !/status of 400/.test(text));
  await page.context().close();
});

when("a name's page has the metrics of the runs that made its versions, those that one chooses", async () => {
  runs.push(await createRun("brave-otter", { "val/accuracy": 0.93, loss: 0.25, epochs: 12, note: "text" }));
  await log(runs[1]!, "digits", { files: modelFiles(3), aliases: ["candidate"] });
  const page = await dashboard.open("/models");
  await page.waitForSelector("tr[data-href]");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/models\/\d+$/);
  expect(await page.locator("h1").textContent()).toBe("digits");
  expect(await cells(page, "th.metric")).toEqual(["val/accuracy", "loss", "epochs"]);
  expect(await cells(page, 'tr[data-href$="/v3"] td.metric')).toEqual(["0.93", "0.25", "12"]);
  expect(await cells(page, 'tr[data-href$="/v1"] td.metric')).toEqual(["0.71", "1.25", "—"]);
  await page.keyboard.press("m");
  await page.getByRole("checkbox", { name: "lr" }).check();
  await page.getByRole("checkbox", { name: "epochs" }).uncheck();
  await page.keyboard.press("Escape");
  expect(await page.locator("details.picker[open]").count()).toBe(0);
  expect(new URL(page.url()).searchParams.getAll("metric")).toEqual(["val/accuracy", "loss", "lr"]);
  await page.reload();
  expect(await cells(page, "th.metric")).toEqual(["val/accuracy", "loss", "lr"]);
  await isLive(page);
  await log(runs[1]!, "digits", { files: modelFiles(4) });
  await page.waitForSelector('tr[data-href$="/v4"]');
  expect(await page.locator('tr[data-href$="/v4"] .cell-maker a').getAttribute("href")).toBe(
    `/runs/${runs[1]}`,
  );
  await page.context().close();
});

when("a description is written on the page, and the version goes with one question", async () => {
  const page = await dashboard.open(`/models/${model.id}/v1`);
  expect(await page.locator(".config").textContent()).toBe("MetadataKeyValueepochs10");
  await page.getByRole("button", { name: "Edit the description" }).click();
  await page.waitForSelector("textarea:focus");
  await page.keyboard.press("Control+a");
  await page.keyboard.type("Overfits.");
  await page.getByRole("button", { name: "Save" }).click();
  await page.waitForSelector('.notes:has-text("Overfits.")');
  expect((await dashboard.api(`/artifacts/${model.id}/versions/v1`)).description).toBe("Overfits.");
  expect(await page.locator(".snippet code").textContent()).toBe("binnacle model get digits:v1");
  await dashboard.api(`/artifacts/${model.id}/versions/v1`, {
    method: "PATCH",
    body: { add_aliases: ["old"] },
  });
  await page.waitForSelector('.alias:has-text("old")');
  await page.getByRole("button", { name: "Delete" }).click();
  expect(await page.locator("dialog").textContent()).toContain("It is called old.");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.waitForURL(/\/models\/\d+$/);
  expect(await cells(page, ".version-name")).toEqual(["v4", "v3", "v2"]);
  await page.context().close();
});

when("what is deleted elsewhere says so; what never was is an error a person can read", async () => {
  const gone = await log(null, "short-lived", { files: { "a.txt": "gone" } });
  const page = await dashboard.open(`/models/${gone.id}/v1`);
  await isLive(page);
  await dashboard.api(`/artifacts/${gone.id}`, { method: "DELETE" });
  await page.waitForSelector('[role="alert"]:has-text("This version was deleted.")');
  for (const path of ["/models/999999", "/models/net", `/models/${model.id}/v99`, `/models/${gone.id}`]) {
    await page.goto(dashboard.url + path);
    expect(await page.locator("h2").textContent()).toBe("Not found");
  }
  page.complaints = page.complaints.filter((text) => !/status of 404/.test(text));
  await page.context().close();
});

when("names are searched, across pages, and by the address", async () => {
  for (let i = 0; i < 120; i++)
    await log(null, `series-${String(i).padStart(3, "0")}`, { files: { a: `${i % 7}` } });
  const page = await dashboard.open("/models");
  await isLive(page);
  expect(await page.locator("tr[data-href]").count()).toBe(100);
  await page.locator("#more").click();
  await page.waitForFunction(() => document.querySelectorAll("tr[data-href]").length > 120);
  // A new one shows at the top, and nothing that was loaded is lost.
  const before = await page.locator("tr[data-href]").count();
  await log(null, "series-new", { files: { a: "new" } });
  await page.waitForSelector('tr[data-href]:first-child:has-text("series-new")');
  expect(await page.locator("tr[data-href]").count()).toBe(before + 1);
  await page.keyboard.press("/");
  await page.keyboard.type("series-11");
  await page.waitForFunction(() => document.querySelectorAll("tr[data-href]").length === 10);
  expect(new URL(page.url()).search).toBe("?search=series-11");
  await page.locator("#search").fill("nowhere");
  await page.waitForSelector("text=No model matches.");
  await page.goto(`${dashboard.url}/models?kind=artifact&search=dataset`);
  expect(await cells(page, "tr[data-href] .run-name")).toEqual(["train-data"]);
  await page.context().close();
});

when("what is being typed stays when rows come that were asked for before", async () => {
  const page = await dashboard.open("/models");
  await isLive(page);
  const asked = Promise.withResolvers<void>();
  const typed = Promise.withResolvers<void>();
  await page.route("**/ui/models*", async (route) => {
    asked.resolve();
    await typed.promise;
    await route.continue().catch(() => {});
  });
  await log(null, "series-newer", { files: { a: "newer" } });
  await asked.promise;
  await page.locator("#search").fill("series-11");
  typed.resolve();
  await page.waitForFunction(() => document.querySelectorAll("tr[data-href]").length === 10);
  expect(await page.locator("#search").inputValue()).toBe("series-11");
  await page.context().close();
});

when("without scripts names, versions and files are there all the same", async () => {
  const page = await dashboard.open("/models", { javaScriptEnabled: false });
  await page.locator("#search").fill("digits");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "digits", exact: true }).click();
  await page.getByRole("link", { name: "v4", exact: true }).click();
  expect(await page.locator("h1").textContent()).toBe("digits v4");
  expect(await page.locator(".files tr.file").count()).toBe(6);
  const href = await page.getByRole("link", { name: "Download README.md" }).getAttribute("href");
  expect(await (await dashboard.server.request(href!)).text()).toContain("# Digits 4");
  await page.context().close();
});
