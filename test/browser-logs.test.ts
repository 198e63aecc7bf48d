import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Page } from "playwright-core";
import { createWriter, noBrowser, openDashboard, type Dashboard } from "./helpers/browser.ts";
import { until } from "./helpers/launch.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;

beforeAll(async () => {
  if (!noBrowser) dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

async function newRun(lines: unknown[] = [], open?: unknown) {
  const { id } = await dashboard.api("/runs", { body: { project: "logs" } });
  const writer = createWriter(dashboard, id);
  for (let i = 0; i < lines.length; i += 50_000) await writer.logs(lines.slice(i, i + 50_000), open);
  return { id: id as string, writer };
}

const numbered = (count: number, from = 1) =>
  Array.from({ length: count }, (_, i) => ({ text: `line ${from + i}`, time: 1_700_000_000_000 + i }));

/** Numbers of the lines that can be seen, in order. */
const visible = (page: Page) =>
  page.locator("#log").evaluate((log) => {
    const { top, bottom } = log.getBoundingClientRect();
    return [...log.querySelectorAll<HTMLElement>(".log-row")]
      .filter(
        (row) => row.getBoundingClientRect().bottom > top + 1 && row.getBoundingClientRect().top < bottom - 1,
      )
      .map((row) => Number(row.dataset["line"] ?? NaN));
  });

const shows = (page: Page, lines: number[]) =>
  until(async () => (await visible(page)).join() === lines.join());

const lastVisible = (page: Page, line: number) =>
  page.waitForFunction((wanted) => {
    const rows = [...document.querySelectorAll<HTMLElement>("#log .log-row")];
    const log = document.getElementById("log")!.getBoundingClientRect();
    const seen = rows.filter((row) => row.getBoundingClientRect().bottom <= log.bottom + 1);
    return seen.at(-1)?.dataset["line"] === String(wanted);
  }, line);

/** Turns the wheel over the log, and waits until it stands still and its rows are drawn. */
async function wheel(page: Page, by: number): Promise<void> {
  const log = page.locator("#log");
  await log.hover();
  await log.evaluate((element) => {
    const before = element.scrollTop;
    (window as { still?: Promise<void> }).still = new Promise((resolve) => {
      element.addEventListener("scrollend", () => {
        if (element.scrollTop !== before) requestAnimationFrame(() => requestAnimationFrame(() => resolve()));
      });
    });
  });
  await page.mouse.wheel(0, by);
  await page.evaluate(() => (window as { still?: Promise<void> }).still);
}

when("the tail is followed; scrolling up holds it still; following goes on by a button", async () => {
  const { id, writer } = await newRun(numbered(500));
  const page = await dashboard.open(`/runs/${id}/logs`);
  await page.waitForSelector('#live[data-state="live"]');
  await lastVisible(page, 500);
  await writer.logs(numbered(3, 501));
  await lastVisible(page, 503);
  await page.waitForSelector("#log-count:text-is('503 lines')");

  await wheel(page, -1000);
  await page.waitForSelector('#follow[aria-pressed="false"]');
  const seen = await visible(page);
  await writer.logs(numbered(40, 504));
  await page.waitForSelector("#follow:has-text('40 new')");
  expect(await visible(page)).toEqual(seen);

  await page.locator("#follow").click();
  await lastVisible(page, 543);
  expect(await page.locator("#follow").textContent()).toBe("Following");
  // Scrolling down to the end by hand is following, too.
  await wheel(page, -600);
  await page.waitForSelector('#follow[aria-pressed="false"]');
  await page.mouse.wheel(0, 5000);
  await page.waitForSelector('#follow[aria-pressed="true"]');
  await page.context().close();
});

when(
  "a line that is still being rewritten stands at the end, and makes room for what is written",
  async () => {
    const { id, writer } = await newRun(numbered(3), { stderr: "epoch 1:  10%" });
    const page = await dashboard.open(`/runs/${id}/logs`);
    await page.waitForSelector(".log-row.open:has-text('10%')");
    await writer.logs([], { stderr: "epoch 1:  50%" });
    await page.waitForSelector(".log-row.open:has-text('50%')");
    expect(await page.locator(".log-row.open").count()).toBe(1);
    await writer.logs([{ text: "epoch 1: 100%", stream: "stderr" }], { stderr: null });
    await page.waitForSelector(".log-row.open", { state: "detached" });
    expect(await page.locator(".log-row").last().textContent()).toBe("4epoch 1: 100%");
    await page.context().close();
  },
);

when("levels, streams and searches find their lines in all that there is, and in what comes", async () => {
  const lines = Array.from({ length: 3000 }, (_, i) =>
    i % 1000 === 999
      ? { text: `ERROR \x1b[31mboom\x1b[0m ${i + 1}`, stream: "stderr" }
      : { text: i % 100 === 0 ? `WARNING slow ${i + 1}` : `step ${i + 1}` },
  );
  const { id, writer } = await newRun(lines);
  const page = await dashboard.open(`/runs/${id}/logs`);
  await lastVisible(page, 3000);

  await page.selectOption("#level", "ERROR");
  await page.waitForSelector("#log-count:has-text('3 of 3,000 lines')");
  await shows(page, [1000, 2000, 3000]);
  await writer.logs([{ text: "quiet" }, { text: "ERROR again" }]);
  await page.waitForSelector("#log-count:has-text('4 of 3,002 lines')");
  await shows(page, [1000, 2000, 3000, 3002]);
  await page.selectOption("#level", "");
  await page.selectOption("#stream", "stderr");
  await page.waitForSelector("#log-count:has-text('3 of 3,002 lines')");
  await page.selectOption("#stream", "");

  await page.keyboard.press("Escape");
  await page.locator("#log").focus();
  await page.keyboard.press("/");
  await page.keyboard.type("SLOW");
  await page.waitForSelector("[role=status]:has-text('No match')");
  await page.locator("#log-search").fill("slow 1\\d01");
  await page.waitForSelector("[role=status]:has-text('of 10')");
  await page.keyboard.press("Escape");
  await page.keyboard.press("n");
  await page.waitForSelector("[role=status]:has-text('1 of 10')");
  await page.waitForSelector('.log-row.marked[data-line="1001"]');
  await page.keyboard.press("N");
  await page.waitForSelector('.log-row.marked[data-line="1901"]');
  await page.locator("#only-matches").click();
  await page.waitForSelector("#log-count:has-text('10 of 3,002 lines')");
  await page.locator("#log-search").fill("broken(");
  await page.waitForSelector(".notice.bad:has-text('cannot be searched')");
  page.complaints = page.complaints.filter((text) => !text.includes("status of 400"));
  await page.context().close();
});

when(
  "colours are classes and properties, controls are gone, bytes that are no text show their numbers",
  async () => {
    const { id } = await newRun([
      { text: "\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[0m \x1b[7minverse\x1b[0m" },
      { text: "\x1b]0;title\x07\x1b[2Jclean" },
      { text: "byte \udcff" },
      { text: "x".repeat(20_000) },
    ]);
    const page = await dashboard.open(`/runs/${id}/logs`);
    await page.waitForSelector('.log-row[data-line="4"]');
    const texts = await page.locator(".log-text").allTextContents();
    expect(texts.slice(0, 3)).toEqual(["red rgb inverse", "clean", "byte \\xff"]);
    expect(texts[3]).toEndWith("10,000 more characters in the download");
    expect(await page.locator(".fg-ansi-1.ansi-bold").textContent()).toBe("red");
    const color = await page
      .locator(".log-text span:has-text('rgb')")
      .evaluate((span) => getComputedStyle(span).color);
    expect(color).toBe("rgb(1, 2, 3)");

    const download = await dashboard.server.request(`/runs/${id}/logs.txt`);
    expect(download.headers.get("content-disposition")).toContain(`${id}.log`);
    const bytes = Buffer.from(await download.arrayBuffer());
    expect(bytes.includes(Buffer.from([0x62, 0x79, 0x74, 0x65, 0x20, 0xff, 0x0a]))).toBe(true);
    expect(bytes.length).toBeGreaterThan(20_000);
    await page.context().close();
  },
);

when(
  "a million lines open at the end, go to the start, and to any line by its link",
  async () => {
    const { id } = await newRun(numbered(1_000_000));
    const page = await dashboard.open(`/runs/${id}/logs`);
    await lastVisible(page, 1_000_000);
    expect(await page.locator(".log-row").count()).toBeLessThan(150);
    await page.locator("#log").focus();
    await page.keyboard.press("g");
    await page.waitForSelector('.log-row[data-line="1"]');
    await page.waitForFunction(
      () => document.querySelector('[data-line="1"] .log-text')?.textContent === "line 1",
    );
    await page.goto(`${dashboard.url}/runs/${id}/logs#L654321`);
    await page.waitForSelector('.log-row.marked[data-line="654321"]');
    expect(await visible(page)).toContain(654_321);
    // Half-way by the scroll bar is half-way through the log.
    await page.locator("#log").evaluate((log) => (log.scrollTop = log.scrollHeight / 2));
    await page.waitForFunction(() => {
      const line = Number(document.querySelector<HTMLElement>(".log-row[data-line]")?.dataset["line"]);
      return line > 495_000 && line < 505_000;
    });
    // And a turn of the wheel is a few lines there.
    const first = () => until(async () => (await visible(page))[0] || undefined);
    const before = await first();
    await wheel(page, 100);
    expect((await first()) - before).toBe(5);
    await page.context().close();
  },
  120_000,
);
