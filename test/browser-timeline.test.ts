import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import { looks, noBrowser, openDashboard, screenshot, type Dashboard } from "./helpers/browser.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;
const when = test.skipIf(noBrowser);
const NOW = Date.now();
const MINUTE = 60_000;

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

let clients = 0;

async function createRun(name: string, spans: readonly object[], more: object = {}): Promise<string> {
  const { id } = await dashboard.api("/runs", { body: { name, project: "federated", ...more } });
  await record(id, spans);
  return id;
}

async function record(run: string, spans: readonly object[]): Promise<void> {
  const client = `c${++clients}`;
  for (let at = 0, seq = 1; at < spans.length; at += 1000, seq++)
    await dashboard.api(`/runs/${run}/spans`, { body: { client, seq, items: spans.slice(at, at + 1000) } });
}

/** A federated training as FedML's clients tell of it. */
function federated(edges: number, rounds: number, { from = NOW - 10 * MINUTE, live = true } = {}): object[] {
  const spans: object[] = [];
  const long = MINUTE / 2;
  for (let edge = 1; edge <= edges; edge++) {
    const own = { kind: "status", edge: `${edge}` };
    spans.push({ ...own, name: "INITIALIZING", started: from + edge * 300 });
    spans.push({ ...own, name: "TRAINING", started: from + 4000 + edge * 700 });
    if (!live || edge % 5 === 0) {
      const at = from + rounds * long + edge * 100;
      spans.push({ ...own, name: edge === 3 ? "FAILED" : "FINISHED", started: at, ended: at });
    }
  }
  for (let round = 0; round < rounds; round++) {
    const begin = from + 6000 + round * long;
    spans.push({
      kind: "round",
      name: "round",
      value: `${round}`,
      round,
      total: rounds + 2,
      started: begin,
      ended: begin + long,
    });
    for (let edge = 1; edge <= edges; edge++) {
      const start = begin + 600 + ((edge * 37) % 11) * 200;
      const took = 14_000 + ((edge * 53 + round * 17) % 13) * 900;
      spans.push({ name: "train", value: `${round}`, edge: `${edge}`, started: start, ended: start + took });
      spans.push({
        name: "comm_c2s",
        value: `${round}`,
        edge: `${edge}`,
        started: start + took,
        ended: start + took + 1500,
      });
    }
    spans.push({ name: "server.wait", value: `${round}`, started: begin, ended: begin + 26_000 });
    spans.push({
      name: "server.agg_and_eval",
      value: `${round}`,
      started: begin + 26_000,
      ended: begin + 29_000,
    });
  }
  if (live) spans.push({ name: "server.wait", value: `${rounds}`, started: from + 6000 + rounds * long });
  spans.push({ name: "upload", edge: "1", ended: from + 2000 });
  return spans;
}

const cells = (page: Page, selector: string) =>
  page
    .locator(selector)
    .evaluateAll((nodes) => nodes.map((node) => node.textContent!.replace(/\s+/g, " ").trim()));

const reading = (page: Page) => page.locator(".timeline-reading");

/** Whether anything but the background was drawn. */
const ink = (page: Page) =>
  page.locator(".timeline-plot canvas").evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext("2d")!.getImageData(0, 30, canvas.width, canvas.height - 30);
    const colours = new Set<number>();
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3]! > 0) colours.add((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
    return colours.size;
  });

when("the tab is there where there are spans, and comes with the first one", async () => {
  const { id } = await dashboard.api("/runs", { body: { name: "plain" } });
  const page = await dashboard.open(`/runs/${id}`);
  await page.waitForSelector(".overview");
  expect(await cells(page, ".tabs a")).not.toContain("Timeline");
  await page.waitForSelector('#live[data-state="live"], [data-state="live"]');
  await record(id, [{ name: "eval", started: NOW, ended: NOW + 1200 }]);
  await page.locator(".tabs a", { hasText: "Timeline" }).click();
  await page.waitForSelector(".spans tbody tr");
  expect(await cells(page, ".spans tbody tr:first-child td")).toEqual([
    "0.000s",
    "1.2 s",
    "Run",
    "eval",
    "Event",
  ]);
  await page.context().close();
});

when("a run without spans says at the tab's address what would be there", async () => {
  const { id } = await dashboard.api("/runs", { body: { name: "plain" } });
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector("text=No timeline yet");
  await page.context().close();
});

when("spans stand in the table in words, and what comes appears while one looks", async () => {
  const id = await createRun("fed", federated(4, 3));
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  expect(await page.locator(".timeline-summary").textContent()).toMatch(
    /^Round 3 of 5 · 30 s a round on average · 4 edges: 4 training$/,
  );
  const rows = (await cells(page, ".spans tbody tr")).join("\n");
  expect(rows).toContain("30 sRunRound 1 of 5Round");
  expect(rows).toContain("start unknownEdge 1uploadEvent");
  expect(rows).toMatch(/so farRunserver\.wait 3Event/);
  expect(await ink(page)).toBeGreaterThan(5);
  await page.waitForSelector('[data-state="live"]');
  await record(id, [{ kind: "status", name: "FAILED", edge: "2", started: NOW, ended: NOW }]);
  await page.waitForSelector("text=1 failed");
  await record(id, [{ name: "server.wait", value: "3", ended: NOW }]);
  await page.waitForFunction(
    () => !document.querySelector(".spans")!.textContent!.includes("so farRunserver.wait"),
  );
  await page.context().close();
});

