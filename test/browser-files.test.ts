import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader } from "@zip.js/zip.js";
import type { Page } from "playwright-core";
import type { LoggedArtifact } from "../src/artifact/schema.ts";
import { logFiles, modelFiles } from "./helpers/artifacts.ts";
import { noBrowser, openDashboard, type Dashboard } from "./helpers/browser.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;
let model: LoggedArtifact;

const when = test.skipIf(noBrowser);

const log = (...args: Parameters<typeof logFiles> extends [unknown, ...infer Rest] ? Rest : never) =>
  logFiles(dashboard.server.collector, ...args);

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
  for (let seed = 1; seed <= 4; seed++) model = await log(null, "digits", { files: modelFiles(seed) });
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const cells = (page: Page, selector: string) =>
  page
    .locator(selector)
    .evaluateAll((nodes) => nodes.map((node) => node.textContent!.replace(/\s+/g, " ").trim()));

const file = (page: Page, name: string) => page.locator(".files a.file-open", { hasText: name });
const body = (page: Page) => page.locator(".preview-body");

when("files are looked into: text, JSON, tables and pictures; the address says which", async () => {
  const page = await dashboard.open(`/models/${model.id}/latest`);
  // Tomorrow the alias may lead elsewhere: the address is the version's own.
  expect(new URL(page.url()).pathname).toBe(`/models/${model.id}/v4`);
  await file(page, "README.md").click();
  await page.waitForSelector(".preview-text");
  expect(await body(page).textContent()).toBe("# Digits 4\n\nTrained for 40 epochs.\n");
  expect(new URL(page.url()).search).toBe("?file=README.md");
  await file(page, "config.json").click();
  await page.waitForSelector('.preview-text:has-text("layers")');
  expect(await body(page).textContent()).toContain('\n  "seed": 12345678901234567890\n}');
  await page.getByRole("button", { name: "Text" }).click();
  expect(await body(page).textContent()).toBe(modelFiles(4)["config.json"]);
  await file(page, "history.csv").click();
  await page.waitForSelector(".preview-table");
  expect(await page.locator(".preview-note").textContent()).toBe(
    "The first 200 rows. Download it to have it all.",
  );
  expect(await cells(page, ".preview-table thead th")).toEqual(["Row", "step", "loss", "note"]);
  expect(await cells(page, ".preview-table tbody tr:nth-child(2) td")).toEqual(["1", "1.0000", "a, 1"]);
  await file(page, "confusion.png").click();
  await page.waitForFunction(
    () => document.querySelector<HTMLImageElement>(".preview img")?.naturalWidth === 320,
  );
  await file(page, "weights.bin").click();
  await page.waitForSelector("text=neither text nor a picture");
  await page.goBack();
  await page.waitForSelector(".preview img");
  await page.reload();
  await page.waitForSelector(".preview img");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".preview", { state: "detached" });
  expect(new URL(page.url()).search).toBe("");
  page.complaints = page.complaints.filter((text) => !/status of 415/.test(text));
  await page.context().close();
});

when("a file downloads as it was logged", async () => {
  const page = await dashboard.open(`/models/${model.id}/v4`);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download weights.bin" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("weights.bin");
  const bytes = Buffer.from(await Bun.file(await download.path()).arrayBuffer());
  expect(bytes.equals(Buffer.from(modelFiles(4)["weights.bin"]))).toBe(true);
  await page.context().close();
});

when("a version of several files downloads as one zip, from its page and from the run's tab", async () => {
  const { id: run } = await dashboard.api("/runs", { body: { name: "zipper", project: "digits" } });
  await log(run, "digits", { files: modelFiles(4) });
  const places = {
    [`/models/${model.id}/v4`]: "Download all",
    [`/runs/${run}/models`]: "Download digits v4",
  };
  for (const [path, name] of Object.entries(places)) {
    const page = await dashboard.open(path);
    const begun = page.waitForEvent("download");
    await page.getByRole("link", { name, exact: true }).click();
    const download = await begun;
    expect(download.suggestedFilename()).toBe("digits-v4.zip");
    const zip = new ZipReader(new Uint8ArrayReader(readFileSync(await download.path())));
    const found: Record<string, string> = {};
    for (const entry of await zip.getEntries())
      if (!entry.directory)
        found[entry.filename] = Bun.SHA256.hash(await entry.getData!(new Uint8ArrayWriter()), "hex");
    const expected = Object.entries(modelFiles(4)).map(([path, content]) => [
      `digits-v4/${path}`,
      Bun.SHA256.hash(content as Uint8Array, "hex"),
    ]);
    expect(found).toEqual(Object.fromEntries(expected));
    await page.context().close();
  }
});

