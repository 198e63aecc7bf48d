import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import { registerDevice } from "../src/device/register.ts";
import { recordUse } from "../src/device/use.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import type { NewDeviceEvent, Sample } from "../src/sample/schema.ts";
import { looks, noBrowser, openDashboard, screenshot, type Dashboard } from "./helpers/browser.ts";
import { facts, gpu } from "./helpers/device.ts";
import { createReadings, eightGpus, seedTraining, type Training } from "./helpers/hardware.ts";
import { inkByColumn } from "./helpers/ink.ts";

setDefaultTimeout(60_000);

const MIN = 60_000;
const NODE = "00112233445566aa";
const ENDING = "00112233445566dd";

let dashboard: Dashboard;
let now = 0;
let training: Training;
let run: string;

const lostGpu = gpu(3, {
  lost: true,
  states: { "gpu.utilization": { state: "lost", reason: "It has fallen off the bus." } },
});

const events = (): NewDeviceEvent[] => [
  { subject: "", time: now - 40 * MIN, kind: "sampling.ended", text: "Recording ended with the collector" },
  { subject: "", time: now - 36 * MIN, kind: "sampling.began", text: "Recording began" },
  {
    subject: "GPU-1",
    time: now - 30 * MIN,
    kind: "throttle.began",
    text: "GPU 1: clocks are held down (software power cap)",
    detail: { reasons: 4 },
  },
  {
    subject: "GPU-1",
    time: now - 22 * MIN,
    kind: "throttle.ended",
    text: "GPU 1: clocks are no longer held down",
    detail: { reasons: 0 },
  },
  {
    subject: `run/${run}`,
    time: now - 18 * MIN,
    kind: "memory.oom_kill",
    text: "A process of the run was killed for want of memory",
  },
  {
    subject: "GPU-3",
    time: now - 12 * MIN,
    kind: "gpu.xid",
    text: "GPU 3: Xid 79, it has fallen off the bus",
    detail: { xid: 79 },
  },
  { subject: "GPU-3", time: now - 12 * MIN + 800, kind: "gpu.lost", text: "GPU 3 is lost: Xid 79" },
  { subject: "GPU-7", time: now - 5 * MIN, kind: "gpu.xid", text: "GPU 7: Xid 13", detail: { xid: 13 } },
];

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
  const { collector } = dashboard.server;
  now = Math.floor(Date.now() / 1000) * 1000;
  ({ id: run } = await dashboard.api("/runs", {
    body: {
      name: "brisk-heron",
      project: "llm",
      started: now - 60 * MIN,
      writer: { client: "w", device: "node1" },
    },
  }));
  const known = { ...eightGpus(), container: true };
  known.gpus[3] = lostGpu;
  training = {
    facts: known,
    from: now - 60 * MIN,
    to: now,
    run,
    own: [0, 1, 2, 3],
    live: true,
    container: true,
    silences: [{ from: now - 40 * MIN, to: now - 36 * MIN }],
    lost: { gpu: 3, from: now - 12 * MIN, to: Infinity },
  };
  const device = await seedTraining(collector, training);
  await recordEvents(collector, device, events());
}, 120_000);
afterAll(async () => dashboard?.close(), 60_000);

let recorded = 0;

/** Goes on with the training's readings as the sampler does: of a live line that falls silent the end is a gap. */
async function recordOn(): Promise<() => Promise<void>> {
  const { collector } = dashboard.server;
  const at = createReadings(training);
  let writing = Promise.resolve();
  const record = () => {
    const samples: Sample[] = [];
    for (recorded ||= now; recorded < Date.now(); recorded += 1000) samples.push(...at(recorded));
    if (samples.length === 0) return;
    writing = writing.then(() => appendSamples(collector, collector.device, samples).then(() => {}));
    const latest = samples.at(-1)!.time;
    collector.latest.put(
      collector.device,
      samples.filter(({ time }) => time === latest),
    );
  };
  record();
  await writing;
  const timer = setInterval(record, 1000);
  return async () => {
    clearInterval(timer);
    await writing;
  };
}

const when = test.skipIf(noBrowser);
/** While the training goes on. */
const whenRecording = (name: string, body: () => Promise<void>) =>
  when(name, async () => {
    const stop = await recordOn();
    await body().finally(stop);
  });

