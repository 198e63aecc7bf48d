import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pythonFolder, startServer, type TestServer } from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

const examples = join(import.meta.dirname, "../examples");

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.remove());

test("train_digits.py learns, and records how: loss, accuracy, learning rate, gradient norm", async () => {
  const child = Bun.spawn(
    [
      "python3",
      join(examples, "train_digits.py"),
      "--quick",
      "--epochs",
      "6",
      "--patience",
      "1",
      "--lr",
      "0.4",
    ],
    {
      env: {
        ...process.env,
        ...server.env,
        PYTHONPATH: pythonFolder,
        BINNACLE_RUN_ID: "digits",
        TMPDIR: server.dataDir,
      },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  expect({ code, err }).toMatchObject({ code: 0 });

  const { metrics } = await server.get("/api/v1/runs/digits/metrics");
  const counts = Object.fromEntries(
    metrics.map(({ name, count }: { name: string; count: number }) => [name, count]),
  );
  expect(counts).toEqual({
    "train/loss": 60,
    "train/accuracy": 60,
    learning_rate: 60,
    gradient_norm: 60,
    "val/loss": 6,
    "val/accuracy": 6,
    epoch: 6,
  });
  const losses = await server.points("digits", "train/loss");
  expect(losses.map(([step]) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i));
  const mean = (some: [number, unknown][]) => some.reduce((sum, [, y]) => sum + Number(y), 0) / some.length;
  expect(mean(losses.slice(-10))).toBeLessThan(mean(losses.slice(0, 10)) / 2);
  expect((await server.points("digits", "val/loss", "epoch")).map(([x]) => x)).toEqual([1, 2, 3, 4, 5, 6]);
  const rates = (await server.points("digits", "learning_rate")).map(([, y]) => Number(y));

  // A progress bar that rewrites its line, ordinary lines, and a warning for each time the rate really fell.
  expect(out.split("\r").length).toBeGreaterThan(60);
  expect(err).toMatch(/INFO epoch 6: validation loss/);
  const falls = rates.filter((rate, i) => i > 0 && rate < rates[i - 1]!).length;
  const warnings = err.match(/WARNING .* learning rate halved/g)?.length ?? 0;
  expect(warnings).toBeGreaterThan(0);
  expect([falls, falls + 1]).toContain(warnings); // The last may come after the last epoch.

  const run = await server.run("digits");
  expect(run).toMatchObject({ status: "FINISHED", project: "digits", tags: ["example"] });
  expect(run.config).toMatchObject({ epochs: 6, lr: 0.4, quick: true });

  // The model at its end, as a version that says how good it is.
  const { outputs } = await server.get("/api/v1/runs/digits/artifacts");
  const last = (await server.points("digits", "val/accuracy")).at(-1)![1];
  expect(outputs).toMatchObject([
    { kind: "model", name: "digits", version: "v1", files: 1, metadata: { "val/accuracy": last } },
  ]);
  const { id } = outputs[0];
  const model = await server.get(`/api/v1/artifacts/${id}/versions/v1/file?path=digits.json`);
  expect(model.weights.hidden).toHaveLength(32);
  expect(model.weights.output).toHaveLength(10);
});

test("says how to start it where the module is missing", async () => {
  const child = Bun.spawnSync(["python3", "-I", join(examples, "train_digits.py"), "--quick"], {
    stderr: "pipe",
  });
  expect(child.exitCode).toBe(1);
  expect(child.stderr.toString()).toContain("binnacle launch -- python3");
});

test("the data are those whose source and licence are stated", () => {
  const digest = createHash("sha256")
    .update(readFileSync(join(examples, "data/digits.csv.gz")))
    .digest("hex");
  const readme = readFileSync(join(examples, "data/README.md"), "utf8");
  expect(readme).toContain(digest);
  expect(readme).toContain("CC BY 4.0");
});
