import { describe, expect, test } from "bun:test";
import type { RunLook } from "../src/machine/attribution.ts";
import { createRunSampler } from "../src/machine/run-sampler.ts";
import { createTally, type Counted } from "../src/machine/tally.ts";
import { parseIo, parseProcess, variableOf } from "../src/machine/process-tree.ts";
import { jobFolderOf } from "../src/machine/run-cgroup.ts";
import { createGpuUses, energyWithin } from "../src/machine/use.ts";
import { visibleGpus, type GpuEnvironment } from "../src/machine/visible-gpus.ts";
import { gpu } from "./helpers/device.ts";

const uuids = ["GPU-aaaa1111-0", "GPU-aaaa2222-1", "GPU-bbbb3333-2", "GPU-cccc4444-3"];
const alike = uuids.map((uuid, index) => gpu(index, { uuid }));
/** The driver's numbers follow the bus, and the last one is another model. */
const mixed = alike.map((one, index) => (index === 3 ? { ...one, name: "NVIDIA T4" } : one));
/** Numbered against the bus. */
const turned = alike.map((one, index) => ({ ...one, pci: `00000000:0${9 - index}:00.0` }));
const instance = (place: number, ci = 0) =>
  gpu(place, {
    uuid: `MIG-5${place}${ci}`,
    parent: uuids[0]!,
    gpu_instance: place,
    compute_instance: ci,
    profile: "1g.10gb",
  });
const divided = [
  { ...alike[0]!, mig: true },
  instance(1),
  instance(2),
  { ...alike[1]!, mig: true },
  { ...instance(3), parent: uuids[1]! },
  alike[2]!,
];

describe("CUDA_VISIBLE_DEVICES", () => {
  const cases: [
    why: string,
    environment: Partial<GpuEnvironment>,
    gpus: typeof alike,
    expected: string[] | undefined,
  ][] = [
    ["nothing is said", {}, alike, undefined],
    ["one number", { cuda: "1" }, alike, [uuids[1]!]],
    ["several, with blanks", { cuda: "2, 0" }, alike, [uuids[2]!, uuids[0]!]],
    ["none", { cuda: "" }, alike, []],
    ["-1 is none", { cuda: "-1" }, alike, []],
    ["what follows -1 is not seen", { cuda: "1,-1,2" }, alike, [uuids[1]!]],
    ["nor what follows a number that nobody has", { cuda: "0,9,1" }, alike, [uuids[0]!]],
    ["NoDevFiles, as Slurm has it", { cuda: "NoDevFiles" }, alike, []],
    ["twice the same is an error, and none", { cuda: "1,1" }, alike, []],
    ["a UUID", { cuda: "GPU-bbbb3333-2" }, alike, [uuids[2]!]],
    ["whatever its case", { cuda: "gpu-BBBB3333-2" }, alike, [uuids[2]!]],
    ["the beginning of one", { cuda: "GPU-b,GPU-cccc" }, alike, [uuids[2]!, uuids[3]!]],
    ["the beginning of two", { cuda: "GPU-aaaa" }, alike, []],
    ["numbers follow the bus, not the driver", { cuda: "0" }, turned, [uuids[3]!]],
    ["among unlike ones a number means nothing", { cuda: "1" }, mixed, []],
    ["unless they are counted by bus", { cuda: "1", order: "PCI_BUS_ID" }, mixed, [uuids[1]!]],
    ["or all of them are meant", { cuda: "3,2,1,0" }, mixed, [uuids[3]!, uuids[2]!, uuids[1]!, uuids[0]!]],
    ["a UUID is clear among unlike ones, too", { cuda: "1,GPU-c" }, mixed, [uuids[3]!]],
    ["a MIG instance", { cuda: "MIG-510" }, divided, ["MIG-510"]],
    ["by the old name", { cuda: `MIG-${uuids[0]}/2/0` }, divided, ["MIG-520"]],
    ["that nobody has", { cuda: `MIG-${uuids[0]}/7/0` }, divided, []],
    ["a divided GPU with one instance", { cuda: "1" }, divided, ["MIG-530"]],
    ["a divided GPU with several is not clear", { cuda: "0" }, divided, []],
    ["a container without GPUs", { container: "void", cuda: "0" }, alike, []],
    ["none, in the other word", { container: "none" }, alike, []],
    ["our own container's numbers are ours", { container: "2,3", cuda: "0" }, alike, [uuids[0]!]],
    [
      "another container was given these",
      { container: "2,3", elsewhere: true },
      alike,
      [uuids[2]!, uuids[3]!],
    ],
    ["and counts among them", { container: "2,3", cuda: "1", elsewhere: true }, alike, [uuids[3]!]],
    ["by UUID", { container: uuids[1]!, elsewhere: true }, alike, [uuids[1]!]],
    ["an instance of a container", { container: "0:1", elsewhere: true }, divided, ["MIG-520"]],
    ["another container with all says nothing", { container: "all", elsewhere: true }, alike, undefined],
  ];
  for (const [why, environment, gpus, expected] of cases)
    test(`${why}: ${JSON.stringify(environment)}`, () => {
      expect(visibleGpus({ elsewhere: false, ...environment }, gpus).uuids).toEqual(expected);
    });

  test("what can't be told is said, with what to do", () => {
    const { note } = visibleGpus({ cuda: "1", elsewhere: false }, mixed);
    expect(note).toContain("CUDA_DEVICE_ORDER=PCI_BUS_ID");
    expect(visibleGpus({ cuda: "0", elsewhere: false }, divided).note).toContain("MIG");
    expect(visibleGpus({ cuda: "1", elsewhere: false }, alike).note).toBeNull();
  });
});

