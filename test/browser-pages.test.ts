import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createWriter, noBrowser, openDashboard, type Dashboard, type TestPage } from "./helpers/browser.ts";

setDefaultTimeout(60_000);

let dashboard: Dashboard;

beforeAll(async () => {
  if (!noBrowser) dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

/** Browsers log every answer that is no success; this one was asked for. */
const forgive = (page: TestPage, pattern: RegExp) => {
  page.complaints = page.complaints.filter((text) => !pattern.test(text));
};

when("without a cookie every page is the sign-in page, which says how; the link works once", async () => {
  const page = await dashboard.open("/runs/1", { signIn: false });
  expect(await page.locator("h2").textContent()).toBe("Sign in");
  expect(await page.locator("pre").textContent()).toBe("binnacle open");
  const link = `${dashboard.url}/sign-in?code=${dashboard.server.trust.createCode()}`;
  await page.goto(link);
  expect(new URL(page.url()).pathname).toBe("/");
  expect(await page.locator("h2").textContent()).toBe("No runs yet");
  await page.goto(link);
  expect(await page.locator("h2").textContent()).toContain("used");
  forgive(page, /status of 401/);
  await page.context().close();
});

when("the empty list tells how to start, and fills itself", async () => {
  const page = await dashboard.open("/");
  expect(await page.locator("pre").first().textContent()).toContain("binnacle launch --");
  expect(await page.locator("pre").last().textContent()).toContain("binnacle.init(");
  await page.waitForSelector('#live[data-state="live"]');
  const { id } = await dashboard.api("/runs", { body: { name: "first light", project: "p" } });
  await page.waitForSelector(`tr[data-run="${id}"]`);
  expect(await page.locator("tr[data-run] .status").textContent()).toBe("Running");
  await dashboard.api(`/runs/${id}/finish`, { body: { status: "FAILED", reason: "Out of memory." } });
  await page.waitForSelector('.status[data-status="FAILED"]');
  expect(await page.locator(".run-sub").textContent()).toBe("Out of memory.");
  await dashboard.api(`/runs/${id}`, { method: "DELETE" }).catch(() => {});
  await page.waitForSelector("text=No runs yet");
  await page.context().close();
});

when("an unknown run and an unknown page are errors a person can read", async () => {
  const page = await dashboard.open("/runs/123");
  expect(await page.locator("h2").textContent()).toBe("Not found");
  expect(await page.locator("section").textContent()).toContain("There is no run 123.");
  await page.goto(`${dashboard.url}/nowhere`);
  expect(await page.locator("h2").textContent()).toBe("Not found");
  forgive(page, /status of 404/);
  await page.context().close();
});

const corpus = [
  `<script>window.pwned=1</script>`,
  `<img src=x onerror="window.pwned=1">`,
  `"><svg onload=window.pwned=1>`,
  `javascript:window.pwned=1`,
  `'-window.pwned=1-'`,
  `</title><script>window.pwned=1</script>`,
  `{{constructor.constructor('window.pwned=1')()}}`,
  `<iframe srcdoc="<script>parent.pwned=1</script>">`,
  `&lt;script&gt;window.pwned=1&lt;/script&gt;`,
  `\u202egnp.exe`,
];

when("text of users stays text, wherever it is shown", async () => {
  const config: Record<string, unknown> = {};
  for (const text of corpus) config[text] = { [text]: text };
  const reason = corpus.join(" ");
  const { id } = await dashboard.api("/runs", {
    body: {
      name: corpus[0],
      project: corpus[1],
      config,
      tags: corpus,
      notes: corpus.join("\n"),
      command: corpus.join(" "),
      writer: { client: "w1", device: corpus[2] },
    },
  });
  const writer = createWriter(dashboard, id);
  await writer.records(
    corpus.map((key, step) => ({
      step,
      metrics: { [key]: 1, [`${key}/${key}`]: "NaN", [`text ${key}`]: key },
    })),
  );
  await writer.logs([
    ...corpus.map((text) => ({ text })),
    ...corpus.map((text) => ({
      text: `\x1b]8;;javascript:window.pwned=1\x07${text}\x1b]8;;\x07`,
      stream: "stderr",
    })),
  ]);
  await dashboard.api(`/runs/${id}/finish`, { body: { client: "w1", status: "FAILED", reason } });

  const page = await dashboard.open("/");
  await page.waitForSelector(`tr[data-run="${id}"]`);
  expect(await page.locator(".run-name").first().textContent()).toBe(corpus[0]!);
  for (const tab of ["", "/metrics", "/logs"]) {
    await page.goto(`${dashboard.url}/runs/${id}${tab}`);
    await page.waitForSelector(tab === "" ? ".latest td" : tab === "/logs" ? ".log-text" : ".plot canvas");
    expect(await page.locator("h1").textContent()).toBe(corpus[0]!);
    expect(await page.locator("main :is(script, iframe, img, svg[onload], [onerror])").count()).toBe(0);
    expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  }
  const lines = await page.locator(".log-text").allTextContents();
  expect(lines.slice(0, corpus.length)).toEqual(corpus);
  expect(lines.slice(corpus.length)).toEqual(corpus);
  expect(await page.locator(".log a:not(.log-number)").count()).toBe(0);
  await page.context().close();
});

when("integers beyond 2^53 are shown as they were given", async () => {
  const { id } = await dashboard.api("/runs", { body: { config: { seed: "12345678901234567891" } } });
  const page = await dashboard.open(`/runs/${id}`);
  await page.waitForSelector(".tag-add");
  expect(await page.locator(".config td").textContent()).toBe("12345678901234567891");
  await page.context().close();
});

when("name, tags and notes are changed on the page, and a run is stopped and deleted there", async () => {
  const { id } = await dashboard.api("/runs", { body: { name: "before", tags: ["old"] } });
  const page = await dashboard.open(`/runs/${id}`);
  await page.waitForSelector(".tag-add");

  await page.getByRole("button", { name: "Rename" }).click();
  await page.locator("dialog input").fill("after");
  await page.getByRole("button", { name: "Rename" }).last().click();
  await page.waitForSelector("h1:has-text('after')");

  await page.getByRole("textbox", { name: "Add a tag" }).fill("new, with a comma");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".tag:has-text('new, with a comma')");
  await page.getByRole("button", { name: "Remove the tag old" }).click();
  await page.waitForSelector(".tag:has-text('old')", { state: "detached" });

  await page.getByRole("button", { name: "Edit the notes" }).click();
  await page.locator("textarea").fill("two\nlines");
  await page.getByRole("button", { name: "Save" }).click();
  await page.waitForSelector(".notes");
  expect(await dashboard.api(`/runs/${id}`)).toMatchObject({
    name: "after",
    tags: ["new, with a comma"],
    notes: "two\nlines",
  });

  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  expect((await dashboard.api(`/runs/${id}`)).status).toBe("RUNNING");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("dialog .primary").click();
  await page.waitForSelector('.run-title .status[data-status="KILLED"]');

  await page.getByRole("button", { name: "Delete" }).click();
  await page.locator("dialog .primary").click();
  await page.waitForURL(`${dashboard.url}/`);
  expect((await dashboard.server.request(`/api/v1/runs/${id}`)).status).toBe(410);
  await page.context().close();
});

when("the theme is chosen, remembered, and there from the first paint", async () => {
  const page = await dashboard.open("/", { colorScheme: "dark" });
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const night = await background();
  await page.locator("#theme").click();
  const day = await background();
  expect(day).not.toBe(night);
  await page.reload();
  expect(await page.locator("html").getAttribute("data-theme")).toBe("light");
  expect(await background()).toBe(day);
  // auto → light → dark → auto
  await page.keyboard.press("t");
  expect(await background()).toBe(night);
  await page.context().close();
});

when("pages have landmarks, one first heading, names for all controls", async () => {
  const { id } = await dashboard.api("/runs", { body: { name: "plain", project: "q" } });
  await createWriter(dashboard, id).records([{ metrics: { loss: 1 } }]);
  const page = await dashboard.open("/");
  for (const path of ["/", `/runs/${id}`, `/runs/${id}/metrics`, `/runs/${id}/logs`]) {
    await page.goto(dashboard.url + path);
    await page.waitForSelector('#live[data-state="live"]');
    expect(await page.locator("main").count()).toBe(1);
    expect(await page.locator("h1").count()).toBe(1);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, select, textarea, a")]
        .filter((element) => {
          const labels = (element as HTMLInputElement).labels;
          const text = element.textContent?.trim() || element.getAttribute("aria-label") || "";
          return !text && !element.getAttribute("aria-labelledby") && !(labels && labels.length > 0);
        })
        .map((element) => element.outerHTML),
    );
    expect(nameless).toEqual([]);
  }
  await page.keyboard.press("?");
  expect(await page.locator("dialog[open] dt").count()).toBeGreaterThan(5);
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  await page.context().close();
});

when("assets are served by exact name, compressed, for ever; nothing else is", async () => {
  const html = await (await dashboard.server.request("/")).text();
  const script = /src="(\/assets\/[^"]+)"/.exec(html)![1]!;
  const answer = await dashboard.server.request(script, {
    token: null,
    headers: { "accept-encoding": "gzip" },
  });
  expect(answer.headers.get("content-encoding")).toBe("gzip");
  expect(answer.headers.get("cache-control")).toContain("immutable");
  const plain = await dashboard.server.request(script, { token: null });
  expect(plain.headers.get("content-encoding")).toBeNull();
  expect(plain.headers.get("content-type")).toContain("javascript");
  for (const path of [
    "/assets/",
    "/assets/x.js",
    `${script}x`,
    "/assets/__proto__",
    "/assets/..%2fpackage.json",
  ])
    expect((await dashboard.server.request(path)).status).toBeGreaterThanOrEqual(400);
});
