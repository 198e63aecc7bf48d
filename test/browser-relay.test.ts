import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { createLetterBox } from "../src/relay/letters.ts";
import { logFiles, modelFiles } from "./helpers/artifacts.ts";
import {
  createWriter,
  looks,
  noBrowser,
  openDashboard,
  screenshot,
  type Dashboard,
  type TestPage,
} from "./helpers/browser.ts";
import { facts } from "./helpers/device.ts";

setDefaultTimeout(60_000);

const HOSTILE = `<img src=x onerror=alert(1)>`;
const GONE_MS = 7_500_000;

/** Where things are recorded, and where all of it goes. */
let machine: Dashboard;
let platform: Dashboard;
let run: string;
/** The platform's clock is ahead of the world's by so much. */
let ahead = 0;

const when = test.skipIf(noBrowser);

beforeAll(async () => {
  if (noBrowser) return;
  platform = await openDashboard({ platform: true, now: () => Date.now() + ahead });
  machine = await openDashboard({ relays: true });
}, 60_000);
// The one that sends first: its last words need somebody to say them to.
afterAll(async () => {
  await machine?.close();
  await platform?.close();
}, 60_000);

const isLive = (page: TestPage) => page.waitForSelector('#live[data-state="live"]');
const says = (page: TestPage, selector: string, text: string) =>
  page.waitForSelector(`${selector}:has-text(${JSON.stringify(text)})`);
const state = (page: TestPage, word: string) => says(page, ".relay-state", word);

const addRelay = async (more: object = {}) => {
  const { token } = await platform.api("/sources", { body: { name: "gpu7" } });
  return machine.api("/relays", { body: { name: "lab", url: platform.url, token, ...more } });
};

/** All that the machine has is on the platform. */
async function arrived(): Promise<void> {
  for (;;) {
    const { relays } = await machine.api("/relays");
    if (relays[0].state === "idle" && relays[0].backlog.entries === 0 && relays[0].content?.files === 0)
      return;
    await Bun.sleep(20);
  }
}

when("empty pages say what to type; who is no platform has no sources", async () => {
  const relay = await machine.open("/relay");
  expect(await relay.locator("header nav [aria-current]").textContent()).toBe("Relay");
  expect(await relay.locator("h2").textContent()).toBe("Nothing leaves this collector");
  expect((await relay.locator("pre").allTextContents()).join("\n")).toContain(
    "binnacle relay add lab https://",
  );
  expect(await relay.getByRole("link", { name: "Sources" }).count()).toBe(0);
  await relay.goto(`${machine.url}/sources`);
  expect(await relay.locator("h2").textContent()).toBe("Not found");
  relay.complaints = [];
  await relay.context().close();

  const sources = await platform.open("/");
  await sources.getByRole("link", { name: "Sources" }).click();
  await sources.waitForSelector("text=Nobody relays here yet");
  const commands = await sources.locator("pre").allTextContents();
  expect(commands[0]).toContain("binnacle source add NAME");
  expect(commands[1]).toBe(`binnacle relay add platform ${platform.url} --token-file token`);
  await sources.context().close();
});

when("a destination that is added shows by itself how it fares, and the platform what comes", async () => {
  const { collector } = machine.server;
  ({ id: run } = await machine.api("/runs", {
    body: { name: HOSTILE, project: "digits", writer: { client: "w1", device: "gpu7.cluster" } },
  }));
  await createWriter(machine, run).records([{ step: 1, metrics: { loss: 0.5 } }]);
  await registerDevice(collector, collector.device, facts({ name: HOSTILE }));
  await logFiles(collector, run, "digits", { files: modelFiles(1) });
  await platform.api("/runs", { body: { name: "ours", project: "digits" } });

  const relay = await machine.open("/relay");
  const sources = await platform.open("/sources");
  const list = await platform.open("/");
  await isLive(relay);
  await addRelay();
  await state(relay, "Up to date");
  await arrived();
  expect(await relay.locator(".relay-facts").textContent()).toContain("everything, exactly once");

  await says(sources, "tr[data-source=gpu7] .fresh", "Connected");
  await says(sources, ".source-tokens", "In use");
  await list.waitForSelector("tr:has(.source:has-text('gpu7')) >> text=<img");
  await list.selectOption("select[name=source]", ".");
  await says(list, ".list-head .count", "1 run");
  await list.selectOption("select[name=source]", "gpu7");
  await says(list, ".runs .run-name", HOSTILE);
  expect(new URL(list.url()).search).toBe("?source=gpu7");
  await list.goto(platform.url);
  expect(await list.locator("select[name=device]").count()).toBe(0);

  await list.goto(`${platform.url}/runs/${run}`);
  await isLive(list);
  expect(await list.locator(".run-title .source").textContent()).toContain("gpu7");
  expect(await list.locator(".facts").textContent()).toMatch(
    /gpu7 on .+, connected\. It is stopped there, not here\./,
  );
  expect(await list.getByRole("button", { name: "Stop" }).count()).toBe(0);
  await list.goto(`${platform.url}/devices?source=gpu7`);
  expect(await list.locator(".device-tile h2").textContent()).toBe(HOSTILE);
  await list.selectOption("select[name=source]", ".");
  await list.waitForURL(/source=\.$/);
  await list.waitForSelector("text=No device of this source.");
  await list.goto(`${platform.url}/models?source=gpu7`);
  expect(await list.locator(".names .source").textContent()).toContain("gpu7");
  await list.locator(".newest a").click();
  await list.waitForSelector("text=binnacle model get --source gpu7 digits:v1");
  for (const page of [relay, sources, list]) await page.context().close();
});