describe("energy", () => {
  const at = (time: number, joules: number) => ({ time, joules });
  test.each([
    ["all of it", at(0, 100), at(1000, 400), 0, Infinity, 300],
    ["the second half", at(0, 100), at(1000, 400), 500, Infinity, 150],
    ["a moment in between", at(0, 100), at(1000, 400), 250, 500, 75],
    ["before", at(1000, 100), at(2000, 400), 0, 1000, 0],
    ["after", at(1000, 100), at(2000, 400), 2000, Infinity, 0],
    ["a gap of minutes", at(0, 0), at(600_000, 6000), 0, 300_000, 3000],
    ["a counter that was reset", at(0, 5000), at(1000, 20), 0, Infinity, 0],
    ["a clock that went back", at(1000, 100), at(500, 200), 0, Infinity, 0],
  ])("%s", (_, previous, current, from, to, joules) => {
    expect(energyWithin(previous, current, from, to)).toBe(joules);
  });

  const one = { uuid: "GPU-1", index: 0, name: "A" };

  test("is counted while the GPU is the run's, over a reset, and never less", () => {
    const uses = createGpuUses();
    uses.hold(one, "visible", 500);
    uses.meter("GPU-1", at(0, 100), at(1000, 200));
    uses.meter("GPU-1", at(1000, 200), at(2000, 300));
    uses.meter("GPU-1", at(2000, 300), at(3000, 10));
    uses.meter("GPU-1", at(3000, 10), at(4000, 110));
    expect(uses.rows(4000)["GPU-1"]!.energy).toBe(250);
    expect(uses.isMetered()).toBe(false);
    uses.release("GPU-1", 4500);
    expect(uses.isMetered()).toBe(false);
    uses.meter("GPU-1", at(4000, 110), at(5000, 210));
    expect(uses.isMetered()).toBe(true);
    uses.meter("GPU-1", at(5000, 210), at(6000, 310));
    expect(uses.rows(9000)["GPU-1"]).toEqual({
      index: 0,
      name: "A",
      by: "visible",
      energy: 300,
      hours: 4000 / 3_600_000,
      peak_memory: null,
      shared: false,
    });
  });

  test("two stays on one GPU between two looks count apart", () => {
    const uses = createGpuUses();
    uses.hold(one, "visible", 100);
    uses.release("GPU-1", 300);
    uses.hold(one, "process", 600);
    uses.meter("GPU-1", at(0, 0), at(1000, 1000));
    const row = uses.rows(1000)["GPU-1"]!;
    expect(row.energy).toBe(600);
    expect(row.hours * 3_600_000).toBeCloseTo(600);
    expect(row.by).toBe("process");
  });

  test("a GPU without a counter has none, not 0", () => {
    const uses = createGpuUses();
    uses.hold(one, "visible", 0);
    uses.memory("GPU-1", 10);
    uses.memory("GPU-1", 4);
    expect(uses.rows(1000)["GPU-1"]).toMatchObject({ energy: null, peak_memory: 10 });
  });

  test("a resumed run goes on from what it had", () => {
    const first = createGpuUses();
    first.hold(one, "process", 0);
    first.meter("GPU-1", at(0, 0), at(3_600_000, 500));
    first.memory("GPU-1", 7);
    const again = createGpuUses(first.rows(3_600_000));
    again.hold({ ...one, index: 3 }, "visible", 9_000_000);
    again.share("GPU-1");
    again.meter("GPU-1", at(8_999_000, 900), at(9_001_000, 902));
    expect(again.rows(9_000_000 + 1_800_000)["GPU-1"]).toEqual({
      index: 3,
      name: "A",
      by: "process",
      energy: 501,
      hours: 1.5,
      peak_memory: 7,
      shared: true,
    });
  });

  test("a run's first moments count, though the counter was read before it was seen", () => {
    const pids = new Set([7]);
    const look: RunLook = {
      values: { "run.cpu": 1 },
      cpuSeconds: 0,
      attribution: "descendants",
      pids,
      environments: [{ cuda: "0", elsewhere: false }],
      earliest: 1200,
      oomKills: 0,
    };
    const runs = createRunSampler({
      attribution: {
        attach: () => true,
        look: () => new Map([["r", look]]),
        detach: () => look,
        isEmpty: () => false,
      },
      gpus: () => [gpu(0, { uuid: "GPU-1" })],
      onOomKill() {},
    });
    const read = (time: number) =>
      runs.hear({
        kind: "samples",
        time,
        took: 1,
        gpus: [{ uuid: "GPU-1", values: { "gpu.energy": time / 10 } }],
      });
    for (const time of [0, 1000, 2000]) read(time);
    runs.attach("r", [], { since: 1000, restored: false, before: undefined, now: 2500 });
    runs.look(2500);
    runs.look(3500);
    read(4000);
    runs.detach("r", 4000);
    expect(runs.changed(4000)[0]!.gpus["GPU-1"]).toMatchObject({ energy: 280, hours: 2800 / 3_600_000 });
  });

  test("a clock that was set moves what began before", () => {
    const uses = createGpuUses();
    uses.hold(one, "visible", 1000);
    uses.shift(60_000);
    expect(uses.rows(62_000)["GPU-1"]!.hours * 3_600_000).toBeCloseTo(1000);
  });
});

