import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ReaderMessage } from "../src/machine/gpu/message.ts";
import { superviseGpus, type SuperviseOptions } from "../src/machine/gpu/supervisor.ts";
import { readerCommand, watchGpus, type WatchedGpus } from "./helpers/gpus.ts";
import { mockEnvironment, noCompiler, scenario, type Scenario } from "./helpers/nvml.ts";

// Each starts a process, on a machine that may be busy.
setDefaultTimeout(40_000);

let gpus: WatchedGpus | undefined;
let told: Scenario | undefined;

function watch(lines: string[], options: Partial<SuperviseOptions> & { args?: string[] } = {}): WatchedGpus {
  told = scenario(...lines);
  gpus = watchGpus(told, options);
  return gpus;
}

afterEach(async () => {
  await gpus?.close();
  gpus = undefined;
  told?.remove();
});

/** Whether it runs; a zombie does not. */
function isAlive(pid: number): boolean {
  try {
    return !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`it did not come true that ${what}`);
    await Bun.sleep(10);
  }
}

/** Process ids of the readers on this scenario. */
function readersOf({ path }: Scenario): number[] {
  const found = Bun.spawnSync(["grep", "-lzs", `MOCK_SCENARIO=${path}`, ...procFiles()]);
  return found.stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Number(line.split("/")[2]))
    .filter(isAlive);
}

const procFiles = () =>
  [...new Bun.Glob("*/environ").scanSync("/proc")]
    .filter((path) => /^\d/.test(path))
    .map((path) => `/proc/${path}`);