when("a device chosen above the runs leaves those that ran there, whoever relayed them", async () => {
  const theirs = "b".repeat(16);
  const ours = "c".repeat(16);
  await registerDevice(machine.server.collector, theirs, facts({ name: "gpu7-b" }));
  await machine.api("/runs", { body: { name: "theirs", writer: { client: "w2", device: "gpu7-b" } } });
  await registerDevice(platform.server.collector, ours, facts({ name: "bench" }));
  await platform.api("/runs", { body: { name: "here", writer: { client: "w3", device: "bench" } } });
  await arrived();

  const list = await platform.open("/");
  await isLive(list);
  const shown = () => list.locator(".runs .run-name").allTextContents();
  expect(await shown()).toHaveLength(4);
  const choices = await list.locator("select[name=device] option").allTextContents();
  expect(choices.toSorted()).toEqual(
    ["All devices", "bench", `${HOSTILE} (gpu7)`, "gpu7-b (gpu7)"].toSorted(),
  );

  await list.selectOption("select[name=device]", { label: "gpu7-b (gpu7)" });
  await says(list, ".list-head .count", "1 run");
  expect(await shown()).toEqual(["theirs"]);
  expect(new URL(list.url()).search).toBe(`?device=${theirs}`);
  await list.selectOption("select[name=device]", { label: "bench" });
  await says(list, ".runs .run-name", "here");
  expect(await shown()).toEqual(["here"]);
  // With a source beside it nothing is left; a reload shows the same.
  await list.selectOption("select[name=source]", "gpu7");
  await list.waitForURL(/source=gpu7/);
  await list.waitForSelector(".runs .run-name", { state: "detached" });
  await list.reload();
  expect(await shown()).toEqual([]);
  expect(await list.locator("select[name=device]").inputValue()).toBe(ours);
  await list.selectOption("select[name=device]", "");
  await says(list, ".runs .run-name", "theirs");
  expect((await shown()).toSorted()).toEqual([HOSTILE, "theirs"].toSorted());
  await list.context().close();
});

when("files whose bytes have not come are told from those that have, until they come", async () => {
  const { connection } = platform.server.collector;
  const [artifact] = (await platform.api("/artifacts?kind=model")).artifacts;
  const path = `/models/${artifact.id}/v1`;
  connection
    .prepare("UPDATE blob SET pending = 1 WHERE sha256 IN (SELECT sha256 FROM artifact_file LIMIT 1)")
    .run();
  const page = await platform.open(path);
  await says(page, ".notice", "Content on its way: gpu7 still has to send 1 of its");
  expect(await page.locator(".files .pending").count()).toBe(1);
  connection.exec("UPDATE blob SET pending = 0");
  await page.waitForSelector(".notice", { state: "detached" });
  await page.waitForSelector(".files .pending", { state: "detached" });
  await page.context().close();
});

when("a revoked token pauses it, which every page says until a person has mended it", async () => {
  const page = await machine.open("/");
  expect(await page.locator("#banner a").isHidden()).toBe(true);
  await platform.api("/sources/gpu7", { method: "DELETE" });
  await machine.api(`/runs/${run}`, { method: "PATCH", body: { notes: "more" } });
  await page.goto(`${machine.url}/relay`);
  await state(page, "Paused");
  expect(await page.locator(".relay .notice").textContent()).toContain("binnacle source add NAME");
  expect(await page.locator(".relay-facts").textContent()).toContain("1 entry");
  await page.goto(`${machine.url}/models`);
  const banner = page.locator("#banner a");
  expect(await banner.textContent()).toStartWith("The relay to lab is paused.");
  await banner.click();
  await page.waitForURL(/\/relay$/);
  // One that is dead holds up nobody.
  await machine.api("/relays", {
    body: { name: "nowhere", url: "http://127.0.0.1:1", token: "x".repeat(32) },
  });
  await page.waitForSelector("[data-relay=nowhere] .relay-state:has-text('Waiting to try again')");
  await says(page, "[data-relay=nowhere] .notice", "Next attempt");
  // Trying again helps nothing yet, and does no harm.
  await page.getByRole("button", { name: "Try lab again now" }).click();
  await state(page, "Paused");
  await addRelay();
  await state(page, "Up to date");
  await arrived();
  await machine.api("/relays/nowhere?discard=true", { method: "DELETE" });
  await page.waitForSelector("[data-relay=nowhere]", { state: "detached" });
  const { banner: line } = await (await machine.server.request("/ui/banner")).json();
  expect(line).toBeNull();
  await page.context().close();
});

