import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import { noBrowser, openDashboard, type Dashboard } from "./helpers/browser.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;
const total = 350;

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
  const statuses = ["FINISHED", "FAILED", "KILLED", undefined];
  for (let i = 0; i < total; i++) {
    const number = String(i).padStart(3, "0");
    const { id } = await dashboard.api("/runs", {
      body: { name: `run ${number}`, project: i % 10 === 0 ? "tens" : "others", tags: [`tag${i % 7}`] },
    });
    const status = statuses[i % 4];
    if (status) await dashboard.api(`/runs/${id}/finish`, { body: { status, reason: `because ${number}` } });
  }
}, 120_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

const names = (page: Page) => page.locator(".run-name").allTextContents();
const count = (page: Page) => page.locator(".list-head .count").textContent();
const waitForCount = (page: Page, text: string) =>
  page.waitForFunction((want) => document.querySelector(".list-head .count")?.textContent === want, text);

when("newest first; the rest comes as it is scrolled to, then page by page", async () => {
  const page = await dashboard.open("/");
  expect((await names(page)).slice(0, 2)).toEqual(["run 349", "run 348"]);
  expect(await count(page)).toBe("100 shown of 350");
  for (const shown of [200, 300]) {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await waitForCount(page, `${shown} shown of 350`);
  }
  expect(new Set(await names(page)).size).toBe(300);
  await page.getByRole("link", { name: "Next page" }).click();
  await page.waitForURL(/after=/);
  expect((await names(page)).slice(0, 2)).toEqual(["run 049", "run 048"]);
  await page.getByRole("link", { name: "First page" }).click();
  await page.waitForURL(`${dashboard.url}/`);
  await page.context().close();
});

when("status, project, sort and search combine, in the URL and back", async () => {
  const page = await dashboard.open("/");
  await page.getByRole("link", { name: "Failed" }).click();
  await waitForCount(page, "88 runs");
  await page.selectOption("select[name=project]", "tens");
  await page.waitForSelector("text=No run matches.");
  await page.getByRole("link", { name: "Killed" }).click();
  await waitForCount(page, "17 runs");
  await page.getByRole("link", { name: "Name" }).click();
  await page.waitForFunction(() => document.querySelector(".run-name")?.textContent === "run 010");
  expect(await page.locator("th[aria-sort]").getAttribute("aria-sort")).toBe("ascending");
  expect(await page.locator(".run-sub").first().textContent()).toBe("because 010");
  await page.keyboard.press("/");
  await page.keyboard.type("run 0");
  await waitForCount(page, "5 runs");
  expect(new URL(page.url()).search).toBe("?search=run+0&project=tens&status=killed&sort=name");
  const shown = await names(page);
  await page.reload();
  expect(await names(page)).toEqual(shown);
  expect(await page.locator("#search").inputValue()).toBe("run 0");
  await page.goBack();
  await page.waitForURL((url) => !url.search.includes("sort=name"));
  await page.context().close();
});

when("what is being typed stays when rows come that were asked for before", async () => {
  const { id } = await dashboard.api("/runs", { body: { name: "brief" } });
  const page = await dashboard.open("/");
  await page.waitForSelector('#live[data-state="live"]');
  const asked = Promise.withResolvers<void>();
  const typed = Promise.withResolvers<void>();
  await page.route("**/ui/runs?*", async (route) => {
    asked.resolve();
    await typed.promise;
    await route.continue().catch(() => {});
  });
  // Counts by status are asked for anew.
  await dashboard.api(`/runs/${id}/finish`, { body: {} });
  await asked.promise;
  await page.locator("#search").fill("run 00");
  typed.resolve();
  await waitForCount(page, "10 runs");
  expect(await page.locator("#search").inputValue()).toBe("run 00");
  await dashboard.api(`/runs/${id}`, { method: "DELETE" });
  await page.context().close();
});

when("without scripts the same page works by its links and its form", async () => {
  const page = await dashboard.open("/", { javaScriptEnabled: false });
  await page.getByRole("link", { name: "Failed" }).click();
  expect(await count(page)).toBe("88 runs");
  await page.locator("#search").fill("run 00");
  await page.getByRole("button", { name: "Show" }).click();
  expect(await names(page)).toEqual(["run 009", "run 005", "run 001"]);
  await page.context().close();
});

when("the keyboard walks the rows and opens one", async () => {
  const page = await dashboard.open("/");
  await page.waitForSelector('#live[data-state="live"]');
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("k");
  await page.waitForFunction(() => document.activeElement?.textContent === "run 348");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/runs\/\d+$/);
  expect(await page.locator("h1").textContent()).toBe("run 348");
  await page.keyboard.press("3");
  await page.waitForURL(/\/logs$/);
  await page.keyboard.press("u");
  await page.waitForURL(`${dashboard.url}/`);
  await page.context().close();
});

when("what others start, rename and end shows by itself, in the filter it belongs to", async () => {
  const page = await dashboard.open("/?status=active");
  await page.waitForSelector('#live[data-state="live"]');
  const active = Number((await count(page))!.split(" ")[0]);
  const { id, created } = await dashboard.api("/runs", { body: { name: "newcomer", project: "p" } });
  await page.waitForSelector("tr.fresh:has-text('newcomer')");
  await waitForCount(page, `${active + 1} runs`);
  const latecomer = await dashboard.api("/runs", {
    body: { name: "latecomer", project: "p", started: Date.parse(created) - 1 },
  });
  await page.waitForSelector("tr:has-text('newcomer') + tr:has-text('latecomer')");
  await dashboard.api(`/runs/${latecomer.id}?force=true`, { method: "DELETE" });
  await dashboard.api(`/runs/${id}`, { method: "PATCH", body: { name: "renamed" } });
  await page.waitForSelector("tr:has-text('renamed')");
  const first = await page.locator("tr:has-text('renamed') .cell-duration").textContent();
  await page.waitForFunction(
    (before) => document.querySelector("tbody tr .cell-duration")!.textContent !== before,
    first,
  );
  await dashboard.api(`/runs/${id}/finish`, { body: {} });
  await page.waitForSelector("tr:has-text('renamed')", { state: "detached" });
  await page.waitForSelector(".segments a:has-text('Finished') .num:has-text('89')");
  await page.context().close();
});
