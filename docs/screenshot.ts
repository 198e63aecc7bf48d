/** Takes the README's picture, of a real training under way: `bun docs/screenshot.ts` (needs a Chromium). */
import { join } from "node:path";
import { chromium } from "playwright-core";
import { binaryPath, remove, startBinary, temporaryFolder } from "../test/helpers/binary.ts";

const root = join(import.meta.dirname, "..");
const dataDir = temporaryFolder();
const collector = await startBinary({ dataDir, cwd: root });
const env = { PATH: process.env["PATH"]!, HOME: dataDir, BINNACLE_DATA: dataDir };
const training = Bun.spawn(
  [binaryPath(), "launch", "-n", "digits", "--", "python3", "examples/train_digits.py"],
  {
    cwd: root,
    env,
    stdout: "ignore",
    stderr: "pipe",
  },
);
const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? Bun.which("chromium") ?? chromium.executablePath(),
  args: ["--no-sandbox"],
});
try {
  await Bun.sleep(45_000);
  const link = Bun.spawnSync([binaryPath(), "open", "--print"], { env }).stdout.toString().trim();
  const page = await browser.newPage({ viewport: { width: 1280, height: 820 }, deviceScaleFactor: 2 });
  await page.goto(link);
  await page.getByText("digits").first().click();
  await page.getByRole("link", { name: "Metrics" }).click();
  await page.waitForLoadState("networkidle", { timeout: 5000 }).catch(() => {});
  await Bun.sleep(3000);
  await page.screenshot({ path: join(root, "docs/run.png") });
} finally {
  await browser.close();
  training.kill("SIGTERM");
  await training.exited;
  await collector.stop();
  remove(dataDir);
}
