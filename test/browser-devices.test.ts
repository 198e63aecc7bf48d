import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { eq } from "drizzle-orm";
import type { Page } from "playwright-core";
import { registerDevice } from "../src/device/register.ts";
import { recordEvents } from "../src/sample/event.ts";
import { device as deviceTable } from "../src/store/tables.ts";
import { looks, noBrowser, openDashboard, screenshot, type Dashboard } from "./helpers/browser.ts";
import { facts, gpu } from "./helpers/device.ts";
import { createReadings, eightGpus, seedTraining, type Training } from "./helpers/hardware.ts";

setDefaultTimeout(60_000);

const MIN = 60_000;
const OLD = "00112233445566aa";

let dashboard: Dashboard;
let training: Training;
let run: string;
let now = 0;

const known = () => {
  const machine = eightGpus();
  machine.gpus[3] = gpu(3, {
    lost: true,
    states: { "gpu.utilization": { state: "lost", reason: "It has fallen off the bus." } },
  });
  return machine;
};

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
  const { collector } = dashboard.server;
  now = Math.floor(Date.now() / 1000) * 1000;
  ({ id: run } = await dashboard.api("/runs", { body: { name: "brisk-heron", project: "llm" } }));
  training = {
    facts: known(),
    from: now - 30 * MIN,
    to: now,
    every: 2000,
    run,
    own: [0, 1],
    live: true,
    lost: { gpu: 3, from: now - 12 * MIN, to: Infinity },
  };
  await seedTraining(collector, training);
  await recordEvents(collector, collector.device, [
    { subject: "GPU-3", time: now - 12 * MIN, kind: "gpu.lost", text: "GPU 3 is lost: Xid 79" },
    { subject: `run/${run}`, time: now - 5 * MIN, kind: "memory.oom_kill", text: "A process was killed" },
  ]);
  await seedTraining(collector, {
    device: OLD,
    facts: facts({
      name: "node7",
      gpus: [],
      gpu_reader: {
        ...facts().gpu_reader,
        status: "mismatch",
        reason: "The library is 550.90, the kernel module 550.54.",
        advice: "Reboot the machine, or reload the nvidia modules.",
      },
    }),
    from: now - 300 * MIN,
    to: now - 240 * MIN,
    every: 10_000,
  });
  // As an upgrade leaves it: heard of hours ago.
  await collector.db
    .update(deviceTable)
    .set({ lastSeen: now - 240 * MIN })
    .where(eq(deviceTable.id, OLD));
}, 120_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

const tile = (page: Page, name: string) => page.locator(`.device-tile[aria-label="${name}"]`);
const gpuTile = (page: Page, uuid: string) => page.locator(`[data-gpu="${uuid}"]`);

function startTicks(): () => void {
  const { collector } = dashboard.server;
  const at = createReadings(training);
  const tick = () => collector.latest.put(collector.device, at(Date.now()));
  tick();
  const timer = setInterval(tick, 1000);
  return () => clearInterval(timer);
}

when("a tile a machine and a GPU: the present, the last minutes, the runs on it", async () => {
  const stop = startTicks();
  const page = await dashboard.open("/");
  await page.getByRole("link", { name: "Devices" }).click();
  await page.waitForURL(/\/devices$/);
  expect(await page.locator("header nav [aria-current]").textContent()).toBe("Devices");
  await page.waitForSelector('.device-tile[data-fresh="live"]');
  await page.waitForFunction(() => document.querySelectorAll(".gpu-tile .spark path").length >= 7);
  const gauges = await gpuTile(page, "GPU-0").locator(".gauges > div").allTextContents();
  expect(gauges).toEqual([
    expect.stringMatching(/^Use[\d.]+ %$/),
    expect.stringMatching(/^Memory69(\.\d)? GiB of 79.6 GiB$/),
    expect.stringMatching(/^Power\d+ of 700 W$/),
    expect.stringMatching(/^Temperature[\d.]+ °C$/),
  ]);
  expect(await gpuTile(page, "GPU-0").locator(".gpu-state").textContent()).toBe(
    "Clocks held down: power cap",
  );
  const machine = await tile(page, "node1").locator(".device-machine .gauges > div").allTextContents();
  expect(machine.map((text) => text.replace(/[\d.].*/, ""))).toEqual([
    "Processor",
    "Memory",
    "Disks",
    "Network",
  ]);
  const spark = await gpuTile(page, "GPU-0").locator(".spark path").getAttribute("d");
  // A value for each five seconds of five minutes, without holes.
  expect(spark!.match(/L/g)!.length).toBeGreaterThan(50);
  expect(spark!.match(/M/g)!.length).toBeLessThan(3);
  const before = await tile(page, "node1").locator(".device-machine dd").first().textContent();
  await page.waitForFunction(
    (text) => document.querySelector(".device-machine dd")?.textContent !== text,
    before,
  );
  expect(await tile(page, "node1").locator(".device-runs a").textContent()).toBe("brisk-heron");
  stop();
  await page.context().close();
});

when("a lost GPU says why, a silent machine how long; neither shows a value", async () => {
  const page = await dashboard.open("/devices");
  await page.waitForSelector(".device-tile");
  expect(await gpuTile(page, "GPU-3").locator(".gpu-state").textContent()).toBe(
    "Lost: It has fallen off the bus.",
  );
  expect(await gpuTile(page, "GPU-3").locator("dd").allTextContents()).toEqual(["—", "—"]);
  const old = tile(page, "node7");
  expect(await old.getAttribute("data-fresh")).toBe("offline");
  expect(await old.locator(".fresh").textContent()).toBe("Offline, last seen 4 h ago");
  expect(await old.locator(".device-machine dd").allTextContents()).toEqual(["—", "—"]);
  expect(await old.locator(".notice").textContent()).toContain("Reboot the machine");
  await page.context().close();
});