const path = (id = run) => `/runs/${id}/hardware`;
const card = (page: Page, chart: string) => page.locator(`[data-chart="${chart}"]`);
const label = (page: Page, chart: string) => card(page, chart).locator(".plot").getAttribute("aria-label");
const drawn = (page: Page, chart: string) =>
  page.waitForFunction(
    (id) =>
      document
        .querySelector(`[data-chart="${id}"] .plot`)
        ?.getAttribute("aria-label")
        ?.includes("on average"),
    chart,
  );
const show = async (page: Page, chart: string) => {
  await card(page, chart).scrollIntoViewIfNeeded();
  await drawn(page, chart);
};
const legend = (page: Page, chart: string) => card(page, chart).locator(".legend li").allTextContents();
const hasLines = (page: Page, chart: string, count: number) =>
  page.waitForFunction(
    ([id, wanted]) => document.querySelectorAll(`[data-chart="${id}"] .legend li`).length === wanted,
    [chart, count],
  );

const inkedColumns = (page: Page, chart: string, name: string) => inkByColumn(card(page, chart), name);

when("a run shows its own GPUs, its machine and what it used; the tab has a key and an address", async () => {
  const page = await dashboard.open(`/runs/${run}`);
  await page.waitForSelector('#live[data-state="live"]');
  await page.keyboard.press("4");
  await page.waitForURL(/\/hardware$/);
  await drawn(page, "run.cpu");
  expect(await page.locator(".device-facts dd").allTextContents()).toEqual([
    "node1 in a container",
    "AMD EPYC 7763, 64 cores",
    "252 GiB",
    "4 × H100 80GB HBM3 (0–3)",
    "2.4 kWh (8640 kJ)",
    "4.00 h",
    "11 h 12 min",
    "their own control group",
  ]);
  expect(await page.locator(".chart-group h2").allTextContents()).toEqual([
    "Run6",
    "GPU metrics20",
    "Machine metrics14",
  ]);
  await show(page, "gpu.utilization");
  expect((await legend(page, "gpu.utilization")).map((text) => text.slice(0, 5))).toEqual([
    "GPU 0",
    "GPU 1",
    "GPU 2",
    "GPU 3",
  ]);
  // The address follows at once: the next thing may be a reload.
  const address = await page
    .getByRole("button", { name: "All GPUs 8" })
    .evaluate((button: HTMLButtonElement) => {
      button.click();
      return location.search;
    });
  expect(address).toBe("?gpus=all");
  await hasLines(page, "gpu.utilization", 8);
  await page.getByRole("button", { name: "GPU 5 H100 80GB HBM3" }).first().click();
  await hasLines(page, "gpu.utilization", 7);
  // Of changes in quick succession the last one a moment later.
  await page.waitForFunction(() => location.search !== "?gpus=all");
  await page.reload();
  await show(page, "gpu.utilization");
  expect((await legend(page, "gpu.utilization")).length).toBe(7);
  await page.context().close();
});

when("charts in sight ask together, once a section; the others do not ask", async () => {
  const page = await dashboard.open("/");
  // To some of the charts a second has just ended. The clock stands: a real second that ends, too, would make it two.
  await page.addInitScript(() => {
    const began = Date.now();
    let calls = 0;
    Date.now = () => began + (calls++ % 3 === 0 ? 1000 : 0);
  });
  const asked: URL[] = [];
  page.on("request", (request) => {
    if (request.url().includes("/samples?")) asked.push(new URL(request.url()));
  });
  await page.goto(dashboard.url + path());
  await drawn(page, "gpu.power");
  // Which charts there are, then the run's, the GPUs'.
  expect(asked.length).toBe(3);
  expect(asked[0]!.searchParams.get("points")).toBe("1");
  expect(asked.slice(1).map((url) => url.searchParams.get("subjects"))).toEqual([
    `run/${run}`,
    "GPU-0,GPU-1,GPU-2,GPU-3",
  ]);
  expect(await page.locator(".plot canvas").count()).toBeLessThan(20);
  await show(page, "cpu");
  expect(asked.filter((url) => url.searchParams.get("subjects") === "machine,cgroup").length).toBe(1);
  await page.context().close();
});

