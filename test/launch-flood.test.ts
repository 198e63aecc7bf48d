import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { startServer, type TestServer } from "./helpers/cli.ts";
import { killLaunches, readRun, startLaunch, until } from "./helpers/launch.ts";

setDefaultTimeout(120_000);

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  killLaunches();
  await server.close();
});

/** Most memory a process ever held, in MiB. */
const peakOf = (pid: number) =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

const TEXT = "0123456789 ".repeat(9);

test("a program that floods is slowed, not cut: memory stays level, every line is there", async () => {
  const megabytes = 60;
  const count = Math.floor((megabytes * 1e6) / (TEXT.length + 1));
  const launch = startLaunch(["--", "bash", "-c", `yes '${TEXT}' | head -n ${count}`], {
    dataDir: server.dataDir,
  });
  const id = await launch.id;
  let peak = 0;
  const watching = setInterval(() => {
    try {
      peak = Math.max(peak, peakOf(launch.child.pid!));
    } catch {
      // It has just ended.
    }
  }, 50);
  const { code, stdout } = await launch.ended;
  clearInterval(watching);
  expect(code).toBe(0);
  expect(stdout.length).toBe(count * (TEXT.length + 1));
  const page = await server.api(`/api/v1/runs/${id}/logs?limit=1`);
  expect(page.total).toBe(count);
  expect(page.lines[0].text).toBe(TEXT);
  // Bun by itself takes about 60 MiB; the queue is 8 MiB.
  expect(peak).toBeLessThan(250);
  expect(peakOf(server.pid)).toBeLessThan(300);
});

test("a collector that hangs in the middle of it: nothing is lost, memory stays level", async () => {
  const launch = startLaunch(["--", "seq", "1", "1500000"], { dataDir: server.dataDir });
  const id = await launch.id;
  const total = async () => (await server.api(`/api/v1/runs/${id}/logs?limit=1`)).total as number;
  await until(async () => (await total()) > 0);
  process.kill(server.pid, "SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const peak = peakOf(launch.child.pid!);
  process.kill(server.pid, "SIGCONT");
  const { code } = await launch.ended;
  expect(code).toBe(0);
  expect(peak).toBeLessThan(250);
  expect((await readRun(server, id)).status).toBe("FINISHED");
  expect(await total()).toBe(1_500_000);
  const page = await server.api(`/api/v1/runs/${id}/logs?limit=10000&after=750000`);
  expect(page.lines.every((line: { line: number; text: string }) => line.text === String(line.line))).toBe(
    true,
  );
});
