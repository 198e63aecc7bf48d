import { describe, expect, test } from "bun:test";
import type { RunDevice } from "../src/device/schema.ts";
import type { DeviceEvent, EventKind, Sample, SamplePage } from "../src/sample/schema.ts";
import {
  freshnessOf,
  freshnessWords,
  gpuGauges,
  gpuNotes,
  machineGauges,
  sparkPath,
  throttleWords,
} from "../src/ui/device-view.ts";
import { describeGpus } from "../src/ui/components/device-facts.tsx";
import { chartsOf, withLost, withoutEmpty, type SeriesName } from "../src/ui/hardware-charts.ts";
import { gpuLabel, gpusOf, shownGpus, unreadOf } from "../src/ui/hardware-gpus.ts";
import {
  eventWord,
  gapsOf,
  markersOf,
  reasonOf,
  statesOf,
  subjectLabel,
  throttleSpans,
} from "../src/ui/hardware-gaps.ts";
import {
  appendSamples,
  drawnOf,
  dropBefore,
  emptyTable,
  limitOf,
  nearestRow,
  shaped,
  summaryOf,
  tableOf,
} from "../src/ui/hardware-lines.ts";
import { hardwareQuery, parseHardwareView, windowOf } from "../src/ui/hardware-view.ts";
import { readerNotice, whyNothing } from "../src/ui/hardware-words.ts";
import { formatReading, formatReadings } from "../src/ui/units.ts";
import type { Unit } from "../src/sample/reading.ts";
import { device, facts, gpu, GIB, gpuValues, machineValues, TIME } from "./helpers/device.ts";

describe("readings in the units people write them in", () => {
  const f = (unit: Unit, value: number, want: string) =>
    test(`${value} ${unit}`, () => expect(formatReading(unit, value)).toBe(want));
  f("ratio", 0.8712, "87.1 %");
  f("ratio", 1, "100 %");
  f("ratio", 0, "0 %");
  f("ratio", 0.00123, "0.123 %");
  f("B", 0, "0 B");
  f("B", 79.6 * GIB, "79.6 GiB");
  f("B", 251.6 * GIB, "252 GiB");
  f("B", 1024 * GIB, "1 TiB");
  f("B/s", 46_300_000, "46.3 MB/s");
  f("B/s", 999, "999 B/s");
  f("°C", 64, "64 °C");
  f("W", 612.34, "612 W");
  f("MHz", 1980, "1,980 MHz");
  f("cores", 11.25, "11.3 cores");
  f("J", 1800, "1,800 J");
  f("J", 3600, "1 Wh");
  f("J", 8_640_000, "2.4 kWh");
  f("count", 12_345, "12,345");
  f("/s", 1.5, "1.5 /s");

  test("one axis has one unit", () => {
    expect(formatReadings("B", [0, 0.5 * GIB, GIB, null])).toEqual(["0 GiB", "0.5 GiB", "1 GiB", ""]);
    expect(formatReadings("J", [0, 1800, 7200])).toEqual(["0 Wh", "0.5 Wh", "2 Wh"]);
  });
});

describe("a URL says what is seen", () => {
  const f = (query: string, want = query) =>
    test(query, () => expect(hardwareQuery(parseHardwareView(new URLSearchParams(query)))).toBe(want));
  f("");
  f("?device=00112233445566aa&gpus=all&last=15");
  f("?gpus=GPU-1%2CGPU-2&from=1000&to=2000");
  f("?device=../etc&gpus=run&last=-3", "");
  f("?last=1.5&from=20&to=10", "");
  f("?from=x&to=10", "");
});