whenRecording("axes have units and fixed ends, a container is told from its host", async () => {
  const page = await dashboard.open(path());
  await show(page, "memory");
  expect(await legend(page, "memory")).toEqual([
    expect.stringMatching(/^Used, host\d+ GiB$/),
    expect.stringMatching(/^Used, container\d+(\.\d)? GiB$/),
    expect.stringMatching(/^Working set, container\d+(\.\d)? GiB$/),
  ]);
  expect(await card(page, "memory").locator(".legend [data-dashed]").count()).toBe(2);
  expect(await legend(page, "cpu")).toEqual([
    expect.stringMatching(/^Host[\d.]+ %$/),
    expect.stringMatching(/^Container[\d.]+ %$/),
  ]);
  expect(await label(page, "memory")).toContain("Used, host: ");
  await page.context().close();
});

whenRecording("a gap is drawn, and says why: under the crosshair, and in a list", async () => {
  const page = await dashboard.open(path());
  await show(page, "gpu.power");
  const over = (await card(page, "gpu.power").locator(".u-over").boundingBox())!;
  const at = (minutes: number) => over.x + over.width * ((60 - minutes) / 60);
  await page.mouse.move(at(38), over.y + 80);
  await page.waitForSelector(
    '[data-chart="gpu.power"] .chart-note:has-text("Recording ended with the collector")',
  );
  expect(await legend(page, "gpu.power")).toEqual(["GPU 0—", "GPU 1—", "GPU 2—", "GPU 3—"]);
  await page.mouse.move(at(6), over.y + 80);
  await page.waitForSelector('[data-chart="gpu.power"] .chart-note:has-text("GPU 3 is lost: Xid 79")');
  expect((await legend(page, "gpu.power")).at(-1)).toBe("GPU 3—");
  await page.mouse.move(5, 5);
  // Its last value is history, and not shown as the present.
  expect((await legend(page, "gpu.power")).at(-1)).toBe("GPU 3—");
  await page.getByRole("button", { name: "GPU power as a table" }).click();
  expect(await card(page, "gpu.power").locator(".gaps li").allTextContents()).toEqual([
    expect.stringMatching(
      /, 3 min 5\d s: Recording ended with the collector$|, 4 min 0\d s: Recording ended/,
    ),
    // And as long as the tests have taken.
    expect.stringMatching(/, 1[1-9] min .* GPU 3: GPU 3 is lost: Xid 79$/),
  ]);
  expect(await card(page, "gpu.power").locator("tbody th").allTextContents()).toEqual(
    [0, 1, 2, 3].map((index) => `GPU ${index} H100 80GB HBM3`),
  );
  await screenshot(page, "hardware-gap");
  await page.context().close();
});

when("a GPU that was lost for all of the window still has its line, with a gap", async () => {
  const page = await dashboard.open(`${path()}?last=5`);
  await show(page, "gpu.temperature");
  expect((await legend(page, "gpu.temperature")).at(-1)).toBe("GPU 3—");
  expect(await label(page, "gpu.temperature")).toContain("GPU 3 H100 80GB HBM3: no values");
  await page.getByRole("button", { name: "GPU temperature as a table" }).click();
  expect(await card(page, "gpu.temperature").locator(".gaps").textContent()).toContain(
    "GPU 3 is lost: Xid 79",
  );
  await page.context().close();
});

when(
  "events stand on the charts and in a list in time order; other GPUs' are no concern of this run",
  async () => {
    // With the Xid in the middle, which is between two pixels.
    const xid = now - 12 * MIN;
    const page = await dashboard.open(`${path()}?from=${xid - 30 * MIN}&to=${xid + 30 * MIN}`);
    await show(page, "gpu.power");
    const columns = await inkedColumns(page, "gpu.power", "--bad");
    const { height } = (await card(page, "gpu.power").locator(".u-over").boundingBox())!;
    // Four pixels of seven from top to foot: nothing else in that colour is half as tall as the chart.
    const marks = columns.flatMap((count, at) => (count > height / 2 ? [at] : []));
    // The Xid and the loss, which came within a second.
    expect(marks).toEqual([columns.length / 2]);
    expect(await page.locator(".events .severity").allTextContents()).toEqual([
      "Sampling ended",
      "Sampling began",
      "Throttling began",
      "Throttling ended",
      "Out of memory",
      "Xid 79",
      "GPU lost",
    ]);
    await page.locator(".events .link").nth(2).click();
    await page.waitForFunction(
      (from) => new URLSearchParams(location.search).get("from") === from,
      String(now - 32 * MIN),
    );
    await page.context().close();
  },
);

