import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSink, spooled, type Sink } from "./helpers/python.ts";
import { killLaunches, startLaunch } from "./helpers/launch.ts";

setDefaultTimeout(60_000);

let folder: string;
let sink: Sink;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-launch-"));
  sink = createSink();
  sink.answer = (_, path) =>
    path.endsWith("/logs")
      ? Response.json({ type: "urn:binnacle:disk-full", title: "Disk full" }, { status: 507 })
      : undefined;
});
afterEach(() => {
  killLaunches();
  sink.stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (env: Record<string, string> = {}) =>
  startLaunch(["--", "bash", "-c", "echo kept; exit 4"], {
    dataDir: folder,
    env: { BINNACLE_URL: sink.url, ...env },
  }).ended;
const finishes = () => sink.requests.filter(({ path }) => path.endsWith("/finish"));

test("a collector whose disk is full hears of the run's end ahead of the output, which waits in the spool", async () => {
  expect((await run()).code).toBe(4);
  expect(finishes().map(({ body }) => body)).toMatchObject([
    { status: "FAILED", exit_code: 4, reason: "exit code 4", client: expect.any(String) },
  ]);
  const kept = spooled(join(folder, "spool"));
  expect(kept.map(({ path }) => path.split("/").at(-1))).toEqual(["runs", "logs", "finish"]);
  expect(kept.at(-1)!.body).toEqual(finishes()[0]!.body);
});

test("a collector whose disk is full hears of the run's end where there is no spool either", async () => {
  const { stderr } = await run({ BINNACLE_SPOOL: "/proc/nowhere" });
  expect(finishes().map(({ body }) => body)).toMatchObject([{ status: "FAILED", exit_code: 4 }]);
  expect(stderr).toContain("lines were dropped: neither the collector nor the spool took them.");
  expect(stderr).not.toContain("no collector was told");
});
