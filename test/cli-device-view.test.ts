import { describe, expect, test } from "bun:test";
import { cut, widthOf } from "../src/cli/cells.ts";
import { listText } from "../src/cli/device-list.ts";
import type { DeviceView } from "../src/cli/device-values.ts";
import { renderDevice } from "../src/cli/device-view.ts";
import { lookOf } from "../src/cli/screen.ts";
import { age, bytes, bytesOf, percent, wattHours } from "../src/cli/units.ts";
import { device, gpu, GIB, gpuValues, machineValues, TIME } from "./helpers/device.ts";

const RUN = "483920175526711";
const plain = { color: false, unicode: true };
const MIB = 1024 ** 2;

const samplesOf = (values: Record<string, Record<string, number>>, time = TIME - 300) =>
  new Map(Object.entries(values).map(([subject, own]) => [subject, { time, values: own }]));

const usual = samplesOf({
  "": machineValues,
  "GPU-0": gpuValues,
  "GPU-1": { ...gpuValues, "gpu.utilization": 0.04, "gpu.memory.used": 3 * GIB, "gpu.throttle": 0x24 },
  [`run/${RUN}`]: {
    "run.cpu": 12.3,
    "run.memory.rss": 40 * GIB,
    "run.memory.pss": 31 * GIB,
    "run.disk.read": 977 * 1024,
    "run.disk.write": 0,
    "run.processes": 9,
    "run.gpu.memory@GPU-0": 70 * GIB,
    "run.gpu.memory@GPU-1": 3 * GIB,
  },
});

const view = (more: Partial<DeviceView> = {}): DeviceView => ({
  device: device({ runs: [RUN] }),
  samples: usual,
  runs: new Map([[RUN, { name: "swift-otter", use: undefined }]]),
  now: TIME,
  networkPeak: 10 * MIB,
  ...more,
});

const drawn = (given: DeviceView, width: number, height = 50, look = plain) =>
  `${renderDevice(given, { width, height }, look).join("\n")}\n`;

