import { afterEach, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath, remove, startBinary, temporaryFolder, type RunningBinary } from "./helpers/binary.ts";

const HEAP = "BUN_JSC_forceRAMSize";
const folders: string[] = [];
const running: RunningBinary[] = [];

async function start(env: Record<string, string> = {}, args: string[] = []) {
  const dataDir = temporaryFolder();
  folders.push(dataDir);
  const collector = await startBinary({ dataDir, env, args: ["--no-hardware", ...args] });
  running.push(collector);
  return { collector, dataDir };
}

const bytesOf = (pid: number, file: string) => readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0");

beforeAll(() => void binaryPath(), 180_000);
afterEach(async () => {
  for (const collector of running.splice(0)) await collector.stop();
  remove(...folders.splice(0));
});

test.if(process.platform === "linux")(
  "a collector's heap is measured, in the process that was started",
  async () => {
    const { collector, dataDir } = await start({ KEPT: "a b" }, ["--allow-host", "gpu7"]);
    const { pid } = collector.process;
    const environment = bytesOf(pid, "environ");
    expect(environment.find((line) => line.startsWith(HEAP))).toBe(`${HEAP}=${256 * 1024 * 1024}`);
    expect(environment).toContain("KEPT=a b");
    expect(bytesOf(pid, "cmdline").slice(1)).toEqual([
      "start",
      "--port",
      "0",
      "--no-hardware",
      "--allow-host",
      "gpu7",
      "",
    ]);
    expect(JSON.parse(readFileSync(join(dataDir, "collector.json"), "utf8")).pid).toBe(pid);
    expect(collector.output()).not.toContain("Warning");
    expect(await collector.stop()).toBe(0);
  },
);

test.if(process.platform === "linux")(
  "one that was measured by whoever started it is left as it is",
  async () => {
    const { collector } = await start({ [HEAP]: "1073741824" });
    expect(bytesOf(collector.process.pid, "environ")).toContain(`${HEAP}=1073741824`);
  },
);