when("a run's export is downloaded from its page, also without scripts", async () => {
  const { id: run } = await dashboard.api("/runs", { body: { name: "exported", project: "digits" } });
  for (const javaScriptEnabled of [true, false]) {
    const page = await dashboard.open(`/runs/${run}`, { javaScriptEnabled });
    const begun = page.waitForEvent("download");
    await page.getByRole("link", { name: "Export" }).click();
    const download = await begun;
    expect(download.suggestedFilename()).toBe(`run-${run}.zip`);
    const zip = new ZipReader(new Uint8ArrayReader(readFileSync(await download.path())));
    expect((await zip.getEntries()).map(({ filename }) => filename)).toContain("manifest.json");
    await page.context().close();
  }
});

const hostile = {
  "page.html": "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>",
  "drawing.svg":
    '<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"><script>window.pwned=1</script></svg>',
  "picture.png": "<script>window.pwned=1</script>",
  "table.csv": '<img src=x onerror="window.pwned=1">,b\n"<script>window.pwned=1</script>",2\n',
  "data.json": '{"<script>window.pwned=1</script>": "<img src=x onerror=window.pwned=1>"}',
  '"><img src=x onerror=window.pwned=1>': "x",
};

when("nothing in a file or a name is ever active", async () => {
  const { id: run } = await dashboard.api("/runs", { body: { name: "quiet-finch" } });
  const name = '<img src=x onerror="window.pwned=1">';
  const logged = await log(run, name, {
    files: hostile,
    description: "<script>window.pwned=1</script>",
    metadata: { "<b>": "<script>window.pwned=1</script>" },
  });
  const page = await dashboard.open(`/models/${logged.id}/v1`);
  expect(await page.locator("h1").textContent()).toBe(`${name} v1`);
  for (const [path, text] of Object.entries(hostile)) {
    if (path.includes('"')) continue;
    await file(page, path).click();
    await page.waitForSelector(`.preview h3:has-text("${path}")`);
    await page.waitForSelector(".preview-text, .preview-table");
    if (!/csv|json/.test(path)) expect(await body(page).textContent()).toBe(text);
    expect(await page.locator(".preview img").count()).toBe(0);
  }
  await page.goto(`${dashboard.url}/models/${logged.id}`);
  await page.goto(`${dashboard.url}/models`);
  await page.goto(`${dashboard.url}/runs/${run}/models`);
  expect(await page.evaluate(() => (window as { pwned?: number }).pwned)).toBeUndefined();
  // Opened by itself a preview is neither a page nor a picture that could run something.
  for (const path of ["page.html", "drawing.svg"]) {
    await page.goto(`${dashboard.url}/api/v1/artifacts/${logged.id}/versions/v1/preview?path=${path}`);
    expect(await page.evaluate(() => [document.contentType, (window as { pwned?: number }).pwned])).toEqual([
      "text/plain",
      undefined,
    ]);
  }
  await page.context().close();
});

when("thousands of files come by pages, and a long text is bounded with a note", async () => {
  const files: Record<string, string> = Object.fromEntries(
    Array.from({ length: 2500 }, (_, i) => [`shards/${String(i).padStart(5, "0")}.txt`, "same"]),
  );
  files["a.log"] = `${"x".repeat(99)}\n`.repeat(5000);
  const logged = await log(null, "shards", { kind: "artifact", files });
  const page = await dashboard.open(`/models/${logged.id}/v1`);
  expect(await cells(page, ".files .file-name")).toEqual(["a.log", "shards/"]);
  expect(await page.locator(".files-more").textContent()).toContain("1,000 of 2,501 files loaded");
  await page.getByRole("button", { name: "shards/" }).click();
  expect(await page.locator(".files tr.file").count()).toBeLessThan(310);
  const more = page.locator(".files-more button");
  for (let i = 0; i < 12 && (await more.count()) > 0; i++) {
    await more.click();
    await page.waitForFunction(() => !document.querySelector(".files-more button:disabled"));
  }
  await page.waitForSelector("text=02499.txt");
  expect(await page.locator(".files tr.file").count()).toBe(2501);
  expect(await page.locator(".folder .file-open").textContent()).toBe("shards/ 2,500 files");
  await file(page, "a.log").click();
  await page.waitForSelector(".preview-note");
  expect(await page.locator(".preview-note").textContent()).toBe(
    "The beginning of 488 KiB. Download it to have it all.",
  );
  await page.context().close();
});
