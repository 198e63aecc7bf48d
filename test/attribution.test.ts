import { afterEach, describe, expect, test } from "bun:test";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { createAttribution } from "../src/machine/attribution.ts";
import { parseProcess } from "../src/machine/process-tree.ts";
import { readBootId, readProcessStart } from "../src/run/machine.ts";
import type { WriterProcess } from "../src/machine/writer-process.ts";
import { loudly } from "./helpers/binary.ts";

const RUN = "100000000000077";
const noLinux = process.platform !== "linux" && loudly("a run's processes are told apart on Linux alone");
/** Some tenths of a second of processor time. */
const SPIN = "for ((i = 0; i < 150000; i++)); do :; done";

const programs = new Set<Program>();
afterEach(() => {
  for (const { child } of programs) child.kill("SIGKILL");
  for (const { all } of programs) for (const pid of all) kill(pid);
  programs.clear();
});

interface Program {
  child: ChildProcess;
  pid: number;
  /** Pids it said, to be ended with the test. */
  all: Set<number>;
  /** The word behind `name` that it prints. */
  says(name: string): Promise<string>;
  /** Lets it go on after a `read`. */
  go(): void;
  ended: Promise<unknown>;
}

/** A script of bash that tells us where it stands. Without --norc bash takes a socket for a remote shell. */
function start(script: string, { env = {}, wrap = [] as string[] } = {}): Program {
  const [file, ...args] = [...wrap, "bash", "--norc", "-c", script];
  const child = spawn(file!, args, {
    env: { PATH: process.env["PATH"], ...env } as unknown as NodeJS.ProcessEnv,
    stdio: ["pipe", "pipe", "inherit"],
  });
  let text = "";
  const waiting: (() => void)[] = [];
  child.stdout!.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    for (const wake of waiting.splice(0)) wake();
  });
  const program: Program = {
    child,
    pid: child.pid!,
    all: new Set(),
    async says(name) {
      for (;;) {
        const found = new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1];
        if (found !== undefined) {
          if (/^\d+$/.test(found)) program.all.add(Number(found));
          return found;
        }
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    go: () => void child.stdin!.write("\n"),
    ended: once(child, "exit"),
  };
  programs.add(program);
  return program;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

const writer = (pid: number, more: Partial<WriterProcess> = {}): WriterProcess => ({
  client: `c${pid}`,
  role: "client",
  pid,
  boot: readBootId()!,
  start: readProcessStart(pid) ?? null,
  device: hostname(),
  ...more,
});

const cpuOf = (pid: number) => parseProcess(pid, readFileSync(`/proc/${pid}/stat`, "latin1"), 4096)!.cpu;
const fresh = () => ({ since: Date.now(), restored: false });

/** Far from the processes of this test run, which are our own descendants. */
const create = (more: Parameters<typeof createAttribution>[0] = {}) =>
  createAttribution({ self: -1, ...more });

describe.skipIf(noLinux)("the processes of a run", () => {
  test("a writer owns what it starts, threads and memory of all of it, and nobody else's", async () => {
    const other = start(`echo up $$; read; ${SPIN}`);
    const program = start(
      `for n in 1 2 3; do bash --norc -c '${SPIN}; sleep 60' & echo worker$n $!; done; echo up $$; wait`,
    );
    await Promise.all([other.says("up"), program.says("up")]);
    const workers = await Promise.all([1, 2, 3].map((n) => program.says(`worker${n}`).then(Number)));
    const attribution = create();
    expect(attribution.attach(RUN, [writer(program.pid)], fresh())).toBe(true);
    await Bun.sleep(300);
    const look = attribution.look().get(RUN)!;
    expect([...look.pids]).toEqual(expect.arrayContaining([program.pid, ...workers]));
    expect(look.pids.has(other.pid)).toBe(false);
    expect(look.attribution).toBe("descendants");
    expect(look.values["run.processes"]).toBeGreaterThanOrEqual(4);
    expect(look.values["run.threads"]).toBe(look.values["run.processes"]!);
    expect(look.values["run.memory.rss"]).toBeGreaterThan(4 * 2 ** 20);
    expect(look.values["run.cpu"]).toBeGreaterThan(0);
    expect(look.values["run.disk.read"]).toBeGreaterThanOrEqual(0);
    const used = workers.map(cpuOf).reduce((sum, one) => sum + one, 0);
    expect(look.cpuSeconds).toBeLessThanOrEqual(used + 0.05);
  });

  test("workers that come and go between two looks are counted by who waited for them", async () => {
    const program = start(
      `echo up $$; read; for n in 1 2 3; do bash --norc -c '${SPIN}'; done; echo done $$; read`,
    );
    await program.says("up");
    const attribution = create();
    attribution.attach(RUN, [writer(program.pid)], fresh());
    program.go();
    await program.says("done");
    const stat = parseProcess(program.pid, readFileSync(`/proc/${program.pid}/stat`, "latin1"), 4096)!;
    const look = attribution.look().get(RUN)!;
    expect(stat.childrenCpu).toBeGreaterThan(0.1);
    expect(look.cpuSeconds).toBeGreaterThanOrEqual(stat.childrenCpu);
    expect(look.cpuSeconds).toBeLessThanOrEqual(stat.childrenCpu + stat.cpu + 0.02);
    expect(look.values["run.processes"]).toBe(1);
  });

  test("what it used before the run came is not the run's", async () => {
    const program = start(`${SPIN}; echo up $$; read`);
    await program.says("up");
    expect(cpuOf(program.pid)).toBeGreaterThan(0.05);
    const attribution = create();
    attribution.attach(RUN, [writer(program.pid)], fresh());
    expect(attribution.look().get(RUN)!.cpuSeconds).toBe(0);
  });

  test("a worker that loses its parent stays the run's", async () => {
    const program = start(
      "bash --norc -c 'sleep 60 & echo worker $!; wait' & echo middle $!; echo up $$; wait; read; read",
    );
    const [worker, middle] = [Number(await program.says("worker")), Number(await program.says("middle"))];
    const attribution = create();
    attribution.attach(RUN, [writer(program.pid)], fresh());
    expect(attribution.look().get(RUN)!.pids.has(worker)).toBe(true);
    kill(middle);
    while (readFileSync(`/proc/${worker}/stat`, "latin1").split(" ")[3] === String(middle))
      await Bun.sleep(5);
    // Until its parent has waited for it, it is still there.
    while (existsSync(`/proc/${middle}`)) await Bun.sleep(5);
    const look = attribution.look().get(RUN)!;
    expect(look.pids.has(worker)).toBe(true);
    expect(look.pids.has(middle)).toBe(false);
  });

  test("a worker started by others is found by its environment, and only this run's", async () => {
    const program = start("echo up $$; read");
    const mine = start("echo up $$; read", { env: { FEDML_CURRENT_RUN_ID: RUN } });
    const foreign = start("echo up $$; read", {
      env: { BINNACLE_RUN_ID: `${RUN}9`, FEDML_CURRENT_RUN_ID: RUN },
    });
    await Promise.all([program, mine, foreign].map((one) => one.says("up")));
    let ahead = 0;
    const attribution = create({ monotonic: () => performance.now() + ahead });
    attribution.attach(RUN, [writer(program.pid)], fresh());
    const late = start("echo up $$; read", { env: { BINNACLE_RUN_ID: RUN } });
    await late.says("up");
    ahead += 60_000;
    const { pids } = attribution.look().get(RUN)!;
    expect([mine.pid, late.pid].every((pid) => pids.has(pid))).toBe(true);
    expect(pids.has(foreign.pid)).toBe(false);
  });

  test("launch owns what it starts from the first instruction, but is not the run's itself", async () => {
    const launch = start(`echo up $$; read; bash --norc -c '${SPIN}'; echo done $$; ${SPIN}; read; read`);
    await launch.says("up");
    const attribution = create();
    expect(attribution.attach(RUN, [writer(launch.pid, { role: "launch" })], fresh())).toBe(true);
    expect(attribution.look().get(RUN)!.values).toEqual({});
    launch.go();
    await launch.says("done");
    const { childrenCpu } = parseProcess(
      launch.pid,
      readFileSync(`/proc/${launch.pid}/stat`, "latin1"),
      4096,
    )!;
    // It lived and died between two looks.
    const last = attribution.detach(RUN)!;
    expect(last.cpuSeconds).toBeGreaterThan(0.05);
    expect(last.cpuSeconds).toBeCloseTo(childrenCpu, 1);
    expect(attribution.isEmpty()).toBe(true);
  });

  test("what a nested launch starts is the nested run's alone", async () => {
    const launch = start(
      "bash --norc -c 'sleep 60 & echo inner $!; echo nested $$; wait' & echo up $$; wait",
    );
    const [inner, nested] = [Number(await launch.says("inner")), Number(await launch.says("nested"))];
    const attribution = create();
    attribution.attach(RUN, [writer(launch.pid, { role: "launch" })], fresh());
    attribution.attach("2", [writer(nested, { role: "launch" })], fresh());
    // The outer run had seen it, before the nested one was known.
    const looks = attribution.look();
    expect(looks.get("2")!.pids.has(inner)).toBe(true);
    expect(looks.get(RUN)!.pids.has(nested)).toBe(true);
    expect(looks.get(RUN)!.pids.has(inner)).toBe(false);
  });

  test("the collector that a launch started, and what that started, is no run's", async () => {
    const launch = start(
      "bash --norc -c 'sleep 60 & echo reader $!; echo collector $$; wait' & sleep 60 & echo program $!; wait",
    );
    const [reader, collector, program] = await Promise.all(
      ["reader", "collector", "program"].map(async (name) => Number(await launch.says(name))),
    );
    const attribution = create({ self: collector! });
    attribution.attach(RUN, [writer(launch.pid, { role: "launch" })], fresh());
    const { pids } = attribution.look().get(RUN)!;
    expect(pids.has(program!)).toBe(true);
    expect(pids.has(collector!) || pids.has(reader!)).toBe(false);
  });

  test("two runs of one process both have it", async () => {
    const program = start("echo up $$; read");
    await program.says("up");
    const attribution = create();
    attribution.attach(RUN, [writer(program.pid)], fresh());
    attribution.attach("2", [writer(program.pid)], fresh());
    const looks = attribution.look();
    expect([RUN, "2"].map((run) => looks.get(run)!.pids.has(program.pid))).toEqual([true, true]);
    // The first is done, and the process goes on with the second.
    attribution.detach(RUN);
    expect(attribution.look().get("2")!.pids.has(program.pid)).toBe(true);
  });

  test("its shared pages are divided, off the event loop", async () => {
    const program = start("echo up $$; read");
    await program.says("up");
    let ahead = 0;
    const attribution = create({ monotonic: () => performance.now() + ahead });
    attribution.attach(RUN, [writer(program.pid)], fresh());
    ahead += 5000;
    attribution.look();
    let values = attribution.look().get(RUN)!.values;
    while (values["run.memory.pss"] === undefined) {
      await Bun.sleep(5);
      ({ values } = attribution.look().get(RUN)!);
    }
    expect(values["run.memory.pss"]).toBeLessThan(values["run.memory.rss"]!);
    expect(values["run.memory.pss"]).toBeGreaterThan(0);
  });
});

describe.skipIf(noLinux)("a writer is taken for a process of this machine", () => {
  const cases: [why: string, (pid: number) => Partial<WriterProcess>, since: number, boolean][] = [
    ["by its pid and its start", () => ({ device: "a container of this machine" }), 0, true],
    [
      "not with another start: a pid of a container",
      (pid) => ({ start: readProcessStart(pid)! + 1 }),
      0,
      false,
    ],
    ["not of another boot", () => ({ boot: "another" }), 0, false],
    ["not without a boot", () => ({ boot: null }), 0, false],
    ["not without a pid", () => ({ pid: null }), 0, false],
    ["without a start by its host", () => ({ start: null }), 0, true],
    ["without a start not on another host", () => ({ start: null, device: "elsewhere" }), 0, false],
    ["without a start not if it came after the run", () => ({ start: null }), -60_000, false],
    ["not if it is gone", () => ({ pid: 4_194_303, start: null }), 0, false],
  ];
  test.each(cases)("%s", async (_, more, since, expected) => {
    const program = start("echo up $$; read");
    await program.says("up");
    const attribution = create();
    const writers = [{ ...writer(program.pid), ...more(program.pid) }];
    expect(attribution.attach(RUN, writers, { since: Date.now() + since, restored: false })).toBe(expected);
  });

  const canUnshare = Bun.spawnSync(["unshare", "--pid", "--fork", "--mount-proc", "true"]).exitCode === 0;
  test.skipIf(!canUnshare && loudly("processes of containers are not tested: unshare --pid is not allowed"))(
    "in a container, where it has another number",
    async () => {
      const program = start(
        "read _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ < /proc/$$/stat; echo start $start; sleep 60",
        {
          wrap: ["unshare", "--pid", "--fork", "--mount-proc"],
        },
      );
      // The word before last but one: field 22.
      const begun = Number(await program.says("start"));
      programs.delete(program);
      const attribution = create();
      const inside = { ...writer(1), pid: 1, start: begun, device: "container" };
      try {
        expect(attribution.attach(RUN, [inside], fresh())).toBe(true);
        const { pids } = attribution.look().get(RUN)!;
        expect(pids.has(1)).toBe(false);
        expect(pids.size).toBeGreaterThan(0);
        for (const pid of pids) program.all.add(pid);
      } finally {
        for (const pid of program.all) kill(pid);
        program.child.kill("SIGKILL");
      }
    },
  );
});