describe("a tree's time", () => {
  const process = (parent: number, own: number, waited = 0, more: Partial<Counted> = {}): Counted => ({
    start: 100,
    parent,
    own,
    waited,
    counts: "all",
    ...more,
  });
  const cases: [string, [since: number, ...Record<number, Counted>[]], number[]][] = [
    [
      "a process counts from its beginning, one that was there before from now",
      [
        100,
        { 10: process(1, 3), 11: process(1, 5, 0, { start: 99 }) },
        { 10: process(1, 4), 11: process(1, 6, 0, { start: 99 }) },
      ],
      [3, 2],
    ],
    [
      "what a child used after the last look comes with who waited for it",
      [0, { 10: process(1, 1), 20: process(10, 5) }, { 10: process(1, 1, 7) }],
      [6, 2],
    ],
    ["so does one that was never seen", [0, { 10: process(1, 1) }, { 10: process(1, 1, 4) }], [1, 4]],
    [
      "a child that nobody waits for stays counted as far as it was seen",
      [0, { 10: process(1, 1), 20: process(10, 5) }, { 10: process(1, 2) }],
      [6, 1],
    ],
    [
      "a child of a child, both gone",
      [0, { 10: process(1, 1), 20: process(10, 2), 30: process(20, 8) }, { 10: process(1, 1, 11) }],
      [11, 1],
    ],
    [
      "one that lost its parent goes on",
      [0, { 10: process(1, 1), 20: process(10, 2) }, { 20: process(1, 5) }],
      [3, 3],
    ],
    [
      "of launch itself only what it waited for",
      [
        0,
        { 9: process(1, 50, 3, { counts: "waited" }), 10: process(9, 2) },
        { 9: process(1, 60, 9, { counts: "waited" }) },
      ],
      [2, 4],
    ],
    [
      "the same number, another process",
      [0, { 10: process(1, 9) }, { 10: process(1, 2, 0, { start: 500 }) }],
      [9, 2],
    ],
    [
      "what its control group counts is not counted twice",
      [0, { 10: process(1, 9, 0, { counts: "none" }) }, { 10: process(1, 12, 4, { counts: "none" }) }],
      [0, 0],
    ],
  ];
  test.each(cases)("%s", (_, [since, ...looks], grown) => {
    const tally = createTally(since);
    expect(
      looks.map((look) =>
        tally.grow(new Map(Object.entries(look).map(([pid, counted]) => [Number(pid), counted]))),
      ),
    ).toEqual(grown);
  });
});

