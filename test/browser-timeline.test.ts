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
    expect(await page.locator(".spans tr[aria-current=true]").count()).toBe(1);
    await press("Escape", /^Drag to zoom/);
    // The table leads back to the timeline.
    await page.locator(".spans tbody button").nth(3).click();
    expect(await reading(page).textContent()).not.toContain("Drag to zoom");
    await page.context().close();
  },
);

when("what is chosen is said once, though it goes on", async () => {
  const id = await createRun("said", [{ name: "eval", started: Date.now() - 5000 }]);
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  await page.evaluate(() => {
    const said: string[] = [];
    Object.assign(globalThis, { said });
    new MutationObserver(() => {
      const text = document.querySelector(".timeline [aria-live]")!.textContent!;
      if (said.at(-1) !== text) said.push(text);
    }).observe(document.querySelector(".timeline")!, { subtree: true, childList: true, characterData: true });
  });
  await page.locator(".timeline-plot").focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() =>
    document.querySelector(".timeline-reading")!.textContent!.includes("eval"),
  );
  const before = await reading(page).textContent();
  await page.waitForFunction(
    (before) => document.querySelector(".timeline-reading")!.textContent !== before,
    before,
  );
  expect(await page.evaluate(() => (globalThis as unknown as { said: string[] }).said)).toEqual([
    expect.stringMatching(/^eval · Run · [\d.]+ s so far/),
  ]);
  await page.context().close();
});

when("what is heard while the page asks for its spans is not lost", async () => {
  const id = await createRun("meanwhile", [{ name: "before", started: NOW, ended: NOW + 10 }]);
  const page = await dashboard.open("/");
  await page.addInitScript(() => {
    const add = EventSource.prototype.addEventListener;
    EventSource.prototype.addEventListener = function (this: EventSource, ...given: [string, never]) {
      add.apply(this, given);
      if (given[0] === "span")
        add.call(this, "span", () => Object.assign(document.documentElement.dataset, { heard: "yes" }));
    } as typeof add;
  });
  const asked = Promise.withResolvers<void>();
  const recorded = Promise.withResolvers<void>();
  let count = 0;
  await page.route(`**/api/v1/runs/${id}/spans?*`, async (route) => {
    // What is asked for later would bring it.
    if (++count > 1) return;
    const response = await route.fetch();
    asked.resolve();
    await recorded.promise;
    await route.fulfill({ response });
  });
  await page.goto(`${dashboard.url}/runs/${id}/timeline`);
  await asked.promise;
  await page.waitForSelector('[data-state="live"]');
  await record(id, [{ name: "meanwhile", started: NOW + 20, ended: NOW + 30 }]);
  await page.waitForSelector("html[data-heard]");
  recorded.resolve();
  await page.waitForSelector(".spans tbody tr");
  expect(await cells(page, ".spans td.what")).toEqual(["before", "meanwhile"]);
  await page.context().close();
});

when("a refresh that fails says so, and leaves the timeline and its zoom", async () => {
  const id = await createRun("flaky", federated(2, 3, { live: false }));
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.waitForSelector(".spans tbody tr");
  await page.waitForSelector('[data-state="live"]');
  await page.locator(".timeline-plot").focus();
  await page.keyboard.press("+");
  await page.getByRole("button", { name: "Reset zoom" }).waitFor();
  const plot = await page.locator(".timeline-plot").elementHandle();
  let fails = true;
  await page.route(`**/api/v1/runs/${id}/spans?*`, (route) => (fails ? route.abort() : route.continue()));
  // More than one live event holds: the page asks.
  const many = (name: string) =>
    Promise.all(
      [1, 2, 3].map((part) =>
        record(
          id,
          Array.from({ length: 1000 }, (_, i) => ({ name, value: `${part} ${i}`, started: NOW, ended: NOW })),
        ),
      ),
    );
  await many("first");
  await page.waitForSelector(".notice.bad");
  expect(await page.getByRole("button", { name: "Reset zoom" }).count()).toBe(1);
  fails = false;
  await many("second");
  await page.waitForSelector(".notice.bad", { state: "detached" });
  expect(await plot!.evaluate((node) => node.isConnected)).toBe(true);
  expect(await page.locator(".timeline-plot canvas").count()).toBe(1);
  expect(await page.getByRole("button", { name: "Reset zoom" }).count()).toBe(1);
  page.complaints = page.complaints.filter((text) => !text.includes("ERR_FAILED"));
  await page.context().close();
});

when("a short span beside one that goes on for hours is zoomed to from the table, and by Enter", async () => {
  const from = NOW - 600 * MINUTE;
  const id = await createRun("squeezed", [
    { name: "wait", started: from },
    { name: "step", started: from + MINUTE, ended: from + MINUTE + 2000 },
  ]);
  const page = await dashboard.open(`/runs/${id}/timeline`);
  await page.locator(".spans tbody tr", { hasText: "step" }).getByRole("button").click();
  const box = (await page.locator(".timeline-plot").boundingBox())!;
  /** Two fifths from the left it is there, and was a hair before. */
  const hover = async () => {
    await page.mouse.move(box.x + 150, box.y + 2);
    await page.mouse.move(box.x + 150 + (box.width - 150) * 0.45, box.y + 66);
    await page.waitForSelector(".timeline-tip:not([hidden])");
    return page.locator(".timeline-tip").textContent();
  };
  expect(await hover()).toStartWith("step · Run · 2.0 s");
  await page.getByRole("button", { name: "Reset zoom" }).click();
  await page.locator(".timeline-plot").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Reset zoom" }).waitFor();
  expect(await hover()).toStartWith("step · Run · 2.0 s");
  await page.context().close();
});

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
  const devtools = await page.context().newCDPSession(page);
  // A machine that is busy otherwise counts for nothing.
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration")!.value * 1000;
  };
  /** The most that a press of a key took of the page's thread, ms. */
  let longest = 0;
  for (let i = 0; i < 40; i++) {
    const before = await busy();
    await page.locator(".timeline-plot").evaluate(
      async (plot, key) => {
        plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        plot.scrollTop += 40;
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      },
      i < 10 ? "+" : i < 30 ? "ArrowRight" : "-",
    );
    longest = Math.max(longest, (await busy()) - before);
  }
  expect(longest).toBeGreaterThan(0);
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
      const broken = await page
        .locator(".spans bdi", { hasText: /^(Initializing|Training|Edge \d+)$/ })
        .evaluateAll((words) => words.filter((word) => word.getClientRects().length > 1).length);
      expect(broken).toBe(0);
      const wrap = page.locator(".spans .table-wrap");
      expect(await wrap.evaluate((wrap) => wrap.scrollWidth <= wrap.clientWidth)).toBe(true);
      await page.context().close();
    }
  });