when("a drag zooms all charts, the crosshair is shared, Escape goes back; ranges are buttons", async () => {
  const page = await dashboard.open(path());
  await drawn(page, "run.memory");
  const over = (await card(page, "run.cpu").locator(".u-over").boundingBox())!;
  await page.mouse.move(over.x + over.width * 0.5, over.y + 60);
  await page.waitForFunction(
    () => (document.querySelector('[data-chart="run.memory"] .reading')?.textContent ?? "") !== "",
  );
  await page.mouse.move(over.x + over.width * 0.1, over.y + 60);
  await page.mouse.down();
  await page.mouse.move(over.x + over.width * 0.2, over.y + 60);
  await page.mouse.move(over.x + over.width * 0.3, over.y + 60);
  await Promise.all([
    page.waitForRequest(
      (request) => request.url().includes("run.memory.rss") && request.url().includes("from="),
    ),
    page.mouse.up(),
  ]);
  await page.waitForSelector("#reset-zoom");
  await page.waitForFunction(() => location.search.includes("from="));
  const params = new URL(page.url()).searchParams;
  const minutes = (Number(params.get("to")) - Number(params.get("from"))) / MIN;
  expect(minutes).toBeGreaterThan(10);
  expect(minutes).toBeLessThan(14);
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => location.search === "");
  await page.getByRole("button", { name: "Last 15 min" }).click();
  await page.waitForFunction(() => location.search === "?last=15");
  await drawn(page, "run.cpu");
  expect(await page.getByRole("button", { name: "Last 15 min" }).getAttribute("aria-pressed")).toBe("true");
  await page.context().close();
});

when("a line is left out by its name in the legend, and the axis no longer follows it", async () => {
  const page = await dashboard.open(path());
  await drawn(page, "run.memory");
  const before = await inkedColumns(page, "run.memory", "--series-1");
  await card(page, "run.memory").getByRole("button", { name: "Resident" }).click();
  await page.waitForSelector('[data-chart="run.memory"] .legend button[aria-pressed="false"]');
  const [hidden, other] = await Promise.all(
    ["--series-1", "--series-2"].map((name) => inkedColumns(page, "run.memory", name)),
  );
  const filled = (columns: number[]) => columns.filter(Boolean).length;
  expect(filled(before)).toBeGreaterThan(before.length / 2);
  expect(filled(hidden!)).toBe(0);
  expect(filled(other!)).toBeGreaterThan(other!.length / 2);
  await page.context().close();
});

/** Ticks until the chart of threads shows it: the page may only just be opening its stream. */
async function hears(page: Page, tick: () => void, shown: string): Promise<void> {
  const timer = setInterval(tick, 200);
  try {
    await page.waitForFunction(
      (text) => document.querySelector('[data-chart="run.threads"] .legend li')?.textContent === text,
      shown,
    );
  } finally {
    clearInterval(timer);
  }
}

/** The page ends its stream of the device. */
const streamCloses = (page: Page) =>
  page.waitForEvent("requestfailed", (request) => request.url().includes("/devices/live?"));