when("refused entries are listed, sent again or given up, by mouse and keyboard", async () => {
  const { collector } = machine.server;
  const letters = createLetterBox(collector, "lab");
  // As if the platform had refused three entries: it has no reason to.
  for (const entry of collector.journal.read(0, 3))
    letters.put({ frame: { ...entry, seq: entry.seq + 1_000_000 }, type: "invalid", detail: HOSTILE }, 1);
  const page = await machine.open("/relay");
  await isLive(page);
  const toggle = page.getByRole("button", { name: "3 entries were refused" });
  await toggle.focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector(".dead-letters tbody tr:nth-child(3)");
  expect(await toggle.getAttribute("aria-expanded")).toBe("true");
  expect(await page.locator(".dead-letters .what").first().textContent()).toBe(HOSTILE);
  await page
    .getByRole("button", { name: /^Discard: / })
    .first()
    .click();
  await page.waitForSelector("dialog:has-text('noted as dropped')");
  await page.keyboard.press("Escape");
  expect(letters.count()).toBe(3);
  await page
    .getByRole("button", { name: /^Discard: / })
    .first()
    .click();
  await page.locator("dialog .danger").click();
  await page.waitForSelector("text=2 entries were refused");
  await says(page, ".relay-drops", "given up");
  // The platform's own word, where it takes nothing.
  const again = page.getByRole("button", { name: "Send all again" });
  await platform.api("/sources/gpu7", { method: "DELETE" });
  await again.click();
  await says(page, "[role=alert]", "The token is none of this platform's");
  page.complaints = [];
  await addRelay();
  await arrived();
  await again.click();
  await page.waitForSelector(".dead-letters", { state: "detached" });
  expect((await platform.api(`/runs/${run}/metrics`)).metrics[0]).toMatchObject({ name: "loss", count: 2 });
  await page.context().close();
});

when("a run deleted at its source says so; a source that falls silent, too", async () => {
  const { id } = await machine.api("/runs", {
    body: { name: "short", project: "digits", writer: { client: "w" } },
  });
  await machine.api(`/runs/${id}/finish`, { body: { client: "w" } });
  await arrived();
  const page = await platform.open(`/runs/${id}`);
  await isLive(page);
  await machine.api(`/runs/${id}`, { method: "DELETE" });
  await says(page, ".notice", "Deleted at its source, gpu7, on");

  // Pictures of what there is, before the platform's clock is put ahead.
  const dead = {
    frame: machine.server.collector.journal.read(0, 1)[0]!,
    type: "invalid",
    detail: "its name is too long",
  };
  createLetterBox(machine.server.collector, "lab").put(dead, 1);
  for (const { size, viewport, colorScheme } of looks)
    for (const [at, pages] of [
      [machine, { relay: "/relay" }],
      [platform, { sources: "/sources", "sources-runs": "/", "sources-run": `/runs/${id}` }],
    ] as const) {
      const look = await at.open("/relay", { colorScheme, viewport });
      for (const [name, path] of Object.entries(pages)) {
        if (path !== "/relay") await look.goto(at.url + path);
        await isLive(look);
        if (name === "relay") {
          await look.getByRole("button", { name: "refused" }).click();
          await look.waitForSelector(".dead-letters td");
        }
        const [width, room] = await look.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        expect(width!, `${name} on a ${size}`).toBeLessThanOrEqual(room!);
        await screenshot(look, `${name}-${size}-${colorScheme}`);
      }
      await look.context().close();
    }

  ahead = GONE_MS;
  await page.goto(`${platform.url}/runs/${run}`);
  await says(page, ".notice", "gpu7 was last heard of 2 h ago.");
  await page.goto(`${platform.url}/sources`);
  await says(page, ".fresh", "Silent for 2 h 0");
  await says(page, ".list-head .count", "1 source, 1 silent");
  await page.context().close();
});
