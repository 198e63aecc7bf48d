import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { eq } from "drizzle-orm";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { registerDevice } from "../src/device/register.ts";
import { recordEvents } from "../src/sample/event.ts";
import { serve, type Server } from "../src/runtime.ts";
import { device as deviceTable, runDevice } from "../src/store/tables.ts";
import { cleanEnv, runCli } from "./helpers/cli.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { facts, gpu, gpuValues, machineValues } from "./helpers/device.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

const RUN = "483920175526711";
const main = join(import.meta.dirname, "../src/cli/main.ts");

let at: TestCollector;
let server: Server;
let device: string;
let load = 0.3124;
let feeding: ReturnType<typeof setInterval> | undefined;

const listen = (port: number) =>
  serve({ hostname: "127.0.0.1", port, fetch: (request, connection) => at.app.fetch(request, connection) });

/** What a sampler does each second, a little faster. */
function feed(): void {
  const time = Date.now();
  at.collector.latest.put(device, [
    { subject: "", time, values: { ...machineValues, "cpu.utilization": load } },
    { subject: "GPU-0", time, values: gpuValues },
    // Of the moment before it was lost.
    { subject: "GPU-1", time, values: gpuValues },
    { subject: `run/${RUN}`, time, values: { "run.cpu": 12.3, "run.gpu.memory@GPU-0": 70 * 1024 ** 3 } },
  ]);
}

beforeAll(async () => {
  at = createTestCollector();
  device = at.collector.device;
  server = listen(0);
  await registerDevice(at.collector, device, facts({ gpus: [gpu(0), gpu(1, { lost: true })] }));
  await at.json("/api/v1/runs", { body: { id: RUN, name: "swift-otter" } });
  await at.collector.db.insert(runDevice).values({ run: RUN, device, from: Date.now() });
  feed();
  feeding = setInterval(feed, 500);
});
afterAll(async () => {
  clearInterval(feeding);
  await server.stop(0);
  await at.close();
});
beforeEach(() => {
  load = 0.3124;
});

const envOf = (more: Record<string, string> = {}) => ({
  BINNACLE_URL: `http://127.0.0.1:${server.port}`,
  BINNACLE_TOKEN: at.trust.tokens.read,
  LANG: "C.UTF-8",
  LC_ALL: "C.UTF-8",
  TERM: "xterm-256color",
  ...more,
});
const cli = (args: string[], env: Record<string, string> = {}) => runCli(args, { env: envOf(env) });

describe("device list", () => {
  test("prints machines, GPUs and runs", async () => {
    const { stdout, code } = await cli(["device", "list"]);
    expect(code).toBe(0);
    expect(stdout.split("\n").map((line) => line.trimEnd())).toEqual([
      "ID                NAME                      CPU         MEMORY       GPUS  SEEN  LIVE RUNS",
      `${device}  node1 (this collector's)  31 % of 64  113/252 GiB  2     now   ${RUN}`,
      "",
      "GPU  NAME            UTIL         MEMORY   TEMP      POWER  STATE",
      "  0  H100 80GB HBM3  83 %  71.2/79.6 GiB  64 °C  612/700 W  ok",
      "  1  H100 80GB HBM3     -              -      -          -  lost",
      "",
    ]);
  });

  test("--json has the documented fields and no others", async () => {
    const { stdout } = await cli(["device", "list", "--json"]);
    const [listed, ...others] = JSON.parse(stdout);
    expect(others).toEqual([]);
    const text = await Bun.file(join(import.meta.dirname, "../docs/cli-json.md")).text();
    const section = text.split("## `binnacle device list --json`")[1]!.split("\n## ")[0]!;
    const documented = [...section.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
    );
    expect(Object.keys(listed).sort()).toEqual(documented.sort());
    expect(listed).toMatchObject({ id: device, runs: [RUN], gpus: [{ uuid: "GPU-0" }, { lost: true }] });
    expect(listed.latest["GPU-0"].values["gpu.power"]).toBe(612.3);
  });
});