when("charts grow live, without asking; a hidden tab closes its stream and catches up", async () => {
  const page = await dashboard.open(`${path()}?last=5`);
  await drawn(page, "run.cpu");
  const { collector } = dashboard.server;
  const put = (threads: number) =>
    collector.latest.put(
      collector.device,
      createReadings(training)(Date.now()).map((sample) =>
        sample.subject.startsWith("run/")
          ? { ...sample, values: { ...sample.values, "run.threads": threads } }
          : sample,
      ),
    );
  await show(page, "run.threads");
  let asked = 0;
  page.on("request", (request) => {
    if (request.url().includes("run.threads")) asked++;
  });
  await hears(page, () => put(345), "Threads345");
  expect(asked).toBe(0);
  await recordEvents(collector, collector.device, [
    { subject: `run/${run}`, time: Date.now(), kind: "memory.oom_kill", text: "Killed just now" },
  ]);
  await page.waitForSelector(".events td:has-text('Killed just now')");
  const setHidden = (hidden: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  const closed = streamCloses(page);
  await setHidden(true);
  await page.waitForSelector('#live[data-state="paused"]', { timeout: 10_000 });
  await closed;
  put(999);
  await page.waitForTimeout(400);
  expect(await legend(page, "run.threads")).toEqual(["Threads345"]);
  const again = page.waitForRequest((request) => request.url().includes("/samples?"));
  await setHidden(false);
  await again;
  await page.context().close();
});

when("a chart that asks twice at once, as at a double click, goes on growing", async () => {
  const { collector } = dashboard.server;
  const { id } = await dashboard.api("/runs", { body: { name: "lonely", project: "llm" } });
  const subject = `run/${id}`;
  const device = "00112233445566ee";
  const reading = (threads: number) => [{ subject, time: Date.now(), values: { "run.threads": threads } }];
  const known = facts({ gpus: [] });
  await seedTraining(collector, {
    device,
    facts: known,
    from: now - MIN,
    to: now - MIN,
    run: id,
    live: true,
  });
  await appendSamples(collector, device, reading(7));
  const page = await dashboard.open(path(id));
  await drawn(page, "run.threads");
  expect(await page.locator(".chart-card").count()).toBe(1);
  await page.getByRole("button", { name: "Last 5 min" }).evaluate((button: HTMLButtonElement) => {
    button.click();
    button.click();
  });
  await hears(page, () => collector.latest.put(device, reading(8)), "Threads8");
  await page.context().close();
});

when("a run that ends stands still: its charts end where it did, and its stream is closed", async () => {
  const { collector } = dashboard.server;
  const from = now - 5 * MIN;
  const { id } = await dashboard.api("/runs", { body: { name: "ending", project: "llm", started: from } });
  const known = facts({ gpus: [] });
  const device = await seedTraining(collector, {
    device: ENDING,
    facts: known,
    from,
    to: now,
    run: id,
    live: true,
  });
  const page = await dashboard.open(path(id));
  await drawn(page, "run.cpu");
  await page.waitForSelector('#live[data-state="live"]');
  const put = (threads: number) =>
    collector.latest.put(device, [
      { subject: `run/${id}`, time: Date.now(), values: { "run.threads": threads } },
    ]);
  await hears(page, () => put(11), "Threads11");
  await recordUse(collector, device, {
    run: id,
    from,
    to: now,
    attribution: "cgroup",
    cpuSeconds: 61,
    gpus: {},
    note: null,
  });
  // What else there is to know comes late.
  const rest = Promise.withResolvers<void>();
  await page.route(/\/events\?/, async (route) => {
    await rest.promise;
    await route.continue();
  });
  const closed = streamCloses(page);
  await dashboard.api(`/runs/${id}/finish`, { body: {} });
  await page.waitForSelector(".device-facts dd:has-text('1 min 01 s')");
  await page.waitForFunction(
    () => document.querySelector('[data-chart="run.threads"] .legend li')?.textContent === "Threads212",
  );
  put(12);
  await page.waitForTimeout(600);
  expect(await legend(page, "run.threads")).toEqual(["Threads212"]);
  await closed;
  rest.resolve();
  await page.context().close();
});

when("several machines: one is chosen, by its name and in the address", async () => {
  const { collector } = dashboard.server;
  const { id } = await dashboard.api("/runs", { body: { name: "two nodes", project: "llm" } });
  const life = { run: id, from: now - 10 * MIN, to: now - 2 * MIN };
  for (const device of [collector.device, NODE]) {
    if (device === NODE)
      await seedTraining(collector, {
        device,
        facts: facts({ name: "node2", gpus: [] }),
        from: life.from,
        to: life.to,
        every: 5000,
        run: id,
      });
    else
      await recordUse(collector, device, {
        ...life,
        from: life.from - MIN,
        attribution: "environment",
        cpuSeconds: 12,
        gpus: {},
        note: "CUDA_VISIBLE_DEVICES names a GPU that this machine does not have.",
      });
  }
  const page = await dashboard.open(path(id));
  await page.waitForSelector("text=CUDA_VISIBLE_DEVICES names a GPU");
  await page.waitForSelector("text=No GPU is known to be the run’s");
  await page.selectOption("#device", { label: "node2" });
  await page.waitForSelector(".device-facts:has-text('node2')");
  await drawn(page, "run.cpu");
  await page.waitForFunction((node) => location.search === `?device=${node}`, NODE);
  expect(await page.locator("[data-chart^='gpu.']").count()).toBe(0);
  await page.context().close();
});

when("GPUs that can't be read are said to be so, with what to do", async () => {
  const { collector } = dashboard.server;
  const { id } = await dashboard.api("/runs", { body: { name: "mismatched", project: "llm" } });
  const device = "00112233445566bb";
  const gpuReader = {
    ...facts().gpu_reader,
    status: "mismatch" as const,
    reason: "The library is 550.90, the kernel module 550.54.",
    advice: "Reboot the machine, or reload the nvidia modules.",
  };
  await seedTraining(collector, {
    device,
    facts: facts({ name: "node3", gpus: [], gpu_reader: gpuReader }),
    from: now - 5 * MIN,
    to: now,
    run: id,
  });
  const page = await dashboard.open(path(id));
  const notice = page.locator('[aria-label="GPU metrics"] .notice');
  await notice.waitFor();
  expect(await notice.textContent()).toBe(
    "The library is 550.90, the kernel module 550.54. Reboot the machine, or reload the nvidia modules.",
  );
  await page.context().close();
});

when("where nothing was recorded the tab says why, and fills itself", async () => {
  const { collector } = dashboard.server;
  const { id } = await dashboard.api("/runs", {
    body: { name: "elsewhere", project: "llm", writer: { client: "w", device: "node9" } },
  });
  const page = await dashboard.open(path(id));
  await page.waitForSelector("h2:has-text('The run is on another machine')");
  await screenshot(page, "hardware-none");
  await recordUse(collector, collector.device, {
    run: id,
    from: now - 5 * MIN,
    to: null,
    attribution: "descendants",
    cpuSeconds: 1,
    gpus: {},
    note: null,
  });
  await drawn(page, "cpu");
  await page.goto(`${dashboard.url}${path(id)}?from=1000&to=9000`);
  await page.getByRole("button", { name: "Show the whole run" }).click();
  await drawn(page, "cpu");
  await page.context().close();
});

when("hardware that is off is said to be off", async () => {
  const other = await openDashboard();
  const { id } = await other.api("/runs", { body: { name: "plain", project: "p" } });
  const page = await other.open(path(id));
  await page.waitForSelector("h2:has-text('This collector records no hardware')");
  await page.goto(`${other.url}/devices`);
  await page.waitForSelector("h2:has-text('No machine yet')");
  await other.close();
});

when("names from outside stay text", async () => {
  const { collector } = dashboard.server;
  const evil = `<img src=x onerror="window.pwned=1">`;
  const device = "00112233445566cc";
  const { id } = await dashboard.api("/runs", { body: { name: "evil", project: "p" } });
  const known = facts({ name: evil, processor: evil, gpus: [gpu(0, { name: evil })] });
  await seedTraining(collector, { device, facts: known, from: now - 5 * MIN, to: now, run: id });
  await registerDevice(collector, device, known);
  await recordEvents(collector, device, [
    { subject: "", time: now - MIN, kind: "memory.oom_kill", text: evil },
    { subject: "GPU-0", time: now - MIN, kind: "gpu.xid", text: evil, detail: { xid: evil } },
  ]);
  const page = await dashboard.open(path(id));
  await show(page, "gpu.power");
  expect(await page.locator(".events .what").allTextContents()).toEqual([evil, evil]);
  await page.goto(`${dashboard.url}/devices`);
  await page.waitForSelector(".gpu-tile");
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(await page.locator("main img").count()).toBe(0);
  await page.context().close();
});

when(
  "pictures, by day, by night and on a phone; nothing sticks out to the side, no control is nameless",
  async () => {
    for (const { size, viewport, colorScheme } of looks) {
      const page = await dashboard.open(path(), { colorScheme, viewport });
      await drawn(page, "run.cpu");
      await page.waitForTimeout(400);
      const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(width!, `hardware on a ${size}`).toBeLessThanOrEqual(room!);
      await screenshot(page, `hardware-${size}-${colorScheme}`);
      await show(page, "gpu.utilization");
      await page.waitForTimeout(400);
      await screenshot(page, `hardware-gpus-${size}-${colorScheme}`);
      expect(await page.locator("h1").count()).toBe(1);
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll("button, input, select, a")]
          .filter((element) => {
            const labels = (element as HTMLInputElement).labels;
            const text = element.textContent?.trim() || element.getAttribute("aria-label") || "";
            return !text && !(labels && labels.length > 0);
          })
          .map((element) => element.outerHTML),
      );
      expect(nameless).toEqual([]);
      await page.context().close();
    }
  },
);