describe("the window of the charts", () => {
  const life = { from: 1_000_000, to: 4_600_000 };
  const view = parseHardwareView(new URLSearchParams());
  const f = (name: string, got: ReturnType<typeof windowOf>, want: [number, number, boolean]) =>
    test(name, () => expect([got.from, got.to, got.live]).toEqual(want));
  f("all of a run that ended", windowOf(view, life, 9e6), [1_000_000, 4_600_000, false]);
  f("all of a run that lives", windowOf(view, { ...life, to: null }, 9e6), [1_000_000, 9_000_000, true]);
  f("its last minutes", windowOf({ ...view, last: 5 }, life, 9e6), [4_300_000, 4_600_000, false]);
  f("not before it began", windowOf({ ...view, last: 600 }, life, 9e6), [1_000_000, 4_600_000, false]);
  f("a part picked out", windowOf({ ...view, last: 5, zoom: { from: 3, to: 9 } }, life, 9e6), [3, 9, false]);
  f("ten seconds at least", windowOf(view, { from: 5e6, to: null }, 5e6), [5_000_000, 5_010_000, true]);
});

const gpus = [gpu(0), gpu(1)];
const series = (subject: string, ...names: string[]): SeriesName[] =>
  names.map((name) => {
    const [reading, part] = name.split("@");
    return { subject, reading: reading!, part: part ?? null };
  });
const chart = (id: string, names: SeriesName[]) => {
  const found = chartsOf(names, gpus).find((candidate) => candidate.id === id);
  if (!found) throw new Error(`no chart ${id}`);
  return found;
};