when(
  "the keyboard goes from span to span and from lane to lane, zooms, and what is chosen is said",
  async () => {
    const id = await createRun("keys", federated(3, 2));
    const page = await dashboard.open(`/runs/${id}/timeline`);
    await page.waitForSelector(".spans tbody tr");
    await page.locator(".timeline-plot").focus();
    const press = async (key: string, text: RegExp) => {
      await page.keyboard.press(key);
      await page.waitForFunction(
        ([source]) => new RegExp(source!).test(document.querySelector(".timeline-reading")!.textContent!),
        [text.source],
      );
    };
    await press("ArrowRight", /^Round 1 of 4 · 30 s · at /);
    await press("ArrowRight", /^Round 2 of 4/);
    await press("ArrowDown", /^server\.\w+ 1 · Run/);
    await press("End", /^server\.wait 2 · Run · .* so far/);
    await press("ArrowDown", /· Edge 1 ·/);
    await press("Home", /^upload|^Initializing · Edge 1/);
    await page.keyboard.press("+");
    await page.getByRole("button", { name: "Reset zoom" }).waitFor();
    await page.keyboard.press("0");
    await page.getByRole("button", { name: "Reset zoom" }).waitFor({ state: "detached" });
    expect(await page.locator(".spans tr[aria-selected=true]").count()).toBe(1);
    await press("Escape", /^Drag to zoom/);
    // The table leads back to the timeline.
    await page.locator(".spans tbody button").nth(3).click();
    expect(await reading(page).textContent()).not.toContain("Drag to zoom");
    await page.context().close();
  },
);

when("a drag zooms, a click chooses, and a filter is in the address", async () => {
  const id = await createRun("mouse", federated(3, 3, { live: false, from: NOW - 100_000 }));
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  const box = (await page.locator(".timeline-plot").boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.3, box.y + 46);
  await page.waitForSelector(".timeline-tip:not([hidden])");
  expect(await page.locator(".timeline-tip").textContent()).toMatch(/^Round \d of 5/);
  await page.mouse.down();
  await page.mouse.up();
  await page.waitForFunction(() =>
    document.querySelector(".timeline-reading")!.textContent!.startsWith("Round"),
  );
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 60, { steps: 4 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Reset zoom" }).click();
  await page.getByRole("searchbox").fill("edge 2");
  await page.waitForFunction(() =>
    [...document.querySelectorAll(".spans tbody tr")].every((row) => row.textContent!.includes("Edge 2")),
  );
  expect(new URL(page.url()).search).toBe("?q=edge+2");
  await page.reload();
  await page.waitForSelector(".spans tbody tr");
  expect(await page.getByRole("searchbox").inputValue()).toBe("edge 2");
  await page.getByRole("searchbox").fill("nothing of the kind");
  await page.waitForSelector("text=None has these words.");
  await page.context().close();
});

when("names that are markup stay text", async () => {
  const id = await createRun("hostile", [
    { name: "<img src=x onerror=alert(1)>", edge: "<b>", started: NOW },
  ]);
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  expect(await page.locator(".spans img, .spans b").count()).toBe(0);
  expect((await cells(page, ".spans tbody td")).slice(2, 4)).toEqual(["<b>", "<img src=x onerror=alert(1)>"]);
  await page.context().close();
});

when("ten thousand spans are drawn, zoomed and filtered while the page stays quick", async () => {
  const id = await createRun("many", federated(100, 50, { from: NOW - 40 * MINUTE }));
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  const { count } = await dashboard.api(`/runs/${id}/spans`);
  expect(count).toBeGreaterThan(10_000);
  await page.locator(".timeline-plot").focus();
  /** The longest that the page was not there for anybody, ms. */
  const longest = await page.evaluate(async () => {
    const plot = document.querySelector<HTMLElement>(".timeline-plot")!;
    let worst = 0;
    for (let i = 0; i < 40; i++) {
      const key = i < 10 ? "+" : i < 30 ? "ArrowRight" : "-";
      const began = performance.now();
      plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      plot.scrollTop += 40;
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      worst = Math.max(worst, performance.now() - began);
    }
    return worst;
  });
  expect(longest).toBeLessThan(1000);
  expect(await page.locator(".spans tbody tr").count()).toBe(100);
  await page.getByRole("button", { name: "Show more" }).click();
  expect(await page.locator(".spans tbody tr").count()).toBe(600);
  await page.context().close();
});

for (const { size, viewport, colorScheme } of looks)
  when(`it is to be seen ${colorScheme} on the ${size}`, async () => {
    for (const [name, spans] of [
      ["few", federated(3, 4)],
      ["many", federated(100, 20, { from: NOW - 12 * MINUTE })],
      ["one", [{ name: "eval", started: NOW - 5000, ended: NOW }]],
    ] as const) {
      const id = await createRun(`${name} spans`, spans);
      const page = await dashboard.open(`/runs/${id}/timeline`, { viewport, colorScheme });
      await page.waitForSelector(".spans tbody tr");
      await page.locator(".timeline-plot").focus();
      await page.keyboard.press("ArrowRight");
      await page.waitForFunction(
        () => !document.querySelector(".timeline-reading")!.textContent!.includes("Drag"),
      );
      await screenshot(page, `timeline-${name}-${size}-${colorScheme}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
      await page.context().close();
    }
  });
