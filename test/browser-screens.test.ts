/** Pictures of the pages, for people to look at: test/screenshots-out. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  createWriter,
  looks,
  noBrowser,
  openDashboard,
  screenshot,
  type Dashboard,
} from "./helpers/browser.ts";

setDefaultTimeout(120_000);

let dashboard: Dashboard;
let run: string;

/** Repeatable noise: pictures differ where the pages do. */
function createNoise(seed = 7): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const HOUR = 3_600_000;

async function fill(): Promise<void> {
  const now = Date.now();
  const outcomes = ["FINISHED", "FINISHED", "FAILED", "FINISHED", "KILLED"];
  const projects = ["digits", "digits", "speech", "diffusion"];
  for (let i = 24; i > 0; i--) {
    const started = now - i * 5 * HOUR;
    const client = `c${i}`;
    const { id } = await dashboard.api("/runs", {
      body: { project: projects[i % 4], started, writer: { client, device: i % 3 ? "atlas" : "orion" } },
    });
    const status = outcomes[i % 5]!;
    const reason = { FAILED: "Exit code 1: CUDA out of memory.", KILLED: "Stopped by SIGINT." }[status];
    const finished = started + (20 + ((i * 37) % 190)) * 60_000;
    await dashboard.api(`/runs/${id}/finish`, {
      body: { client, status, finished, ...(reason && { reason, exit_code: status === "FAILED" ? 1 : 130 }) },
    });
  }
  const steps = 4000;
  const started = now - 0.7 * HOUR;
  ({ id: run } = await dashboard.api("/runs", {
    body: {
      name: "brisk-heron",
      project: "digits",
      started,
      command: "python3 examples/train_digits.py --epochs 40",
      tags: ["baseline", "warm-up"],
      notes: "Second try, with a warm-up.\nThe spike at 2,100 was the data loader.",
      config: {
        epochs: 40,
        batch_size: 128,
        lr: 0.001,
        seed: "12345678901234567890",
        optimizer: { name: "adamw", betas: [0.9, 0.999], weight_decay: 0.01 },
        data: { path: "data/digits.csv", augment: true },
      },
      writer: { client: "launch", role: "launch", device: "atlas", pid: 48213 },
    },
  }));
  const writer = createWriter(dashboard, run, "launch");
  const noise = createNoise();
  const lines: unknown[] = [];
  const items = Array.from({ length: steps }, (_, step) => {
    const t = step / steps;
    const time = started + (now - started) * t;
    const loss = 2.2 * Math.exp(-5 * t) + 0.1 + noise() * 0.18 * (1 - 0.7 * t) + (step === 2100 ? 1.4 : 0);
    const lr = 1e-3 * (t < 0.06 ? t / 0.06 : 0.5 * (1 + Math.cos(Math.PI * t)));
    const epoch = Math.floor(step / 100);
    if (step % 20 === 0)
      lines.push({
        time,
        text: `step ${step}  loss \x1b[36m${loss.toFixed(4)}\x1b[0m  lr ${lr.toExponential(2)}`,
      });
    if (step % 100 === 99)
      lines.push({
        time,
        text: `\x1b[1mepoch ${epoch}\x1b[0m done, val/loss \x1b[32m${(loss * 0.95).toFixed(4)}\x1b[0m`,
      });
    if (step % 900 === 450)
      lines.push({
        time,
        stream: "stderr",
        text: `WARNING slow batch: ${(800 + noise() * 900).toFixed(0)} ms`,
      });
    return {
      step,
      time,
      metrics: {
        loss,
        accuracy: 1 - 0.88 * Math.exp(-5.5 * t) - noise() * 0.05 * (1 - t),
        "train/lr": lr,
        "train/grad_norm":
          step === 2101
            ? "NaN"
            : (0.6 + 2.4 * Math.exp(-3 * t)) * (0.7 + 0.6 * noise()) + (noise() > 0.997 ? 2 : 0),
        "train/samples_per_s": 11_800 + 600 * noise() - (step % 900 === 450 ? 5000 : 0),
        ...(step % 100 === 99 && {
          "val/loss": 2 * Math.exp(-4.6 * t) + 0.17 + noise() * 0.02,
          "val/accuracy": 1 - 0.9 * Math.exp(-5 * t) - noise() * 0.01,
        }),
      },
    };
  });
  await writer.records(items);
  await writer.logs(lines, { stderr: "epoch 40:  62%|██████▏   | 62/100 [00:07<00:04,  8.41it/s]" });
}

beforeAll(async () => {
  if (noBrowser) return;
  dashboard = await openDashboard();
}, 60_000);
afterAll(async () => dashboard?.close(), 60_000);

const when = test.skipIf(noBrowser);

when("pictures of every page: empty, full, by day, by night, on a phone", async () => {
  for (const { size, viewport, colorScheme } of looks) {
    const page = await dashboard.open("/", { colorScheme, viewport });
    await page.waitForSelector('#live[data-state="live"]');
    await screenshot(page, `empty-${size}-${colorScheme}`);
    await page.context().close();
  }
  await fill();
  const paths = {
    list: "/",
    overview: `/runs/${run}`,
    metrics: `/runs/${run}/metrics`,
    logs: `/runs/${run}/logs`,
  };
  const shown = { list: ".runs", overview: ".latest td", metrics: ".plot canvas", logs: ".log-row.open" };
  for (const { size, viewport, colorScheme } of looks) {
    const page = await dashboard.open("/", { colorScheme, viewport });
    for (const [name, path] of Object.entries(paths)) {
      await page.goto(dashboard.url + path);
      await page.waitForSelector(shown[name as keyof typeof shown]);
      await page.waitForSelector('#live[data-state="live"]');
      await page.waitForTimeout(500);
      // Nothing sticks out to the side, at any width.
      const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(width!, `${name} on a ${size}`).toBeLessThanOrEqual(room!);
      await screenshot(page, size === "desk" ? `${name}-${colorScheme}` : `${name}-${size}-${colorScheme}`);
    }
    await page.context().close();
  }
});