describe("which charts there are", () => {
  test("of GPUs one a reading with a line each, by section in order", () => {
    const charts = chartsOf(
      [
        ...series("", ...Object.keys(machineValues)),
        ...gpus.flatMap(({ uuid }) => series(uuid, ...Object.keys(gpuValues), "gpu.encoder", "gpu.decoder")),
        ...series("run/7", "run.cpu", "run.memory.rss", "run.memory.pss", "run.gpu.memory@GPU-1"),
      ],
      gpus,
    );
    expect(charts.map(({ section, id, lines }) => `${section} ${id} ${lines.length}`)).toEqual([
      "run run.cpu 1",
      "run run.memory 2",
      "run run.gpu.memory 1",
      "gpu gpu.utilization 2",
      "gpu gpu.memory.used 2",
      "gpu gpu.power 2",
      "gpu gpu.temperature 2",
      "gpu gpu.clock.sm 2",
      "gpu gpu.throttle 2",
      "gpu gpu.clock.memory 2",
      "gpu gpu.encoder 2",
      "gpu gpu.decoder 2",
      "machine cpu 1",
      "machine cpu.modes 4",
      "machine memory 1",
      "machine disk 2",
      "machine network 2",
      "machine load 3",
      "machine swap 1",
      "machine disk.utilization@ 2",
    ]);
  });

  test("total memory and power limits are no lines, but end the axis; shares end at 1", () => {
    const memory = chart("gpu.memory.used", series("GPU-0", "gpu.memory.used", "gpu.memory.total"));
    expect(memory.lines.map(({ reading }) => reading)).toEqual(["gpu.memory.used"]);
    expect(memory.limits.map(({ reading }) => reading)).toEqual(["gpu.memory.total"]);
    expect(chart("cpu", series("", "cpu.utilization")).max).toBe(1);
    expect(chart("gpu.temperature", series("GPU-0", "gpu.temperature")).ceiling).toBe(89);
    expect(chartsOf(series("GPU-0", "gpu.memory.total"), gpus)).toEqual([]);
  });

  test("a container's line has its host's colour, is dashed, and says whose it is", () => {
    const names = [...series("cgroup", "memory.used", "memory.total"), ...series("", "memory.used")];
    const { lines } = chart("memory", names);
    expect(lines.map(({ short, color, dashed }) => [short, color, dashed])).toEqual([
      ["Host", 1, false],
      ["Container", 1, true],
    ]);
  });

  test("a GPU keeps its colour where others are left out; a name they share stands once", () => {
    const { lines, common } = chart("gpu.power", series("GPU-1", "gpu.power"));
    expect(lines[0]).toMatchObject({ color: 2, short: "GPU 1", label: "GPU 1 H100 80GB HBM3" });
    expect(common).toBe("H100 80GB HBM3");
    const mixed = [gpu(0), gpu(1, { name: "NVIDIA L4" })];
    const [power] = chartsOf([...series("GPU-0", "gpu.power"), ...series("GPU-1", "gpu.power")], mixed);
    expect(power!.lines.map(({ short }) => short)).toEqual(["GPU 0 H100 80GB HBM3", "GPU 1 L4"]);
  });

  test("the only disk is all disks; several have a chart of their own", () => {
    const one = chartsOf(series("", "disk.read", "disk.read@sda"), []);
    expect(one.map(({ id }) => id)).toEqual(["disk"]);
    const two = chartsOf(series("", "disk.read", "disk.read@sda", "disk.read@sdb"), []);
    expect(two.map(({ id, title }) => [id, title])).toEqual([
      ["disk", "Disks"],
      ["disk.read@", "Read, each disk"],
    ]);
  });

  test("more lines than can be told apart are left out and counted; readings of a newer version too", () => {
    const cores = Array.from({ length: 64 }, (_, i) => `cpu.core.utilization@${i}`);
    const [each] = chartsOf(series("", ...cores, "cpu.dreams"), []);
    expect([each!.lines.length, each!.left]).toEqual([16, 48]);
    expect(each!.lines.map(({ part }) => part).slice(0, 3)).toEqual(["0", "1", "2"]);
  });

  test("a lost GPU that read nothing still has its lines", () => {
    const lost = [gpu(0), gpu(1, { lost: true })];
    const names = withLost(series("GPU-0", "gpu.power"), lost, ["GPU-0", "GPU-1"]);
    expect(names.map(({ subject }) => subject)).toEqual(["GPU-0", "GPU-1"]);
    expect(withLost([], lost, ["GPU-1"]).map(({ reading }) => reading)).toContain("gpu.utilization");
    expect(withLost([], lost, ["GPU-0"])).toEqual([]);
  });

  test("what a machine has none of has no chart; a reading without a value has none either", () => {
    const of = (reading: string, mean: (number | null)[]) => ({ subject: "", reading, part: null, mean });
    const none = [of("swap.used", [0]), of("swap.total", [0]), of("load.1", [null]), of("load.5", [0])];
    expect(withoutEmpty(none).map(({ reading }) => reading)).toEqual(["load.5"]);
    expect(withoutEmpty([of("swap.used", [0]), of("swap.total", [8])]).length).toBe(2);
  });

  test("a run's GPUs are its own, and those it had and the machine no longer has", () => {
    const had = (uuid: string, index: number) => ({ uuid, index, name: "NVIDIA H100" });
    const use = { gpus: [had("GPU-1", 1), had("GPU-9", 0)] } as unknown as RunDevice;
    const all = gpusOf(device(), use);
    expect(all.map(({ uuid }) => uuid)).toEqual(["GPU-0", "GPU-1", "GPU-9"]);
    expect(shownGpus({ gpus: "run" }, all, use)).toEqual(["GPU-1", "GPU-9"]);
    expect(shownGpus({ gpus: "run" }, all, undefined)).toEqual(["GPU-0", "GPU-1", "GPU-9"]);
    expect(shownGpus({ gpus: "all" }, all, use).length).toBe(3);
    expect(shownGpus({ gpus: ["GPU-9", "GPU-x", "GPU-0"] }, all, use)).toEqual(["GPU-0", "GPU-9"]);
  });

  test("readings that may not be read are named with the reason, those a GPU never had are not", () => {
    const denied = { state: "denied", reason: "Needs privileges." } as const;
    const none = { state: "unsupported", reason: "No fan." } as const;
    const all = [0, 1, 2].map((index) =>
      gpu(index, {
        lost: index === 2,
        states: { "gpu.sm.active": denied, "gpu.tensor.active": denied, "gpu.fan": none },
      }),
    );
    const uuids = all.map(({ uuid }) => uuid);
    expect(unreadOf(all, uuids)).toEqual([
      {
        readings: ["SMs active", "Tensor cores active"],
        gpus: ["GPU 0", "GPU 1"],
        reason: "Needs privileges.",
      },
    ]);
    expect(unreadOf(all, ["GPU-1"])[0]!.gpus).toEqual(["GPU 1"]);
    expect(unreadOf([gpu(0)], uuids)).toEqual([]);
  });

  test("MIG instances are named by place and profile", () => {
    const instance = gpu(2, { uuid: "MIG-a", parent: "GPU-5", profile: "1g.10gb", gpu_instance: 7 });
    expect(gpuLabel(instance, [gpu(5), instance])).toBe("GPU 5:2 1g.10gb");
    expect(gpuLabel(gpu(5), [])).toBe("GPU 5");
  });
});

