import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { serve } from "../../src/runtime.ts";
import { loudly } from "./binary.ts";
import {
  createTestCollector,
  type TestCollector,
  type TestCollectorOptions,
  type TestRequest,
} from "./collector.ts";

const candidates = [
  process.env["CHROMIUM"],
  "/usr/bin/chromium-headless-shell",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/usr/bin/google-chrome",
  chromium.executablePath(),
];

function findChromium(): string | undefined {
  return candidates.find(
    (path) => path && existsSync(path) && spawnSync(path, ["--version"], { timeout: 20_000 }).status === 0,
  );
}

const executablePath = findChromium();

export const noBrowser = executablePath === undefined && loudly("no Chromium: the dashboard is not tested");

const desk = { width: 1360, height: 850 };
const phone = { width: 390, height: 844 };

/** What pictures are taken of. A colour moves nothing, so each size and each colour is seen once; with LONG each with each. */
export const looks = (
  [
    ["desk", desk, "light"],
    ["phone", phone, "dark"],
    ["desk", desk, "dark"],
    ["phone", phone, "light"],
  ] as const
)
  .slice(0, process.env["LONG"] === undefined ? 2 : 4)
  .map(([size, viewport, colorScheme]) => ({ size, viewport, colorScheme }));

export const screenshots = join(import.meta.dirname, "../screenshots-out");

/** A page that keeps account of everything a browser complains of. */
export interface TestPage extends Page {
  /** Errors on the console, uncaught ones, violations of the content security policy. */
  complaints: string[];
}

export interface Dashboard {
  url: string;
  server: TestCollector;
  /** A call of the API as the admin; throws unless it succeeds. */
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  api(path: string, init?: TestRequest): Promise<any>;
  /** A page in a browser profile of its own, signed in unless `signIn` is false. */
  open(path: string, options?: BrowserContextOptions & { signIn?: boolean }): Promise<TestPage>;
  /** Ends the collector and starts it on the same data and port, as an upgrade does. */
  restart(): Promise<void>;
  /** Fails where a page complained and the test did not take it out. */
  close(): Promise<void>;
}

/** A real collector on a real port, and a real Chromium. */
export async function openDashboard(options: TestCollectorOptions = {}): Promise<Dashboard> {
  let server = createTestCollector(options);
  const listen = (port: number) =>
    serve({
      hostname: "127.0.0.1",
      port,
      fetch: (request, connection) => server.app.fetch(request, connection),
    });
  let listening = listen(0);
  const url = `http://127.0.0.1:${listening.port}`;
  const browser: Browser = await chromium.launch({
    executablePath: executablePath!,
    // Root has no sandbox; containers have a small /dev/shm.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1"],
  });
  const pages: TestPage[] = [];
  /** The cookie that following the link of `binnacle open` leaves, without the page that it leads to. */
  async function signedIn() {
    const link = `${url}/sign-in?code=${server.trust.createCode()}`;
    const { headers } = await fetch(link, { redirect: "manual" });
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(headers.get("set-cookie")!)!;
    return { name: name!, value: value!, url };
  }
  return {
    url,
    get server() {
      return server;
    },
    api: (path, init) => server.json(`/api/v1${path}`, init),
    async open(path, { signIn = true, ...options } = {}) {
      // By the shell's own, "en-US@posix", no number can be written.
      const context = await browser.newContext({
        locale: "en-US",
        viewport: { width: 1280, height: 860 },
        ...options,
      });
      const page = (await context.newPage()) as TestPage;
      page.complaints = [];
      page.on("console", (message) => {
        if (message.type() === "error" || /content security policy/i.test(message.text()))
          page.complaints.push(`console: ${message.text()}`);
      });
      page.on("pageerror", ({ message }) => {
        // The browser's own, of a fade that the next page came before.
        if (!message.startsWith("Transition was aborted")) page.complaints.push(`uncaught: ${message}`);
      });
      page.on("request", (request) => {
        const { protocol, host } = new URL(request.url());
        if (protocol.startsWith("http") && `http://${host}` !== url)
          page.complaints.push(`outside request: ${request.url()}`);
      });
      await page.addInitScript(() => {
        document.addEventListener(
          "securitypolicyviolation",
          ({ violatedDirective, blockedURI, sourceFile }) =>
            console.error(`content security policy: ${violatedDirective} ${blockedURI} ${sourceFile}`),
        );
      });
      if (signIn) await context.addCookies([await signedIn()]);
      pages.push(page);
      await page.goto(url + path);
      return page;
    },
    async restart() {
      const { port } = listening;
      await listening.stop(100);
      server = await server.restart();
      listening = listen(port);
    },
    async close() {
      await browser.close();
      await listening.stop(200);
      await server.close();
      const complaints = pages.flatMap((page) => page.complaints);
      if (complaints.length > 0) throw new Error(complaints.join("\n"));
    },
  };
}

export async function screenshot(page: Page, name: string): Promise<void> {
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`) });
}

/** A writer that sends batches in order. */
export function createWriter(dashboard: Dashboard, run: string, client = "w1") {
  let seq = 0;
  return {
    records: (items: unknown[], rank = 0) =>
      dashboard.api(`/runs/${run}/records`, { body: { client, seq: ++seq, rank, items } }),
    /** What only says how an unfinished line looks takes no number. */
    logs: (items: unknown[], open?: unknown) => {
      const number = items.length === 0 && open !== undefined ? seq + 1 : ++seq;
      const body = { client, seq: number, items, ...(open !== undefined && { open }) };
      return dashboard.api(`/runs/${run}/logs`, { body });
    },
  };
}