describe("a device as lines", () => {
  test("wide", () => {
    expect(drawn(view(), 130)).toBe(
      `\
14:26:49  node1 · Linux 6.1.0 · AMD EPYC 7763 · 64 cores · 252 GiB
NVIDIA 550.54.15 · CUDA 12.4

CPU       ████████████▏░░░░░░░░░░░░░░░░░░░░░░░░░░  31 %  load 20.5 18.3 9.0 · user 25 % · system 5 % · waiting 1 %
Memory    █████████████████▋░░░░░░░░░░░░░░░░░░░░░  45 %  113/252 GiB · swap 0.0/8.0 GiB
Disk      ███████████████████▌░░░░░░░░░░░░░░░░░░░  50 %  read 12.3 MiB/s · written 100 MiB/s
Network   █████████████████▌░░░░░░░░░░░░░░░░░░░░░  45 %  in 1.2 MiB/s · out 3.3 MiB/s · peak 10.0 MiB/s

GPU  NAME                           UTIL                       MEMORY   TEMP      POWER        SM  MEM CLOCK  STATE
  0  H100 80GB HBM3  ██████████░░   83 %  ██████████▊░  71.2/79.6 GiB  64 °C  612/700 W  1980 MHz   2619 MHz  ok
  1  H100 80GB HBM3  ▌░░░░░░░░░░░    4 %  ▌░░░░░░░░░░░   3.0/79.6 GiB  64 °C  612/700 W  1980 MHz   2619 MHz  power cap, thermal

RUN              NAME          CORES    MEMORY  GPU MEMORY  GPUS        READ     WRITTEN  GPU ENERGY  PROCESSES
483920175526711  swift-otter    12.3  31.0 GiB    73.0 GiB   0,1   977 KiB/s       0 B/s           -          9
`,
    );
  });

  test("80 columns in ASCII: what is least needed goes first", () => {
    expect(drawn(view(), 80, 24, { color: false, unicode: false })).toBe(`\
14:26:49  node1 - Linux 6.1.0 - AMD EPYC 7763 - 64 cores - 252 GiB
NVIDIA 550.54.15 - CUDA 12.4

CPU       #######.................  31 %  load 20.5 18.3 9.0 - user 25 % - syst~
Memory    ###########.............  45 %  113/252 GiB - swap 0.0/8.0 GiB
Disk      ############............  50 %  read 12.3 MiB/s - written 100 MiB/s
Network   ###########.............  45 %  in 1.2 MiB/s - out 3.3 MiB/s - peak 1~

GPU             UTIL         MEMORY   TEMP      POWER  STATE
  0  #######.   83 %  71.2/79.6 GiB   64 C  612/700 W  ok
  1  ........    4 %   3.0/79.6 GiB   64 C  612/700 W  power cap, thermal

RUN              NAME          CORES    MEMORY  GPU MEMORY  GPUS  PROCESSES
483920175526711  swift-otter    12.3  31.0 GiB    73.0 GiB   0,1          9
`);
  });

  test("what GPUs did of late, and what a run has used of those that are its own", () => {
    const trends = new Map([["GPU-0", [0, 0.1, 0.5, 0.9, 1, 1.2, -1]]]);
    const use = {
      device: "3f9c1a5b7d2e4f60",
      name: "node1",
      from: "",
      to: null,
      attribution: null,
      cpu_seconds: 0,
      gpus: [0, 1].map((index) => ({
        uuid: `GPU-${index}`,
        index,
        name: "H100",
        by: "visible" as const,
        energy: index === 0 ? 4_500_000 : null,
        hours: 1,
        peak_memory: null,
        shared: false,
      })),
      note: null,
    };
    const runs = new Map([[RUN, { name: "swift-otter", use }]]);
    const samples = samplesOf({ "GPU-0": gpuValues });
    const wide = (look: typeof plain) => drawn(view({ trends, runs, samples }), 180, 50, look).split("\n");
    const gpuRow = (lines: string[]) => lines.find((line) => line.startsWith("  0  H100"))!;
    expect(gpuRow(wide(plain))).toEndWith(`MHz  ${" ".repeat(23)}▁▂▅▇██▁  ok`);
    expect(gpuRow(wide({ color: false, unicode: false }))).toEndWith(`MHz  ${" ".repeat(23)}.:+#@@.  ok`);
    expect(wide(plain).find((line) => line.startsWith(RUN))).toMatch(/ - +0,1 .* 1\.3 kWh/);
  });

  test("a machine of which little is known shows what is known, and never a zero", () => {
    const bare = device({
      processor: null,
      gpus: [],
      gpu_reader: {
        status: "absent",
        reason: null,
        advice: null,
        driver: null,
        cuda: null,
        library: null,
      },
    });
    const samples = samplesOf({ "": { "memory.used": 2 * GIB, "memory.total": 8 * GIB } });
    expect(drawn(view({ device: bare, samples, networkPeak: undefined }), 60)).toBe(`\
14:26:49  node1 · Linux 6.1.0 · 64 cores · 252 GiB

CPU       ░░░░░░░░░░░░░░░░░░     -
Memory    ████▌░░░░░░░░░░░░░  25 %  2.0/8.0 GiB

GPUs: there is no NVIDIA driver here.

No run is live here.
`);
  });

  test("a container shows what it may use", () => {
    const samples = samplesOf({
      "": machineValues,
      cgroup: {
        "cpu.utilization": 0.75,
        "cpu.cores": 3,
        "cpu.limit": 4,
        "memory.used": 6 * GIB,
        "memory.total": 8 * GIB,
      },
    });
    const lines = drawn(view({ samples }), 100).split("\n");
    expect(lines.filter((line) => /of 4.0 cores|6.0\/8.0/.test(line))).toEqual([
      "Container ██████████████████████▌░░░░░░░  75 %  CPU 3.0 of 4.0 cores",
      "          ██████████████████████▌░░░░░░░  75 %  memory 6.0/8.0 GiB",
    ]);
  });

  test("GPUs that can't be read say why and what to do; lost, split and silent ones too", () => {
    const device_ = device({
      gpus: [
        gpu(0, { lost: true }),
        gpu(1, { mig: true }),
        gpu(2, {
          index: 0,
          uuid: "MIG-b",
          parent: "GPU-1",
          gpu_instance: 2,
          compute_instance: 0,
          profile: "1g.10gb",
          memory: 10 * GIB,
        }),
        gpu(3),
      ],
      gpu_reader: {
        ...device().gpu_reader,
        status: "mismatch",
        reason: "The library is 550.90, the loaded driver 550.54.",
        advice: "Reboot, or load the new driver.",
      },
    });
    const samples = samplesOf({ "GPU-0": gpuValues, "GPU-3": gpuValues }, TIME - 34_000);
    samples.set("", { time: TIME, values: machineValues });
    const lines = drawn(view({ device: device_, samples }), 100).split("\n");
    expect(lines.slice(8, 15)).toEqual([
      "The GPUs can't be read: The library is 550.90, the loaded driver 550.54.",
      "Reboot, or load the new driver.",
      "",
      "  GPU  NAME                       UTIL                   MEMORY   TEMP      POWER  STATE",
      "    0  H100 80GB HBM3  ░░░░░░░░      -  ░░░░░░░░              -      -          -  lost",
      "    1  H100 80GB HBM3  ░░░░░░░░      -  ░░░░░░░░              -      -          -  split (MIG)",
      "1/2/0  MIG 1g.10gb     ░░░░░░░░      -  ░░░░░░░░              -      -          -  no values yet",
    ]);
    expect(lines[15]).toEndWith("34 s old");
  });

  test("GPUs that are read with a reason to look at them, and one that sleeps", () => {
    const reader = device().gpu_reader;
    const noted = (more: Partial<typeof reader>) =>
      drawn(view({ device: device({ gpus: [], gpu_reader: { ...reader, ...more } }) }), 80);
    expect(noted({})).not.toContain("GPUs");
    expect(noted({ reason: "GPU 2 does not answer.", advice: "Reboot." })).toContain(
      "\nGPUs: GPU 2 does not answer.\nReboot.\n",
    );
    expect(noted({ status: "absent", reason: "There is no library.", advice: "Install it." })).toContain(
      "\nGPUs: There is no library.\nInstall it.\n",
    );
    expect(noted({ status: "hung" })).toContain(
      "\nThe GPUs can't be read: a call into the driver does not return.\n",
    );
    const states = { gpu: { state: "transient" as const, reason: "It is suspended." } };
    const asleep = view({ device: device({ gpus: [gpu(0, { states })] }), samples: new Map() });
    expect(drawn(asleep, 100)).toContain(" asleep\n");
  });

  test("old values say how old they are, and after a minute are no longer shown", () => {
    const later = (ms: number, more: Partial<DeviceView> = {}) =>
      drawn(view({ now: TIME + ms, ...more }), 100);
    expect(later(4000)).not.toContain("Stale");
    expect(later(12_000)).toContain("Stale: nothing was read for 12 s; these are the last values.");
    expect(later(12_000)).toContain("31 %");
    expect(later(61_000)).toContain("Stale: nothing was read for 61 s");
    expect(later(61_000)).not.toContain("31 %");
    expect(later(0, { lostFor: 9000 })).toContain("The collector has not answered for 9 s");
    const none = { samples: new Map() };
    expect(drawn(view(none), 100)).toContain("The first values are on their way.");
    expect(later(7_200_000, none)).toContain("Nothing is read here now: the last time was 2 h ago.");
  });

  test("what happened last is shown for a minute", () => {
    const event = { time: TIME - 5000, text: "GPU 1: Xid 79,\nfell off the bus" };
    expect(drawn(view({ event }), 100)).toContain("14:26:44  GPU 1: Xid 79, fell off the bus\n");
    expect(drawn(view({ event, now: TIME + 56_000 }), 100)).not.toContain("Xid");
  });

  test("no line is wider and none too many, whatever the size of the terminal", () => {
    const many = view({
      device: device({
        gpus: Array.from({ length: 16 }, (_, index) => gpu(index)),
        runs: Array.from({ length: 20 }, (_, index) => String(index)),
      }),
      runs: new Map([["3", { name: "長い名前のラン 🧭 with an emoji", use: undefined }]]),
    });
    for (const look of [plain, { color: true, unicode: true }, { color: false, unicode: false }])
      for (const width of [1, 2, 9, 20, 39, 40, 60, 79, 80, 120, 250])
        for (const height of [1, 2, 5, 8, 12, 24, 60]) {
          const lines = renderDevice(many, { width, height }, look);
          expect(lines.length).toBeLessThanOrEqual(height);
          for (const line of lines)
            expect(widthOf(line.replace(/\u001b\[[\d;]*m/g, "")), line).toBeLessThanOrEqual(width);
        }
  });

  test("where not all fit, GPUs come before runs, and both say how many are hidden", () => {
    const many = view({
      device: device({
        gpus: Array.from({ length: 16 }, (_, index) => gpu(index)),
        runs: Array.from({ length: 20 }, (_, index) => String(index)),
      }),
    });
    const lines = renderDevice(many, { width: 80, height: 24 }, plain);
    expect(lines.filter((line) => /^\d+ more$/.test(line))).toEqual(["7 more", "18 more"]);
    expect(lines).toHaveLength(24);
  });

  test("names from elsewhere can't act on the terminal", () => {
    const evil = "a\u001b[2Jb\u001b]0;t\u0007\nc";
    const shown = drawn(
      view({
        device: device({ name: evil, runs: [RUN] }),
        runs: new Map([[RUN, { name: evil, use: undefined }]]),
      }),
      200,
    );
    expect(shown).not.toMatch(/\u001b|\u0007/);
    expect(shown).toContain("ab c");
  });
});

describe("the list of devices", () => {
  const latest = {
    "": { time: new Date(TIME).toISOString(), values: machineValues },
    "GPU-0": { time: new Date(TIME).toISOString(), values: gpuValues },
  };

  test("shows machines, then GPUs, then why some can't be read", () => {
    const failed = {
      ...device().gpu_reader,
      status: "no_driver" as const,
      advice: "Load it: modprobe nvidia.",
    };
    const devices = [
      device({ latest, runs: [RUN, "7"] }),
      device({
        id: "00000000000000aa",
        name: "node2",
        local: false,
        last_seen: new Date(TIME - 7200_000).toISOString(),
        gpus: [],
        gpu_reader: failed,
      }),
    ];
    expect(listText(devices, TIME, plain)).toBe(`\
ID                NAME                      CPU         MEMORY       GPUS  SEEN     LIVE RUNS
3f9c1a5b7d2e4f60  node1 (this collector's)  31 % of 64  113/252 GiB  2     now      483920175526711 7
00000000000000aa  node2                     - of 64     -            0     2 h ago  -

GPU  DEVICE  NAME            UTIL         MEMORY   TEMP      POWER  STATE
  0  node1   H100 80GB HBM3  83 %  71.2/79.6 GiB  64 °C  612/700 W  ok
  1  node1   H100 80GB HBM3     -              -      -          -  no values
node2: The GPUs can't be read: the NVIDIA driver is not loaded.
Load it: modprobe nvidia.
`);
  });

  test("says what to wait for where it is empty", () => {
    expect(listText([], TIME, plain)).toBe(
      "No devices yet. A collector lists its own machine once it has read it.\n",
    );
  });
});

describe("what a terminal can show", () => {
  const f = (env: Record<string, string>, isTerminal: boolean, color: boolean, unicode: boolean) =>
    test(`${JSON.stringify(env)}${isTerminal ? " on a terminal" : ""}`, () =>
      expect(lookOf(env, isTerminal)).toEqual({ color, unicode }));
  f({ LANG: "en_US.UTF-8" }, true, true, true);
  f({ LANG: "C.utf8" }, false, false, true);
  f({ LANG: "en_US.UTF-8", LC_ALL: "C" }, true, true, false);
  f({ LANG: "C", LC_CTYPE: "de_DE.UTF-8" }, true, true, true);
  f({}, true, true, false);
  f({ NO_COLOR: "1" }, true, false, false);
  f({ NO_COLOR: "" }, true, true, false);
  f({ TERM: "dumb" }, true, false, false);
});

describe("figures", () => {
  const f = (shown: string, want: string) => test(want, () => expect(shown).toBe(want));
  f(bytes(undefined), "-");
  f(bytes(0), "0 B");
  f(bytes(999), "999 B");
  f(bytes(1000), "1.0 KiB");
  f(bytes(99.96 * MIB), "100 MiB");
  f(bytes(1023.9 * GIB), "1.0 TiB");
  f(bytesOf(512 * MIB, 8 * GIB), "0.5/8.0 GiB");
  f(bytesOf(512 * MIB, undefined), "512 MiB");
  f(percent(0.9951), "100 %");
  f(wattHours(undefined), "-");
  f(wattHours(1800), "0.5 Wh");
  f(wattHours(3_600_000), "1.0 kWh");
  f(age(119_400), "119 s");
  f(age(120_000), "2 min");
  f(age(-5), "0 s");
  f(age(7_200_000), "2 h");
});

describe("widths", () => {
  const f = (text: string, width: number) => test(text, () => expect(widthOf(text)).toBe(width));
  f("abc", 3);
  f("░█▌°·", 5);
  f("長い", 4);
  f("🧭", 2);
  f("e\u0301", 1);
  f("👩‍🚀", 2);
  test("a cut never splits a character, and leaves room for its mark", () => {
    expect(cut("長い名前", 5)).toBe("長い…");
    expect(cut("長い名前", 6)).toBe("長い…");
    expect(cut("abcdef", 3, "~")).toBe("ab~");
    expect(cut("abc", 3)).toBe("abc");
    expect(cut("abc", 0)).toBe("");
  });
});