describe.skipIf(noCompiler)("a reader", () => {
  test("in a call that does not return is ended, and the next one reads on", async () => {
    const { next, values, source, diagnostics } = watch(["gpus 2"], {
      limits: { silence: 10, pause: 1 },
    });
    const before = await next("samples");
    told!.set("gpus 2", "slow nvmlDeviceGetTemperatureV:60000000,nvmlDeviceGetTemperature:60000000");
    const { reader } = await next("status");
    expect(reader).toMatchObject({
      status: "hung",
      driver: "550.54.15",
      advice: expect.stringContaining("dmesg"),
    });
    expect(diagnostics).toHaveLength(1);
    told!.set("gpus 2");
    expect((await next("inventory")).gpus).toHaveLength(2);
    const after = await next("samples");
    // A gap, and no value of before in it.
    expect(after.time - before.time).toBeGreaterThan(1000);
    expect(source.reader().status).toBe("ok");
    await values(1);
    expect(readersOf(told!)).toHaveLength(1);
  });

  test("that hangs from its first call on gets longer than one that reads already", async () => {
    const { next, diagnostics } = watch(["gpus 1", "slow nvmlInit_v2:900000"], {
      limits: { silence: 3, start: 100, pause: 1 },
    });
    await next("samples");
    expect(diagnostics).toEqual([]);
    await gpus!.close();
    watch(["gpus 1", "slow nvmlInit_v2:60000000"], { limits: { start: 10, pause: 1 } });
    expect((await gpus!.next("status")).reader.status).toBe("hung");
    told!.set("gpus 1");
    await gpus!.next("samples");
  });

  test("that SIGKILL does not end is left alone; one more is tried, then none until one is gone", async () => {
    const survivors: ChildProcess[] = [];
    const { next, values } = watch(["gpus 1"], {
      limits: { silence: 10, start: 20, abandon: 2, pause: 1 },
      // As the kernel treats one that waits for the driver.
      kill: (child) => void survivors.push(child),
    });
    try {
      await values(0);
      told!.set("gpus 1", "slow nvmlDeviceGetTemperatureV:60000000,nvmlDeviceGetTemperature:60000000");
      const said = (reason: string) => next("status", ({ reader }) => reader.reason!.includes(reason));
      await said("does not return");
      expect((await said("can't be ended")).reader).toMatchObject({
        status: "hung",
        advice: expect.stringContaining("Reboot"),
      });
      expect(survivors).toHaveLength(2);
      expect(readersOf(told!)).toHaveLength(2);
      told!.set("gpus 1");
      survivors[0]!.kill("SIGKILL");
      await values(0);
      expect(readersOf(told!)).toHaveLength(2);
    } finally {
      for (const child of survivors) child.kill("SIGKILL");
    }
  });

  test("that crashes is started again, and it is told how it ended", async () => {
    const { next, values } = watch(["gpus 1"], { limits: { pause: 1 } });
    await values(0);
    process.kill(readersOf(told!)[0]!, "SIGSEGV");
    expect((await next("status")).reader).toMatchObject({
      status: "failed",
      reason: "The process that reads the GPUs ended unexpectedly (SIGSEGV).",
    });
    await values(0);
    expect(gpus!.source.reader().status).toBe("ok");
  });

  test("is not blamed for a silence in which nobody listened", async () => {
    const { values, diagnostics } = watch(["gpus 1"], { limits: { silence: 5 } });
    await values(0);
    // This process stands still for longer than a reader may be silent.
    Bun.sleepSync(1500);
    await values(0);
    expect(diagnostics).toEqual([]);
  });

  test("ends when its parent is killed", async () => {
    told = scenario("gpus 1");
    const parent = Bun.spawn(
      [
        process.execPath,
        "-e",
        `const { spawn } = require("node:child_process");
         const [file, ...args] = ${JSON.stringify(readerCommand(1000))};
         const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
         child.stdout.once("data", () => console.log(child.pid));`,
      ],
      { env: { ...process.env, ...mockEnvironment(told) }, stdout: "pipe" },
    );
    const { value } = await parent.stdout.getReader().read();
    const pid = Number(new TextDecoder().decode(value));
    expect(isAlive(pid)).toBe(true);
    parent.kill("SIGKILL");
    await until(() => !isAlive(pid), "the reader has ended");
  });

  test("whose parent does not listen neither piles up memory nor tells old things afterwards", async () => {
    told = scenario("gpus 8");
    const [file, ...args] = readerCommand(10);
    const child = spawn(file!, args, {
      env: { ...process.env, ...mockEnvironment(told) },
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      let text = "";
      let listens = false;
      const samples = () =>
        text
          .split("\n")
          .slice(0, -1)
          .map((line) => JSON.parse(line) as ReaderMessage)
          .filter((message) => message.kind === "samples");
      child.stdout.setEncoding("utf8");
      const listen = (part: string) => void (text += part);
      child.stdout.once("data", () => (listens = true));
      await until(() => listens, "it says something");
      child.stdout.removeAllListeners("data").pause();
      // It sleeps in the write: its processor time stands still.
      const used = () => readFileSync(`/proc/${child.pid}/stat`, "latin1").split(" ").slice(13, 15).join(" ");
      let still = 0;
      let last = "";
      await until(() => {
        still = used() === last ? still + 1 : 0;
        last = used();
        return still > 50;
      }, "it stops reading");
      const stopped = Date.now();
      child.stdout.on("data", listen).resume();
      await until(() => samples().some(({ time }) => time > stopped), "it reads on");
      const times = samples().map(({ time }) => time);
      const behind = times.filter((time) => time < stopped);
      // What a pipe holds, not half a second of ticks more.
      expect(stopped - behind.at(-1)!).toBeGreaterThan(400);
      expect(times.find((time) => time >= stopped)! - stopped).toBeLessThan(2000);
    } finally {
      child.kill("SIGKILL");
    }
  });
});

describe.skipIf(noCompiler)("closing", () => {
  test("ends the reader at once", async () => {
    const { values } = watch(["gpus 1"]);
    await values(0);
    const [pid] = readersOf(told!);
    const began = performance.now();
    await gpus!.close();
    expect(performance.now() - began).toBeLessThan(1000);
    await until(() => !isAlive(pid!), "the reader has ended");
  });

  test("ends one that hangs, too", async () => {
    const { values } = watch(["gpus 1"], { limits: { close: 2, abandon: 20 } });
    await values(0);
    const [pid] = readersOf(told!);
    told!.set("gpus 1", "slow nvmlDeviceGetTemperatureV:60000000,nvmlDeviceGetTemperature:60000000");
    await Bun.sleep(400);
    await gpus!.close();
    await until(() => !isAlive(pid!), "the reader has ended");
  });

  test("does not wait for one that can't be ended", async () => {
    let survivor: ChildProcess | undefined;
    const { values } = watch(["gpus 1"], {
      limits: { close: 1, abandon: 2 },
      kill: (child) => void (survivor = child),
    });
    await values(0);
    told!.set("gpus 1", "slow nvmlDeviceGetTemperatureV:60000000,nvmlDeviceGetTemperature:60000000");
    await Bun.sleep(400);
    const began = performance.now();
    await gpus!.close();
    expect(performance.now() - began).toBeLessThan(2000);
    survivor?.kill("SIGKILL");
  });
});

describe("no process is started", () => {
  /** A command that leaves a trace. */
  function supervise(options: Partial<SuperviseOptions>) {
    const folder = mkdtempSync(join(tmpdir(), "binnacle-gpu-"));
    const trace = join(folder, "started");
    const diagnostics: string[] = [];
    const source = superviseGpus({
      command: ["/bin/sh", "-c", `echo > ${trace}; cat`],
      onDiagnostic: (line) => diagnostics.push(line),
      hasHardware: () => false,
      second: 1,
      ...options,
    });
    return {
      source,
      diagnostics,
      wasStarted: () => existsSync(trace),
      async close() {
        await source.close();
        rmSync(folder, { recursive: true });
      },
    };
  }

  test("where reading GPUs is switched off", async () => {
    const { source, wasStarted, diagnostics, close } = supervise({ off: true, hasLibrary: () => true });
    expect(source.reader()).toMatchObject({ status: "off", advice: null });
    await Bun.sleep(200);
    expect(wasStarted()).toBe(false);
    expect(diagnostics).toEqual([]);
    await close();
  });

  test("on a machine without NVIDIA's library and GPUs, which says so once", async () => {
    const { source, wasStarted, diagnostics, close } = supervise({ hasLibrary: () => false });
    await until(() => source.reader().status === "absent", "it is looked for");
    expect(source.reader()).toMatchObject({ status: "absent", advice: null });
    expect(source.gpus()).toEqual([]);
    expect(diagnostics).toEqual(["GPUs: There is no NVIDIA driver on this machine."]);
    // Ten minutes of 1 ms seconds.
    await Bun.sleep(1000);
    expect(wasStarted()).toBe(false);
    expect(diagnostics).toHaveLength(1);
    await close();
  });

  test("until the library is installed on a machine with a GPU", async () => {
    let installed = false;
    const { source, wasStarted, diagnostics, close } = supervise({
      hasLibrary: () => installed,
      hasHardware: () => true,
      second: 1,
    });
    await until(() => source.reader().status === "absent", "it is looked for");
    expect(source.reader()).toMatchObject({ status: "absent", advice: expect.stringContaining("Install") });
    await Bun.sleep(700);
    expect(wasStarted()).toBe(false);
    installed = true;
    await until(wasStarted, "it is started");
    expect(diagnostics).toHaveLength(1);
    await close();
  });

  test("without a driver, though it is looked for each minute", async () => {
    let loaded = false;
    const folder = mkdtempSync(join(tmpdir(), "binnacle-gpu-"));
    const count = join(folder, "count");
    const status = JSON.stringify({
      kind: "status",
      time: 0,
      reader: { status: "no_driver", reason: "none", advice: null, driver: null, cuda: null, library: null },
    });
    writeFileSync(count, "");
    const { close } = supervise({
      command: ["/bin/sh", "-c", `echo x >> ${count}; echo '${status}'`],
      hasLibrary: () => true,
      hasDriver: () => loaded,
      second: 2,
    });
    const starts = () => readFileSync(count, "utf8").length / 2;
    await until(() => starts() === 1, "the first attempt is made");
    await Bun.sleep(500);
    expect(starts()).toBe(1);
    loaded = true;
    await until(() => starts() > 1, "it is tried again");
    await close();
    rmSync(folder, { recursive: true });
  });
});

describe("whatever the reader says", () => {
  const says = (script: string, options: Partial<SuperviseOptions> = {}) => {
    const diagnostics: string[] = [];
    const messages: ReaderMessage[] = [];
    const source = superviseGpus({
      command: ["/bin/sh", "-c", script],
      onDiagnostic: (line) => diagnostics.push(line),
      hasLibrary: () => true,
      ...options,
    });
    source.subscribe((message) => messages.push(message));
    return { source, diagnostics, messages };
  };

  test("on stderr is a diagnostic, bounded", async () => {
    const { source, diagnostics } = says(
      "i=0; while [ $i -lt 100 ]; do echo problem $i >&2; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\\0' y >&2; cat",
    );
    await until(() => diagnostics.length === 20, "twenty lines came");
    await Bun.sleep(200);
    expect(diagnostics).toHaveLength(20);
    expect(diagnostics[0]).toBe("GPU reader: problem 0");
    await source.close();
  });

  test("that is no message is a diagnostic, and what follows is heard", async () => {
    const { source, diagnostics, messages } = says(
      `echo 'Killed by a library'; echo '{"kind":"xid","time":1,"uuid":"GPU-1","xid":79}'; cat`,
    );
    await until(() => messages.length === 1, "the message came");
    expect(messages).toEqual([{ kind: "xid", time: 1, uuid: "GPU-1", xid: 79 }]);
    expect(diagnostics).toEqual(["GPU reader: Killed by a library"]);
    await source.close();
  });

  test("nothing of this process's environment reaches it but what it needs", async () => {
    process.env["BINNACLE_TEST_SECRET"] = "s3cret";
    const { source, diagnostics } = says("env >&2; cat", { env: { BINNACLE_ADDONS: "/somewhere" } });
    await until(() => diagnostics.some((line) => line.includes("BINNACLE_ADDONS=/somewhere")), "it has it");
    delete process.env["BINNACLE_TEST_SECRET"];
    expect(diagnostics.join("\n")).not.toMatch(/s3cret|HOME=/);
    await source.close();
  });

  test("a command that is not there is told, and tried again", async () => {
    const { source, diagnostics, messages } = says("", {
      command: ["/nonexistent/binnacle"],
      second: 1,
    });
    await until(() => diagnostics.length > 0, "it is told");
    expect(source.reader()).toMatchObject({ status: "failed", reason: expect.stringContaining("ENOENT") });
    expect(messages.filter(({ kind }) => kind === "status").length).toBeLessThanOrEqual(1);
    await source.close();
  });
});

test("a GPU that a new reader does not list is lost, one that it lists again is back", async () => {
  const gpu = (uuid: string, index: number, parent: string | null = null) => ({
    uuid,
    index,
    parent,
    lost: false,
    states: {},
  });
  const reader = { status: "ok", reason: null, advice: null, driver: "1", cuda: null, library: null };
  const inventory = (...gpus: object[]) => JSON.stringify({ kind: "inventory", time: 1, reader, gpus });
  const all = [gpu("GPU-0", 0), gpu("GPU-1", 1), gpu("MIG-1a", 0, "GPU-1"), gpu("MIG-1b", 3, "GPU-1")];
  const folder = mkdtempSync(join(tmpdir(), "binnacle-gpu-"));
  writeFileSync(
    join(folder, "words"),
    [inventory(...all), inventory(gpu("GPU-0", 0)), inventory(), inventory(...all.toReversed())].join("\n"),
  );
  const events: string[] = [];
  const source = superviseGpus({
    command: ["/bin/sh", "-c", `cat ${join(folder, "words")}; echo; cat`],
    onDiagnostic: () => {},
    hasLibrary: () => true,
  });
  source.subscribe((message) => {
    const gpus = source.gpus().map(({ uuid, lost }) => `${uuid}${lost ? " lost" : ""}`);
    if (message.kind === "inventory") events.push(gpus.join(", "));
    if (message.kind === "lost" || message.kind === "back") events.push(`${message.kind} ${message.uuid}`);
  });
  await until(() => events.length === 6, "all of it was heard");
  expect(events).toEqual([
    "GPU-0, GPU-1, MIG-1a, MIG-1b",
    "GPU-0, GPU-1 lost",
    "lost GPU-1",
    // All of them sleep.
    "GPU-0, GPU-1 lost",
    "GPU-0, GPU-1, MIG-1a, MIG-1b",
    "back GPU-1",
  ]);
  await source.close();
  rmSync(folder, { recursive: true });
});