when("a machine that falls silent loses its values, and its tile its colour", async () => {
  const stop = startTicks();
  const page = await dashboard.open("/devices");
  await page.waitForSelector('.device-tile[aria-label="node1"][data-fresh="live"]');
  stop();
  await page.waitForSelector('.device-tile[aria-label="node1"][data-fresh="stale"]', { timeout: 30_000 });
  await page.waitForFunction(
    () => document.querySelector('[data-gpu="GPU-0"] dd')?.textContent === "—",
    undefined,
    { timeout: 20_000 },
  );
  await page.context().close();
});

when("what changes about a machine shows by itself: a GPU that is back, a run that begins", async () => {
  const { collector } = dashboard.server;
  const page = await dashboard.open("/devices");
  await page.waitForSelector('#live[data-state="live"]');
  const healed = eightGpus();
  await registerDevice(collector, collector.device, healed);
  await page.waitForSelector('[data-gpu="GPU-3"] .gpu-state', { state: "detached" });
  const { id } = await dashboard.api("/runs", { body: { name: "latecomer", project: "llm" } });
  await seedTraining(collector, {
    facts: healed,
    from: now - MIN,
    to: now,
    every: 10_000,
    run: id,
    live: true,
  });
  await page.waitForSelector('.device-runs a:has-text("latecomer")');
  await registerDevice(collector, collector.device, known());
  await page.waitForSelector('[data-gpu="GPU-3"] .gpu-state');
  await dashboard.api(`/runs/${id}/finish`, { body: {} });
  await page.waitForSelector('.device-runs a:has-text("latecomer")', { state: "detached" });
  await page.context().close();
});

when("without scripts the tiles are there all the same", async () => {
  const page = await dashboard.open("/devices", { javaScriptEnabled: false });
  expect(await page.locator(".device-tile").count()).toBe(2);
  expect(await page.locator(".gpu-tile").count()).toBe(8);
  await page.getByRole("link", { name: "node7" }).click();
  expect(await page.locator("h1").textContent()).toBe("node7");
  await page.context().close();
});

when("a machine's own page has its charts without a run, time ranges and all its events", async () => {
  const { collector } = dashboard.server;
  const stop = startTicks();
  const page = await dashboard.open(`/devices/${collector.device}`);
  const drawn = (chart: string) =>
    page.waitForFunction(
      (id) =>
        document
          .querySelector(`[data-chart="${id}"] .plot`)
          ?.getAttribute("aria-label")
          ?.includes("on average"),
      chart,
    );
  await drawn("gpu.utilization");
  expect(await page.locator(".chart-group h2").allTextContents()).toEqual([
    "GPU metrics20",
    "Machine metrics13",
  ]);
  expect(await page.locator('[data-chart="gpu.utilization"] .legend li').count()).toBe(8);
  expect(await page.getByRole("button", { name: "Last 1 h" }).getAttribute("aria-pressed")).toBe("true");
  expect(await page.locator(".events .what").allTextContents()).toEqual([
    "GPU 3 is lost: Xid 79",
    "A process was killed",
  ]);
  await page.waitForSelector('.device-head .fresh[data-fresh="live"]');
  expect(await page.locator(".device-head .device-runs a").first().getAttribute("href")).toBe(
    `/runs/${run}/hardware`,
  );
  await page.getByRole("button", { name: "Last 5 min" }).click();
  await page.waitForFunction(() => location.search === "?last=5");
  // What was so when the window began is known: the GPU was lost before it.
  await page.getByRole("button", { name: "GPU utilization as a table" }).click();
  await page.waitForSelector('[data-chart="gpu.utilization"] .gaps:has-text("GPU 3 is lost: Xid 79")');
  stop();
  await page.keyboard.press("u");
  await page.waitForURL(/\/devices$/);
  await page.context().close();
});

when(
  "a machine that is not there is an error a person can read; its beginning is enough to find one",
  async () => {
    const page = await dashboard.open(`/devices/${OLD.slice(0, 6)}`);
    expect(await page.locator("h1").textContent()).toBe("node7");
    await page.goto(`${dashboard.url}/devices/nowhere`);
    expect(await page.locator("h2").textContent()).toBe("Not found");
    page.complaints = page.complaints.filter((text) => !/status of 404/.test(text));
    await page.context().close();
  },
);

when("pictures, by day, by night and on a phone; nothing sticks out to the side", async () => {
  const stop = startTicks();
  for (const { size, viewport, colorScheme } of looks) {
    const page = await dashboard.open("/devices", { colorScheme, viewport });
    for (const [name, path] of [
      ["devices", "/devices"],
      ["device", `/devices/${dashboard.server.collector.device}`],
    ] as const) {
      await page.goto(dashboard.url + path);
      await page.waitForSelector(name === "devices" ? ".spark path" : ".plot canvas");
      await page.waitForTimeout(1200);
      const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(width!, `${name} on a ${size}`).toBeLessThanOrEqual(room!);
      expect(await page.locator("h1").count()).toBe(1);
      await screenshot(page, `${name}-${size}-${colorScheme}`);
    }
    await page.context().close();
  }
  stop();
});
