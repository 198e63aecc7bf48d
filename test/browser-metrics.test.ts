import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import { createWriter, noBrowser, openDashboard, screenshot, type Dashboard } from "./helpers/browser.ts";
import { inkByColumn } from "./helpers/ink.ts";
import { until } from "./helpers/launch.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;

beforeAll(async () => {
  if (!noBrowser) dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

const card = (page: Page, metric: string) => page.locator(`[data-metric="${metric}"]`);
const points = (page: Page, metric: string) => card(page, metric).locator(".reading").textContent();
const hasPoints = (page: Page, metric: string, count: string) =>
  page.waitForFunction(
    ([name, text]) => document.querySelector(`[data-metric="${name}"] .reading`)?.textContent === text,
    [metric, count],
  );

/** How many pixels of each column of a chart are drawn in the colour of its first series. */
const inked = (page: Page, metric: string) => inkByColumn(card(page, metric), "--series-1");

async function newRun(name: string) {
  const { id } = await dashboard.api("/runs", { body: { name, project: "metrics" } });
  return { id: id as string, writer: createWriter(dashboard, id) };
}

when("a chart grows while points are posted, without asking for what it has", async () => {
  const { id, writer } = await newRun("growing");
  await writer.records([
    { step: 0, metrics: { loss: 2 } },
    { step: 1, metrics: { loss: 1.5 } },
  ]);
  const page = await dashboard.open(`/runs/${id}/metrics`);
  await page.waitForSelector('#live[data-state="live"]');
  await hasPoints(page, "loss", "2 points");
  const before = await inked(page, "loss");
  let queries = 0;
  page.on("request", (request) => {
    if (request.url().includes("/points?")) queries++;
  });
  for (let step = 2; step < 60; step += 2)
    await writer.records([step, step + 1].map((s) => ({ step: s, metrics: { loss: 2 / s + (s % 3) } })));
  await hasPoints(page, "loss", "60 points");
  // The line was nearly flat and is a zigzag: nearly every column has more of it. What is heard is drawn a moment later.
  await until(async () => {
    const columns = await inked(page, "loss");
    return columns.filter((count, at) => count > before[at]!).length > 0.8 * columns.length;
  });
  expect(queries).toBe(0);
  // A metric that was never seen before gets its chart by itself.
  await writer.records([{ step: 60, metrics: { "val/acc": 0.5 } }]);
  await hasPoints(page, "val/acc", "1 point");
  expect(await page.locator(".chart-group h2").allTextContents()).toEqual(["Metrics1", "val1"]);
  await page.context().close();
});

when(
  "the crosshair is shared, a drag zooms all charts by asking the collector, Escape goes back",
  async () => {
    const { id, writer } = await newRun("zooming");
    const items = Array.from({ length: 5000 }, (_, step) => ({
      step,
      metrics: { loss: step % 10 === 5 ? 99 : 1 / (step + 1), acc: step / 5000 },
    }));
    await writer.records(items);
    const page = await dashboard.open(`/runs/${id}/metrics`);
    await hasPoints(page, "acc", "5,000 points");
    await screenshot(page, "metrics-zoom-before");
    const over = card(page, "loss").locator(".u-over");
    const box = (await over.boundingBox())!;
    const at = (part: number) => box.x + box.width * part;
    await page.mouse.move(at(0.5), box.y + 60);
    for (const [metric, pattern] of [
      ["acc", "^step "],
      // The band keeps what the mean hides.
      ["loss", "^step .* to 99\\)$"],
    ] as const)
      await page.waitForFunction(
        ([name, shown]) =>
          RegExp(shown).test(document.querySelector(`[data-metric="${name}"] .reading`)?.textContent ?? ""),
        [metric, pattern] as const,
      );
    await page.mouse.move(at(0.4), box.y + 60);
    await page.mouse.down();
    await page.mouse.move(at(0.45), box.y + 60);
    await page.mouse.move(at(0.6), box.y + 60);
    await Promise.all([
      page.waitForRequest((request) => request.url().includes("key=loss") && request.url().includes("from=")),
      page.waitForRequest((request) => request.url().includes("key=acc") && request.url().includes("from=")),
      page.mouse.up(),
    ]);
    await page.waitForFunction(() => location.search.includes("on=step"));
    const from = Number(new URL(page.url()).searchParams.get("from"));
    expect(from).toBeGreaterThan(1900);
    expect(from).toBeLessThan(2100);
    await page.mouse.move(5, 5);
    await page.waitForFunction(() =>
      /^\d{3,4}|1,\d{3} points/.test(document.querySelector('[data-metric="loss"] .reading')!.textContent!),
    );
    await page.keyboard.press("Escape");
    await hasPoints(page, "loss", "5,000 points");
    await page.context().close();
  },
);

when("any metric serves as x axis; smoothing and log scale draw anew; the URL keeps it all", async () => {
  const { id, writer } = await newRun("axes");
  await writer.records(
    Array.from({ length: 300 }, (_, step) => ({
      step,
      x: "epoch",
      metrics: { loss: 3 / (step + 1), epoch: Math.floor(step / 100) },
    })),
  );
  const page = await dashboard.open(`/runs/${id}/metrics`);
  await hasPoints(page, "loss", "300 points");
  const over = card(page, "loss").locator(".u-over");
  /** The chart is asked for anew, so what is under the crosshair is so only a moment later. */
  const hoverShows = (pattern: RegExp) =>
    until(async () => {
      await page.mouse.move(5, 5);
      await over.hover({ position: { x: 100, y: 50 } });
      return pattern.test((await points(page, "loss"))!);
    });
  // Its own axis, until another is chosen.
  await hoverShows(/^epoch /);
  await page.selectOption("#axis", "step");
  await hoverShows(/^step /);
  await page.selectOption("#axis", "relative");
  await hoverShows(/^[\d.]+ s /);
  await page.locator("#log-scale").click();
  await page.locator("#smoothing").fill("0.8");
  await page.waitForFunction(() => location.search.includes("smooth=0.8"));
  expect(new URL(page.url()).search).toBe("?x=relative&smooth=0.8&log=1");
  await page.reload();
  await hasPoints(page, "loss", "300 points");
  expect(await page.locator("#smoothing").inputValue()).toBe("0.8");
  expect(await page.locator("#axis").inputValue()).toBe("relative");
  expect(await page.locator("#log-scale").getAttribute("aria-pressed")).toBe("true");
  await page.context().close();
});

when(
  "values that are no numbers are in a table; NaN and infinities are marked; ranks come on demand",
  async () => {
    const { id, writer } = await newRun("odd values");
    await writer.records(
      Array.from({ length: 100 }, (_, step) => ({
        step,
        metrics: {
          loss: step === 50 ? "NaN" : step === 70 ? "Infinity" : step,
          note: `at ${step}`,
          state: { a: [step] },
          "only/nan": "NaN",
        },
      })),
    );
    const other = createWriter(dashboard, id, "rank3");
    await other.records(
      Array.from({ length: 10 }, (_, step) => ({ step, metrics: { loss: 50 } })),
      3,
    );
    const page = await dashboard.open(`/runs/${id}/metrics`);
    await hasPoints(page, "loss", "100 points");
    await hasPoints(page, "only/nan", "100 points");
    expect(await page.locator(".other-values tbody tr").allTextContents()).toEqual([
      "noteat 9999100",
      'state{"a":[99]}99100',
    ]);
    const box = (await card(page, "loss").locator(".u-over").boundingBox())!;
    await page.mouse.move(box.x + box.width * (50 / 99), box.y + 40);
    await page.waitForFunction(() =>
      document.querySelector('[data-metric="loss"] .reading')?.textContent?.includes("NaN"),
    );
    expect(await points(page, "loss")).toBe("step 50 1 NaN");
    await page.mouse.move(5, 5);
    await page.locator("#all-ranks").click();
    await hasPoints(page, "loss", "110 points");
    expect(await card(page, "loss").locator(".ranks li").allTextContents()).toEqual(["0", "3"]);
    await page.context().close();
  },
);

when("of five hundred metrics only those in sight are asked for; the filter finds any", async () => {
  const { id, writer } = await newRun("many metrics");
  const metrics: Record<string, number> = {};
  for (let i = 0; i < 500; i++) metrics[`layer${i % 5}/weight.${i}`] = i;
  await writer.records([
    { step: 0, metrics },
    { step: 1, metrics },
  ]);
  let queries = 0;
  const page = await dashboard.open("/");
  page.on("request", (request) => {
    if (request.url().includes("/points?")) queries++;
  });
  await page.goto(`${dashboard.url}/runs/${id}/metrics`);
  await hasPoints(page, "layer0/weight.0", "2 points");
  await page.waitForTimeout(300);
  expect(queries).toBeLessThan(40);
  expect(await page.locator(".plot canvas").count()).toBeLessThan(40);
  expect(await page.locator(".chart-group h2").allTextContents()).toEqual(
    [0, 1, 2, 3, 4].map((i) => `layer${i}100`),
  );
  await page.keyboard.press("/");
  await page.keyboard.type("weight\\.499$");
  await page.waitForFunction(() => document.querySelectorAll("[data-metric]").length === 1);
  await hasPoints(page, "layer4/weight.499", "2 points");
  // Escape leaves the field; groups fold and stay folded.
  await page.keyboard.press("Escape");
  await page.locator(".group-toggle").click();
  await page.reload();
  await page.waitForSelector('.group-toggle[aria-expanded="false"]');
  await page.context().close();
});

when("a hidden tab closes its stream and catches up when it is seen again", async () => {
  const { id, writer } = await newRun("hidden");
  await writer.records([{ step: 0, metrics: { loss: 1 } }]);
  const page = await dashboard.open(`/runs/${id}/metrics`);
  await page.waitForSelector('#live[data-state="live"]');
  await hasPoints(page, "loss", "1 point");
  const setHidden = (hidden: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await setHidden(true);
  await page.waitForSelector('#live[data-state="paused"]', { timeout: 10_000 });
  for (let step = 1; step < 10; step++) await writer.records([{ step, metrics: { loss: 1 / step } }]);
  expect(await points(page, "loss")).toBe("1 point");
  await setHidden(false);
  await hasPoints(page, "loss", "10 points");
  await page.context().close();
});

when(
  "a collector that was restarted is found again; a cookie that ran out leads to the sign-in page",
  async () => {
    const { id, writer } = await newRun("restarted");
    await writer.records([
      { step: 0, metrics: { loss: 1 } },
      { step: 1, metrics: { loss: 2 } },
    ]);
    const page = await dashboard.open(`/runs/${id}/metrics`);
    await page.waitForSelector('#live[data-state="live"]');
    await hasPoints(page, "loss", "2 points");
    await dashboard.restart();
    await page.waitForSelector('#live[data-state="lost"]');
    await writer.records([2, 3, 4].map((step) => ({ step, metrics: { loss: step } })));
    await page.waitForSelector('#live[data-state="live"]');
    await hasPoints(page, "loss", "5 points");

    await page.context().clearCookies();
    await dashboard.restart();
    await page.waitForSelector("h2:has-text('Sign in')");
    page.complaints = page.complaints.filter((text) => !/ERR_|status of 401/.test(text));
    await page.context().close();
  },
);