describe("a control group made for one job", () => {
  const hash = "0f".repeat(32);
  test.each([
    [`/sys/fs/cgroup/docker/${hash}`, `/sys/fs/cgroup/docker/${hash}`],
    [`/c/system.slice/docker-${hash}.scope/init`, `/c/system.slice/docker-${hash}.scope`],
    [`/c/machine.slice/libpod-${hash}.scope/container`, `/c/machine.slice/libpod-${hash}.scope`],
    [
      `/c/kubepods.slice/kubepods-pod1.slice/cri-containerd-${hash}.scope`,
      `/c/kubepods.slice/kubepods-pod1.slice/cri-containerd-${hash}.scope`,
    ],
    [`/c/kubepods/burstable/pod1/${hash}`, `/c/kubepods/burstable/pod1/${hash}`],
    [
      "/c/system.slice/slurmstepd.scope/job_123/step_0/user/task_0",
      "/c/system.slice/slurmstepd.scope/job_123",
    ],
    [
      "/c/user.slice/user-1000.slice/user@1000.service/app.slice/run-u12.scope",
      "/c/user.slice/user-1000.slice/user@1000.service/app.slice/run-u12.scope",
    ],
    ["/c/system.slice/run-r0123456789abcdef.service", "/c/system.slice/run-r0123456789abcdef.service"],
    ["/c/user.slice/user-1000.slice/session-3.scope", undefined],
    ["/c/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-terminal.scope", undefined],
    ["/c/system.slice/sshd.service", undefined],
    ["/c", undefined],
  ])("%s", (folder, job) => expect(jobFolderOf(folder)).toBe(job));
});

describe("/proc", () => {
  test("a program's name may hold parentheses and blanks", () => {
    const rest =
      "S 7 9 9 0 -1 4194304 1 2 3 4 250 50 30 20 20 0 12 0 98765 1000 300 18446744073709551615 1 1";
    expect(parseProcess(4, `4 (a) R 1 (b) ${rest}`, 4096)).toEqual({
      pid: 4,
      parent: 7,
      start: 98765,
      cpu: 3,
      childrenCpu: 0.5,
      threads: 12,
      rss: 300 * 4096,
      ended: false,
    });
  });
  test.each([
    ["A=1\0BB=2\0", "A", "1"],
    ["A=1\0BB=2\0", "BB", "2"],
    ["A=1\0BB=2\0", "B", undefined],
    ["XB=1\0B=\0", "B", ""],
    ["A=B=3\0C=4", "C", "4"],
    ["", "A", undefined],
  ])("%j, %s", (environ, name, value) => expect(variableOf(environ, name)).toBe(value));
  test("bytes that went to a disk, not to a pipe", () => {
    const text =
      "rchar: 9\nwchar: 8\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
    expect(parseIo(text)).toEqual({ read: 4096, written: 8192 });
    expect(parseIo("")).toBeUndefined();
  });
});