describe("device top", () => {
  test("prints the present once where its output is no terminal, without colours", async () => {
    const { stdout, code } = await cli(["device", "top"]);
    expect(code).toBe(0);
    expect(stdout).not.toContain("\u001b");
    const lines = stdout.split("\n");
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d  node1 · Linux 6\.1\.0 · AMD EPYC 7763 · 64 cores · 252 GiB$/);
    expect(lines[3]).toMatch(/^CPU {7}█+▌?░+  31 %  load 20\.5 18\.3 9\.0/);
    expect(stdout).toMatch(/\n  0  H100 80GB HBM3 .* 83 %.* 71\.2\/79\.6 GiB  64 °C  612\/700 W/);
    expect(stdout).toContain(" lost\n");
    expect(stdout).toMatch(new RegExp(`\n${RUN}  swift-otter +12\\.3 .* 70\\.0 GiB +0 `));
  });

  test("--json prints a line for each second, whose values are new", async () => {
    const { stdout, code } = await cli(["device", "top", "node1", "--json", "-n", "2"]);
    expect(code).toBe(0);
    const [first, second, ...others] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(others).toEqual([]);
    expect(Object.keys(first)[0]).toBe("time");
    expect(first.latest[""].values["cpu.utilization"]).toBe(0.3124);
    expect(Date.parse(second.latest[""].time)).toBeGreaterThan(Date.parse(first.latest[""].time));
    expect(second.last_seen).toBe(second.latest[""].time);
    const listed = JSON.parse((await cli(["device", "list", "--json"])).stdout)[0];
    expect(Object.keys(second).sort()).toEqual(["time", ...Object.keys(listed)].sort());
  });

  test("--json ends without a word when its reader has had enough", async () => {
    const { code, stderr } = await runCli(
      ["-c", `"$0" "$1" device top --json | head -1 | wc -l`, process.execPath, main],
      {
        program: ["sh"],
        env: envOf(),
      },
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  test("--json does not wait for ever for a device that nobody reads", async () => {
    await registerDevice(at.collector, "0123456789abcdef", facts({ name: "node2" }));
    const { stdout, stderr, code } = await cli(["device", "top", "node2", "--json"]);
    await at.collector.db.delete(deviceTable).where(eq(deviceTable.id, "0123456789abcdef"));
    expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
    expect(stderr).toContain("Nothing is read of node2 now. Either");
  });

  const wrong: [args: string[], code: number, says: string][] = [
    [["nowhere"], 3, "There is no device nowhere. See `binnacle device list`"],
    [["../etc"], 3, "'../etc' is no device."],
    [["--interval", "0.5"], 2, "--interval wants a number of seconds, 1 or more, not '0.5'."],
    [["--interval", "soon"], 2, "--interval wants a number of seconds"],
    [["--json", "-n", "0"], 2, "--count wants a whole number of at least 1"],
    [["-n", "3"], 2, "--count wants --json."],
    [["--url", "http://127.0.0.1:1"], 4, "No collector answers at http://127.0.0.1:1."],
  ];
  for (const [args, code, says] of wrong)
    test(`${args.join(" ")}: exit code ${code}`, async () => {
      const result = await cli(["device", "top", ...args]);
      expect(result).toMatchObject({ code, stdout: "" });
      expect(result.stderr).toContain(says);
    });

  test("a collector that has read no machine yet says so", async () => {
    const empty = createTestCollector();
    const other = serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request, connection) => empty.app.fetch(request, connection),
    });
    const { code, stderr } = await cli(["device", "top"], { BINNACLE_URL: `http://127.0.0.1:${other.port}` });
    expect(code).toBe(3);
    expect(stderr).toContain("has not read this machine yet");
    await other.stop(0);
    await empty.close();
  });
});

type Step =
  | { until: string }
  | { send: string }
  | { resize: [rows: number, columns: number] }
  | { signal: number }
  | { stopped: true }
  | { say: string };

interface Played {
  output: string;
  code: number;
  /** The terminal's settings are as they were. */
  restored: boolean;
}

/** `device top` on a terminal of its own; `onSay` is called for each `say` of the steps, which wait for it. */
async function play(
  steps: Step[],
  {
    size = [24, 100],
    env = {},
    onSay = async () => {},
  }: { size?: [number, number]; env?: Record<string, string>; onSay?: (word: string) => Promise<void> } = {},
): Promise<Played> {
  const child = spawn("python3", [join(import.meta.dirname, "helpers/terminal.py")], {
    env: cleanEnv(envOf(env)),
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  const argv = [process.execPath, main, "device", "top"];
  child.stdin.write(`${JSON.stringify({ argv, size, steps })}\n`);
  let played: Played | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("{")) played = JSON.parse(line);
    else {
      await onSay(line);
      child.stdin.write("\n");
    }
  }
  if (!played) throw new Error(stderr);
  return played;
}

const ENTER = "\u001b[?1049h\u001b[?25l";
const LEAVE = "\u001b[?25h\u001b[?1049l";