const S = 1000;
const page = (times: number[], values: (number | null)[], more: Partial<SamplePage> = {}): SamplePage => ({
  device: "d",
  from: 0,
  to: 100 * S,
  step: S,
  times: times.map((time) => time * S),
  series: [{ subject: "GPU-0", reading: "gpu.power", part: null, mean: values }],
  ...more,
});
const power = chart("gpu.power", series("GPU-0", "gpu.power"));
const [line] = power.lines;

describe("lines break where values are missing, and only there", () => {
  const window = { from: 0, to: 10 * S, patience: 0 };
  const draw = (times: number[], values: (number | null)[], more: Partial<SamplePage> = {}) => {
    const table = tableOf(power, page(times, values, more));
    return drawnOf(table, table.columns, power.lines, window).lines.get(line!.key)!;
  };
  const seconds = (holes: { from: number; to: number }[]) => holes.map(({ from, to }) => [from / S, to / S]);

  test("every second", () => {
    const { mean, holes } = draw([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(holes).toEqual([]);
    expect(mean).not.toContain(null);
  });

  test("a missed second or two is no hole", () => {
    expect(draw([0, 1, 4, 5, 6, 7, 8, 9], [1, 1, 1, 1, 1, 1, 1, 1]).holes).toEqual([]);
  });

  test("rows that are not there", () => {
    const { mean, holes } = draw([0, 1, 7, 8, 9], [1, 2, 3, 4, 5]);
    expect(mean).toEqual([1, 2, null, 3, 4, 5]);
    expect(seconds(holes)).toEqual([[2, 7]]);
  });

  test("rows of others, but no value of its own", () => {
    const { mean, holes } = draw(
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      [1, 2, null, null, null, null, null, 3, 4, 5],
    );
    expect(mean).toEqual([1, 2, null, null, null, null, null, 3, 4, 5]);
    expect(seconds(holes)).toEqual([[2, 7]]);
  });

  test("a reading that is rare anyway is drawn through, and asks for nothing", () => {
    const times = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    const { mean, holes } = draw(times, [1, null, null, null, 2, null, null, null, 3, null]);
    expect(mean.slice(1, 4)).toEqual([undefined, undefined, undefined]);
    expect(holes).toEqual([]);
  });

  test("before the first value and after the last", () => {
    expect(seconds(draw([4, 5], [1, 1]).holes)).toEqual([
      [0, 4],
      [6, 10],
    ]);
  });

  test("the first look comes late, the last is a little old: neither is a hole", () => {
    const table = tableOf(power, page([8, 9, 10], [1, 1, 1]));
    const drawn = (delay: number, patience: number) =>
      drawnOf(table, table.columns, power.lines, { from: 0, to: 15 * S, delay, patience });
    const holes = (delay: number, patience: number) =>
      seconds(drawn(delay * S, patience * S).lines.get(line!.key)!.holes);
    expect(holes(30, 5)).toEqual([]);
    expect(holes(0, 3)).toEqual([
      [0, 8],
      [11, 15],
    ]);
  });

  test("no value at all", () => {
    expect(seconds(draw([0, 1], [null, null]).holes)).toEqual([[0, 10]]);
  });

  test("what comes live joins on, though the last seconds are not stored yet", () => {
    const table = tableOf(power, page([0, 1, 2], [1, 1, 1]));
    const at = (time: number): Sample[] => [{ subject: "GPU-0", time: time * S, values: { "gpu.power": 2 } }];
    for (const time of [12, 13]) expect(appendSamples(table, power, at(time))).toBe(true);
    const drawn = drawnOf(table, table.columns, power.lines, { from: 0, to: 14 * S, patience: 0 });
    expect(drawn.lines.get(line!.key)).toMatchObject({ mean: [1, 1, 1, undefined, 2, 2], holes: [] });
    appendSamples(table, power, at(30));
    const later = drawnOf(table, table.columns, power.lines, { from: 0, to: 31 * S, patience: 0 });
    expect(seconds(later.lines.get(line!.key)!.holes)).toEqual([[13, 30]]);
  });
});

describe("live samples", () => {
  test("of one second share a row; the past and other subjects change nothing", () => {
    const table = emptyTable();
    const both = chart("gpu.power", [...series("GPU-0", "gpu.power"), ...series("GPU-1", "gpu.power")]);
    const sample = (subject: string, time: number, value: number): Sample => ({
      subject,
      time,
      values: { "gpu.power": value },
    });
    expect(appendSamples(table, both, [sample("GPU-0", 5010, 1), sample("GPU-1", 5400, 2)])).toBe(true);
    expect(table.times).toEqual([5000]);
    expect(appendSamples(table, both, [sample("GPU-0", 3000, 9)])).toBe(false);
    expect(appendSamples(table, both, [sample("GPU-9", 6000, 9)])).toBe(false);
    appendSamples(table, both, [sample("GPU-1", 6000, 3)]);
    expect([...table.columns.values()].map(({ mean }) => mean)).toEqual([
      [1, null],
      [2, 3],
    ]);
  });

  test("in a bucket that came with the answer are in it already", () => {
    const table = tableOf(power, page([0, 10], [1, 1], { step: 10 * S }));
    const at = (time: number): Sample[] => [{ subject: "GPU-0", time, values: { "gpu.power": 2 } }];
    expect(appendSamples(table, power, at(15 * S))).toBe(false);
    expect(appendSamples(table, power, at(20 * S))).toBe(true);
  });

  test("that leave the window are forgotten, but for the one before its edge", () => {
    const table = tableOf(power, page([0, 1, 2, 3], [1, 2, 3, 4]));
    dropBefore(table, 2500);
    expect(table.times).toEqual([2000, 3000]);
    expect(table.columns.get(line!.key)!.mean).toEqual([3, 4]);
  });
});

describe("what is drawn of what was read", () => {
  test("a counter from the start of the window, and on when it is set back", () => {
    const energy = chart("gpu.energy", series("GPU-0", "gpu.energy"));
    const { key } = energy.lines[0]!;
    const answer = page([0, 1, 2, 3, 4], [1000, 1600, null, 100, 400]);
    answer.series[0]!.reading = "gpu.energy";
    expect(shaped(tableOf(energy, answer), energy).get(key)!.mean).toEqual([0, 600, null, 700, 1000]);
  });

  test("a file system as the share of it that is used", () => {
    const names = series("", "filesystem.used@/data", "filesystem.total@/data");
    const disk = chart("filesystem", names);
    const answer = page([0, 1], []);
    answer.series = [
      { ...names[0]!, mean: [50, 60] },
      { ...names[1]!, mean: [100, 0] },
    ];
    expect(shaped(tableOf(disk, answer), disk).get(disk.lines[0]!.key)!.mean).toEqual([0.5, null]);
    expect([disk.unit, disk.max]).toEqual(["ratio", 1]);
  });

  test("limits, extremes and the nearest row", () => {
    const table = tableOf(power, page([0, 1, 2], [5, null, 7]));
    const column = table.columns.get(line!.key);
    expect(summaryOf(column)).toEqual({ last: 7, mean: 6, min: 5, max: 7 });
    expect(summaryOf(undefined)).toEqual({ last: null, mean: null, min: null, max: null });
    expect(limitOf(table, power.lines)).toBe(7);
    expect([-1, 400, 600, 99_999].map((time) => nearestRow([0, 1000], time))).toEqual([0, 0, 1, 1]);
    expect(nearestRow([], 5)).toBe(-1);
  });
});

let nextId = 1;
const event = (
  second: number,
  kind: EventKind,
  subject = "",
  detail: DeviceEvent["detail"] = {},
  text = `${kind} of ${subject || "machine"}`,
): DeviceEvent => ({
  id: nextId++,
  device: "d",
  subject,
  time: new Date(second * S).toISOString(),
  kind,
  text,
  detail,
});

describe("a gap says why", () => {
  const hole = { from: 100 * S, to: 200 * S };
  const reason = (events: DeviceEvent[], more: { gpus?: typeof gpus; firstSeen?: number } = {}) => {
    const known = { events, gpus, firstSeen: 0, ...more };
    return reasonOf(line!, hole, known, statesOf(events));
  };
  const f = (name: string, events: DeviceEvent[], want: string) =>
    test(name, () => expect(reason(events)).toBe(want));

  f(
    "the GPU was lost",
    [event(99, "gpu.lost", "GPU-0"), event(200, "gpu.back", "GPU-0")],
    "gpu.lost of GPU-0",
  );
  f(
    "another GPU was",
    [event(99, "gpu.lost", "GPU-1")],
    "Nothing was recorded; the collector may have been off.",
  );
  f("the reader hung", [event(90, "gpu.status", "", { status: "hung" })], "gpu.status of machine");
  f(
    "this reading could not be read",
    [
      event(90, "gpu.status", "", { status: "degraded" }),
      event(100, "reading.state", "GPU-0", { reading: "gpu.power", state: "denied" }),
    ],
    "reading.state of GPU-0",
  );
  f(
    "another reading could not",
    [event(100, "reading.state", "GPU-0", { reading: "gpu.fan", state: "denied" })],
    "Nothing was recorded; the collector may have been off.",
  );
  f(
    "sampling had ended",
    [event(101, "sampling.ended"), event(199, "sampling.began")],
    "sampling.ended of machine",
  );
  f(
    "that was over long before",
    [event(10, "gpu.lost", "GPU-0"), event(50, "gpu.back", "GPU-0")],
    "Nothing was recorded; the collector may have been off.",
  );
  f("the machine slept", [event(198, "clock.jumped", "", { ms: 98_000 })], "clock.jumped of machine");

  test("the GPU's state tells, where no event does", () => {
    const denied = gpu(0, { states: { "gpu.power": { state: "denied", reason: "not allowed" } } });
    expect(reason([], { gpus: [denied] })).toBe("not allowed");
  });

  test("the machine was not known yet", () => {
    expect(reason([], { firstSeen: 200 * S })).toBe("Nothing was recorded of this machine before.");
  });

  test("a run may have had no process", () => {
    const cpu = chart("run.cpu", series("run/7", "run.cpu"));
    const known = { events: [], gpus, firstSeen: 0 };
    expect(reasonOf(cpu.lines[0]!, hole, known, [])).toBe("No process of the run was seen.");
  });

  test("a run's memory on a GPU goes with the GPU", () => {
    const memory = chart("run.gpu.memory", series("run/7", "run.gpu.memory@GPU-0"));
    const events = [event(99, "gpu.lost", "GPU-0")];
    const known = { events, gpus, firstSeen: 0 };
    expect(reasonOf(memory.lines[0]!, hole, known, statesOf(events))).toBe("gpu.lost of GPU-0");
  });

  test("lines that break together for one reason are one gap", () => {
    const both = chart("gpu.power", [...series("GPU-0", "gpu.power"), ...series("GPU-1", "gpu.power")]);
    const [first, second] = both.lines.map(({ key }) => key) as [string, string];
    const events = [event(300, "gpu.lost", "GPU-1")];
    const holes = new Map([
      [first, [hole]],
      [
        second,
        [
          { from: 101 * S, to: 201 * S },
          { from: 300 * S, to: 400 * S },
        ],
      ],
    ]);
    expect(gapsOf(both, holes, { events, gpus, firstSeen: 0 })).toEqual([
      {
        from: 100 * S,
        to: 201 * S,
        lines: [first, second],
        reason: "Nothing was recorded; the collector may have been off.",
      },
      { from: 300 * S, to: 400 * S, lines: [second], reason: "gpu.lost of GPU-1" },
    ]);
  });
});

describe("events on charts", () => {
  const clock = chart("gpu.clock.sm", series("GPU-0", "gpu.clock.sm"));
  const memory = chart("memory", series("", "memory.used"));
  const events = [
    event(1, "throttle.began", "GPU-0"),
    event(2, "throttle.began", "GPU-1"),
    event(5, "throttle.ended", "GPU-0"),
    event(6, "gpu.xid", "GPU-0", { xid: 79 }, "fell off the bus"),
    event(7, "gpu.xid", "GPU-1", { xid: 13 }),
    event(8, "memory.oom_kill", "run/7"),
    event(9, "gpu.status", "", { status: "hung" }),
    event(10, "gpu.status", "", { status: "ok" }),
    event(11, "clock.jumped"),
    event(12, "sampling.began"),
  ];

  test("throttling is a span, of the chart's GPUs, on the charts that it explains", () => {
    expect(throttleSpans(clock, events).map(({ from, to }) => [from, to])).toEqual([[1000, 5000]]);
    expect(throttleSpans(memory, events)).toEqual([]);
    expect(statesOf([event(1, "throttle.began", "GPU-0")])[0]!.to).toBe(Infinity);
  });

  test("what happened in a moment stands on the charts that it concerns", () => {
    const on = (of: typeof clock) => markersOf(of, events).map(({ time, severity }) => [time / S, severity]);
    expect(on(clock)).toEqual([
      [6, "bad"],
      [9, "warn"],
      [10, "good"],
      [11, "info"],
    ]);
    expect(on(memory)).toEqual([
      [8, "bad"],
      [11, "info"],
    ]);
    expect(markersOf(clock, events)[0]!.text).toBe("Xid 79: fell off the bus");
  });

  test("are named for people", () => {
    expect(eventWord(event(1, "gpu.xid", "GPU-0", { xid: 48 }))).toBe("Xid 48");
    expect(eventWord(event(1, "gpu.xid", "GPU-0"))).toBe("Xid");
    expect(["", "cgroup", "run/7", "GPU-1", "GPU-9"].map((subject) => subjectLabel(subject, gpus))).toEqual([
      "Machine",
      "Container",
      "Run",
      "GPU 1",
      "GPU-9",
    ]);
  });
});

describe("where there is nothing to draw, the page says why", () => {
  const node = { name: "node1", local: true };
  const run = (name: string | null, ended = false) => ({ device: name, ended });
  const f = (name: string, got: ReturnType<typeof whyNothing>, want: string) =>
    test(name, () => expect(got.title).toBe(want));
  const nothing = { run: run("node1"), devices: [node], uses: 0, narrow: false };
  f("hardware is off", whyNothing({ ...nothing, devices: [] }), "This collector records no hardware");
  f("another machine", whyNothing({ ...nothing, run: run("node2") }), "The run is on another machine");
  f("too early", whyNothing(nothing), "Nothing recorded yet");
  f("too late", whyNothing({ ...nothing, run: run("node1", true) }), "No hardware was recorded for this run");
  f(
    "a part of the time",
    whyNothing({ ...nothing, uses: 1, narrow: true }),
    "Nothing was recorded in this time",
  );
  f(
    "expired",
    whyNothing({ ...nothing, uses: 1, run: run("node1", true) }),
    "The samples of this run are gone",
  );
});

describe("GPUs that can't be read", () => {
  const reader = facts().gpu_reader;
  test("say so with advice, loudly only where something is wrong", () => {
    expect(readerNotice(reader)).toBeUndefined();
    expect(readerNotice({ ...reader, status: "mismatch", reason: "550 and 535", advice: "Reboot." })).toEqual(
      {
        bad: true,
        text: "550 and 535",
        advice: "Reboot.",
      },
    );
    expect(readerNotice({ ...reader, status: "absent" })).toMatchObject({ bad: false });
  });
});

describe("tiles", () => {
  const now = TIME;
  const of = (values: Record<string, number>, subject = "") =>
    device({ latest: { [subject]: { time: new Date(now).toISOString(), values } } });

  test("what was not read is a dash or left out, never 0", () => {
    expect(machineGauges(device()).map(({ label, text, share }) => [label, text, share])).toEqual([
      ["Processor", "—", undefined],
      ["Memory", "—", undefined],
    ]);
    expect(gpuGauges(device(), gpu(0)).map(({ text }) => text)).toEqual(["—", "—"]);
  });

  test("the machine", () => {
    expect(machineGauges(of(machineValues)).map(({ label, text }) => `${label}: ${text}`)).toEqual([
      "Processor: 31.2 %",
      "Memory: 113 GiB of 252 GiB",
      "Disks: 12.9 MB/s read, 105 MB/s written",
      "Network: 1.26 MB/s in, 3.46 MB/s out",
    ]);
  });

  test("a GPU", () => {
    expect(gpuGauges(of(gpuValues, "GPU-0"), gpu(0)).map(({ label, text }) => `${label}: ${text}`)).toEqual([
      "Use: 83 %",
      "Memory: 71.2 GiB of 79.6 GiB",
      "Power: 612 of 700 W",
      "Temperature: 64 °C",
    ]);
    const lost = gpuGauges(of(gpuValues, "GPU-0"), gpu(0, { lost: true }));
    expect(lost.map(({ text }) => text)).toEqual(["—", "—"]);
    const mig = gpuGauges(of({ "gpu.sm.active": 0.4 }, "GPU-0"), gpu(0));
    expect(mig.map(({ label, text }) => [label, text])[0]).toEqual(["SMs active", "40 %"]);
    expect(throttleWords(0x1 | 0x4 | 0x40)).toEqual(["power cap", "heat, by hardware"]);
    expect(throttleWords(0x1 | 0x2 | 0x100)).toEqual([]);
  });

  test("a GPU that is lost, or whose readings can't be read, says why; what it never had is no news", () => {
    const lost = gpu(0, { lost: true, states: { "gpu.power": { state: "lost", reason: "Xid 79" } } });
    expect(gpuNotes(device(), lost)).toEqual([{ tone: "bad", text: "Lost: Xid 79" }]);
    const denied = gpu(0, {
      states: {
        "gpu.sm.active": { state: "denied", reason: "needs privileges" },
        "gpu.fan": { state: "unsupported", reason: "no fan" },
      },
    });
    expect(gpuNotes(device(), denied)).toEqual([{ tone: "warn", text: "needs privileges" }]);
  });

  test("are as old as they are", () => {
    const at = (age: number) => device({ last_seen: new Date(now - age).toISOString() });
    expect([1000, 30_000, 3_600_000].map((age) => freshnessOf(at(age), now))).toEqual([
      "live",
      "stale",
      "offline",
    ]);
    expect(freshnessWords(at(3_600_000), now)).toBe("Offline, last seen 1 h ago");
  });

  test("a sparkline breaks where nothing was read", () => {
    expect(sparkPath([0, 1, null, 0.5, 2])).toBe("M0.0 23.0L25.0 1.0M75.0 12.0L100.0 1.0");
    expect(sparkPath([null, null])).toBe("");
  });

  test("GPUs of a kind are counted", () => {
    const all = [0, 1, 2, 5].map((index) => gpu(index));
    expect(describeGpus(all)).toBe("4 × H100 80GB HBM3 (0–2, 5)");
    expect(describeGpus([gpu(0), gpu(1, { name: "NVIDIA L4" })])).toBe("1 × H100 80GB HBM3 (0), 1 × L4 (1)");
  });
});
