import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Run } from "../src/run/schema.ts";
import { cleanEnv, startServer, type TestServer } from "./helpers/cli.ts";

const root = join(import.meta.dirname, "..");
const script = join(import.meta.dirname, "fixtures/client-script.mjs");
const source = join(root, "src/client/typescript/index.ts");
const bundleDir = mkdtempSync(join(tmpdir(), "binnacle-client-"));
const bundle = join(bundleDir, "index.js");

const runtimes = {
  bun: { command: [process.execPath, script], client: source },
  node: { command: ["node", script], client: bundle },
  deno: { command: [join(root, "node_modules/.bin/deno"), "run", "-A", script], client: source },
};

let server: TestServer;

beforeAll(async () => {
  const build = spawnSync(process.execPath, [join(root, "src/build/client.ts"), bundleDir], {
    encoding: "utf8",
  });
  expect(build.stderr).toBe("");
  server = await startServer();
}, 60_000);

afterAll(async () => {
  await server.close();
  rmSync(bundleDir, { recursive: true, force: true });
});

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

function runScript(
  runtime: keyof typeof runtimes,
  end: string,
  { env = {}, signal }: { env?: Record<string, string>; signal?: NodeJS.Signals } = {},
): Promise<Ended> {
  const { command, client } = runtimes[runtime];
  const child = spawn(command[0]!, command.slice(1), {
    env: cleanEnv({ BINNACLE_DATA: server.dataDir, CLIENT: client, END: end, ...env }),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  // The runtime itself: node_modules/.bin/deno is a Node script around it.
  child.stdout.on("data", (pid: Buffer) => signal && process.kill(Number(pid), signal));
  return new Promise((resolve) => child.on("close", (code, died) => resolve({ code, signal: died, stderr })));
}

async function newestRun(): Promise<Run> {
  const [run] = await server.json<Run[]>("run", "list", "--json");
  return run!;
}

async function points(run: string, key: string, x = "step"): Promise<unknown> {
  const { points: found } = await server.json("metrics", "-rid", run, key, "--x", x, "--json");
  return found;
}

setDefaultTimeout(30_000);

for (const runtime of ["bun", "node", "deno"] as const)
  describe(runtime, () => {
    test("the documented example gives its seven records, and what was not committed one more at the end", async () => {
      const { code, stderr } = await runScript(runtime, "");
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      const run = await newestRun();
      expect(run).toMatchObject({ project: "example", status: "FINISHED", exit_code: 0, reason: null });
      expect(await points(run.id, "ACC")).toEqual([[0, 0.1]]);
      expect(await points(run.id, "acc")).toEqual([
        [1, 0.11],
        [2, 0.2],
        [3, 0.3],
        [1, 0.31],
        [2, 0.32],
        [4, 0.34],
      ]);
      expect(await points(run.id, "acc", "x_index")).toEqual([[2, 0.32]]);
      expect(await points(run.id, "loss")).toEqual([[4, 0.33]]);
      expect(await points(run.id, "uncommitted")).toEqual([[5, "NaN"]]);
      expect((await server.cli("run", "logs", "-rid", run.id)).stdout).toBe("one\ntwo\n");
      const detail = await server.json("run", "status", "-rid", run.id, "--json");
      expect(detail.config).toEqual({ lr: 0.1, batch: 32 });
    });

    test("process.exit sends what is left and says how it ended", async () => {
      expect(await runScript(runtime, "exit")).toMatchObject({ code: 3 });
      const run = await newestRun();
      expect(run).toMatchObject({ status: "FAILED", exit_code: 3 });
      expect(await points(run.id, "uncommitted")).toEqual([[5, "NaN"]]);
      expect((await server.cli("run", "logs", "-rid", run.id)).stdout).toBe("one\ntwo\n");
      const detail = await server.json("run", "status", "-rid", run.id, "--json");
      expect(detail.config).toEqual({ lr: 0.1, batch: 32 });
    });

    for (const end of ["throw", "reject"])
      test(`an error that nobody catches (${end}) fails the run, with nothing lost`, async () => {
        const { code, stderr } = await runScript(runtime, end);
        expect(code).toBe(1);
        expect(stderr).toContain("boom");
        const run = await newestRun();
        expect(run).toMatchObject({ status: "FAILED", exit_code: 1 });
        expect(run.reason).not.toBeNull();
        expect(await points(run.id, "uncommitted")).toEqual([[5, "NaN"]]);
      });

    test("SIGTERM kills the process as ever, and the run with it", async () => {
      const { code, signal } = await runScript(runtime, "wait", { signal: "SIGTERM" });
      // Deno has no way to die of a signal it has handled.
      expect(runtime === "deno" ? code : signal).toBe(runtime === "deno" ? 143 : "SIGTERM");
      const run = await newestRun();
      expect(run).toMatchObject({ status: "KILLED", exit_code: 143, reason: "SIGTERM" });
      expect(await points(run.id, "uncommitted")).toEqual([[5, "NaN"]]);
    });

    test("without a collector everything goes to the spool, and sync delivers it once", async () => {
      const spool = mkdtempSync(join(tmpdir(), "binnacle-spool-"));
      const env = { BINNACLE_URL: "http://127.0.0.1:9", BINNACLE_SPOOL: spool };
      const started = performance.now();
      expect(await runScript(runtime, "", { env })).toMatchObject({ code: 0 });
      expect(performance.now() - started).toBeLessThan(10_000);
      const files = readdirSync(spool);
      expect(files).toHaveLength(1);

      for (const outcome of [[{ outcome: "sent", refused: 0, error: null }], []])
        expect(await server.json("sync", spool, "--json")).toMatchObject(outcome);
      expect(readdirSync(spool)).toEqual([]);
      const run = await newestRun();
      expect(run.id).toBe(files[0]!.split("-")[0]!);
      expect(run).toMatchObject({ status: "FINISHED", exit_code: 0 });
      expect(await points(run.id, "acc")).toHaveLength(6);
      expect((await server.cli("run", "logs", "-rid", run.id)).stdout).toBe("one\ntwo\n");
      rmSync(spool, { recursive: true });
    });
  });

test("the built client is typed for a strict TypeScript project on Node", () => {
  const project = mkdtempSync(join(tmpdir(), "binnacle-types-"));
  symlinkSync(join(root, "node_modules"), join(bundleDir, "node_modules"));
  writeFileSync(
    join(project, "script.ts"),
    `import { config, finish, init, log, logLine, logMetric, type Run } from "${bundleDir}/index.js";
const run: Run = init({ project: "x", config: { lr: 1 }, tags: ["a"] });
log({ loss: 1, nested: { big: 2n, text: "a", list: [1, null] } }, { step: 1, commit: false });
logMetric({ loss: NaN });
logLine("text", { level: "ERROR", stream: "stderr" });
config["lr"] = 2;
// @ts-expect-error a function is no metric
log({ loss: () => 1 });
// @ts-expect-error there is no such status
void finish({ status: "DONE" });
void run.finish({ exitCode: 1 }).then(({ delivered }) => delivered satisfies boolean);
`,
  );
  const flags = ["--ignoreConfig", "--noEmit", "--strict", "--module", "nodenext", "--target", "esnext"];
  const { stdout } = spawnSync(
    join(root, "node_modules/.bin/tsc"),
    [...flags, "--types", "", join(project, "script.ts")],
    {
      encoding: "utf8",
    },
  );
  expect(stdout).toBe("");
  rmSync(project, { recursive: true });
}, 60_000);