/** The lines that a terminal shows at the end, by the few sequences that the view uses. */
function screenOf(output: string): string[] {
  const rows: string[] = [];
  for (const [, row, text] of output.matchAll(
    /\u001b\[(\d+);1H\u001b\[2K([^\u001b]*(?:\u001b\[[\d;]*m[^\u001b]*)*)/g,
  ))
    rows[Number(row) - 1] = text!.replace(/\u001b\[[\d;]*m/g, "");
  return rows;
}

describe.skipIf(process.platform === "win32")("device top on a terminal", () => {
  test("draws in place each second, and q leaves the terminal as it was", async () => {
    const { output, code, restored } = await play(
      [{ until: "swift-otter" }, { say: "busier" }, { until: "77 %" }, { send: "q" }],
      { onSay: async () => void (load = 0.77) },
    );
    expect({ code, restored }).toEqual({ code: 0, restored: true });
    expect(output).toStartWith(ENTER);
    expect(output).toEndWith(LEAVE);
    expect(output.split(ENTER)).toHaveLength(2);
    const lines = screenOf(output);
    expect(lines[0]).toContain("node1");
    expect(lines[3]).toMatch(/^CPU {7}█+.*░+  77 %/);
    expect(lines.some((line) => /^ {2}0  H100 80GB HBM3/.test(line))).toBe(true);
    expect(output).toContain("\u001b[31mlost\u001b[m");
    // What did not change was not drawn again.
    expect(output.split("NVIDIA 550.54.15")).toHaveLength(2);
  });

  test("Ctrl-C ends it too", async () => {
    const { output, code, restored } = await play([{ until: "node1" }, { send: "\u0003" }]);
    expect({ code, restored }).toEqual({ code: 0, restored: true });
    expect(output).toEndWith(LEAVE);
  });

  test("a signal ends it, with the terminal as it was", async () => {
    const { output, code, restored } = await play([{ until: "node1" }, { signal: 15 }]);
    expect({ code, restored }).toEqual({ code: 143, restored: true });
    expect(output).toEndWith(LEAVE);
  });

  test("Ctrl-Z gives the terminal back, and it goes on where it was", async () => {
    const { output, code, restored } = await play([
      { until: "node1" },
      { send: "\u001a" },
      { until: LEAVE },
      { stopped: true },
      { signal: 18 },
      { until: ENTER },
      { until: "NVIDIA" },
      { send: "q" },
    ]);
    expect({ code, restored }).toEqual({ code: 0, restored: true });
    expect(output.split(LEAVE)).toHaveLength(3);
  });

  test("a terminal that changes its size is drawn anew, as wide and as high as it is", async () => {
    const { output } = await play([
      { until: "swift-otter" },
      { resize: [9, 40] },
      { until: "GPU" },
      { send: "q" },
    ]);
    const after = output.slice(output.lastIndexOf("\u001b[2J"));
    const lines = screenOf(after);
    expect(lines).toHaveLength(9);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(40);
    expect(after).not.toContain("swift-otter");
  });

  test("without colours and without UTF-8 it does without", async () => {
    const { output } = await play([{ until: "swift-otter" }, { send: "q" }], {
      env: { NO_COLOR: "1", LANG: "C", LC_ALL: "C" },
    });
    const drawn = output.slice(ENTER.length, -LEAVE.length - 3);
    expect(drawn).not.toMatch(/\u001b\[[\d;]*m/);
    // eslint-disable-next-line no-control-regex -- that is the point
    expect(drawn).toMatch(/^[\u0000-\u007f]*$/);
    expect(screenOf(output)[3]).toMatch(/^CPU {7}#+\.+  31 %/);
  });

  test("what happens is told, also while the collector is away it says so, and goes on when it is back", async () => {
    const { port } = server;
    const { output, code } = await play(
      [
        { until: "swift-otter" },
        { say: "event" },
        { until: "Xid 79" },
        { say: "stop" },
        { until: "has not answered for" },
        { until: "Stale" },
        { say: "start" },
        { until: "55 %" },
        { send: "q" },
      ],
      {
        async onSay(word) {
          if (word === "event")
            await recordEvents(at.collector, device, [
              { subject: "GPU-0", time: Date.now(), kind: "gpu.xid", text: "GPU 0: Xid 79" },
            ]);
          if (word === "stop") await server.stop(0);
          if (word === "start") {
            load = 0.55;
            server = listen(port);
          }
        },
      },
    );
    expect(code).toBe(0);
    expect(screenOf(output).join("\n")).not.toContain("has not answered");
  });
});
