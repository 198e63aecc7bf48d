import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { runDevice } from "../src/store/tables.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { DEVICE, facts, gpu, gpuValues } from "./helpers/device.ts";

let at: TestCollector;
let now = 0;

beforeEach(() => {
  now = Date.UTC(2026, 10, 23, 14);
  at = createTestCollector({ now: () => now });
});
afterEach(() => at.close());

const last = () => at.collector.journal.bounds().last;
const problem = async (path: string) => {
  const response = await at.request(path);
  return { status: response.status, ...((await response.json()) as { detail: string; hint: string }) };
};

describe("a machine that registers", () => {
  test("is listed with all it said, and with when it was seen", async () => {
    await registerDevice(at.collector, DEVICE, facts());
    const { devices } = await at.json("/api/v1/devices");
    const time = new Date(now).toISOString();
    expect(devices).toEqual([
      {
        ...facts(),
        id: DEVICE,
        source: null,
        local: false,
        first_seen: time,
        last_seen: time,
        runs: [],
        latest: {},
      },
    ]);
  });

  test("and says the same again writes nothing", async () => {
    await registerDevice(at.collector, DEVICE, facts());
    const before = last();
    await registerDevice(at.collector, DEVICE, facts());
    expect(last()).toBe(before);
  });

  test("twice at once is one entry", async () => {
    const before = last();
    await Promise.all([
      registerDevice(at.collector, DEVICE, facts()),
      registerDevice(at.collector, DEVICE, facts()),
    ]);
    expect(last()).toBe(before + 1);
  });

  test("and says something new keeps when it was first seen", async () => {
    await registerDevice(at.collector, DEVICE, facts());
    now += 1000;
    await registerDevice(at.collector, DEVICE, facts({ name: "node2", gpus: [gpu(0, { lost: true })] }));
    const device = await at.json(`/api/v1/devices/${DEVICE}`);
    expect(device).toMatchObject({
      name: "node2",
      gpus: [{ lost: true }],
      first_seen: new Date(now - 1000).toISOString(),
      last_seen: new Date(now).toISOString(),
    });
    const entry = at.collector.journal.read(last() - 1, 1)[0]!;
    expect(entry).toMatchObject({ kind: "device.changed", run: `device:${DEVICE}` });
    expect(JSON.parse(new TextDecoder().decode(entry.payload)).name).toBe("node2");
  });

  test("is still there after a restart", async () => {
    await registerDevice(at.collector, DEVICE, facts());
    at = await at.restart();
    expect(await at.json("/api/v1/devices/node1")).toMatchObject({ id: DEVICE, cores: 64 });
  });

  test("is the first of the list where it is the collector's own", async () => {
    await registerDevice(at.collector, DEVICE, facts({ name: "a" }));
    await registerDevice(at.collector, at.collector.device, facts({ name: "b" }));
    const { devices } = await at.json("/api/v1/devices");
    expect(devices.map((device: any) => [device.name, device.local])).toEqual([
      ["b", true],
      ["a", false],
    ]);
  });
});

describe("a device is found", () => {
  const other = "3f00000000000000";
  beforeEach(async () => {
    await registerDevice(at.collector, DEVICE, facts());
    await registerDevice(at.collector, other, facts({ name: "3f9c" }));
  });
  const cases: [name: string, given: string, id: string][] = [
    ["by its id", DEVICE, DEVICE],
    ["by its host name", "node1", DEVICE],
    ["by the beginning of its id", "3f9c1", DEVICE],
    ["by a host name that is the beginning of another's id", "3f9c", other],
  ];
  for (const [name, given, id] of cases)
    test(name, async () => expect((await at.json(`/api/v1/devices/${given}`)).id).toBe(id));

  test("not by a beginning that two share, which are named", async () => {
    expect(await problem("/api/v1/devices/3f")).toMatchObject({
      status: 409,
      hint: expect.stringMatching(new RegExp(`${DEVICE}|${other}`)),
      candidates: expect.arrayContaining([{ id: DEVICE, name: "node1" }]),
    });
  });

  for (const path of ["", "/samples", "/events"])
    test(`not where there is none: ${path}`, async () => {
      expect(await problem(`/api/v1/devices/nowhere${path}`)).toMatchObject({
        status: 404,
        hint: expect.stringContaining("device list"),
      });
    });
});

describe("what a device shows as present", () => {
  beforeEach(() => registerDevice(at.collector, DEVICE, facts()));
  const latest = async () => (await at.json(`/api/v1/devices/${DEVICE}`)).latest;

  test("are its newest values by subject", async () => {
    at.collector.latest.put(DEVICE, [
      { subject: "", time: now, values: { "cpu.user": 0.5 } },
      { subject: "GPU-0", time: now - 1000, values: gpuValues },
    ]);
    expect(await latest()).toEqual({
      "": { time: new Date(now).toISOString(), values: { "cpu.user": 0.5 } },
      "GPU-0": { time: new Date(now - 1000).toISOString(), values: gpuValues },
    });
  });

  test("are no values older than ten seconds, nor from a future that a clock was set back from", async () => {
    at.collector.latest.put(DEVICE, [
      { subject: "", time: now - 10_001, values: { "cpu.user": 0.5 } },
      { subject: "GPU-0", time: now + 10_001, values: gpuValues },
      { subject: "GPU-1", time: now - 10_000, values: gpuValues },
    ]);
    expect(Object.keys(await latest())).toEqual(["GPU-1"]);
  });

  test("and when it was seen is the time of its newest value, about which a restart forgets a minute at most", async () => {
    const seen = async () => Date.parse((await at.json(`/api/v1/devices/${DEVICE}`)).last_seen);
    const start = now;
    for (now = start + 1000; now <= start + 90_000; now += 10_000)
      await appendSamples(at.collector, DEVICE, [{ subject: "", time: now, values: { "cpu.user": 0.5 } }]);
    at.collector.latest.put(DEVICE, [{ subject: "", time: start + 95_000, values: { "cpu.user": 0.5 } }]);
    expect(await seen()).toBe(start + 95_000);
    at = await at.restart();
    expect(await seen()).toBe(start + 61_000);
  });

  test("are the runs that live there, in the order in which they came", async () => {
    for (const [index, id] of ["1", "2", "3", "4"].entries()) {
      await at.json("/api/v1/runs", { body: { id } });
      await at.collector.db
        .insert(runDevice)
        .values({ run: id, device: DEVICE, from: now - index, to: id === "3" ? now : null });
    }
    await at.json("/api/v1/runs/4/finish", { body: {} });
    expect((await at.json(`/api/v1/devices/${DEVICE}`)).runs).toEqual(["2", "1"]);
  });
});

describe("samples", () => {
  const query = (text: string) => at.json(`/api/v1/devices/node1/samples?${text}`);
  beforeEach(async () => {
    await registerDevice(at.collector, DEVICE, facts());
    for (let second = 60; second > 0; second--)
      await appendSamples(at.collector, DEVICE, [
        { subject: "", time: now - second * 1000, values: { "cpu.user": 0.5, "disk.read@sda": second } },
        { subject: "GPU-0", time: now - second * 1000, values: { "gpu.power": 300 } },
        { subject: "run/7", time: now - second * 1000, values: { "run.cpu": 2 } },
      ]);
  });

  test("of the last hour, of all but runs, come as lines of the same times", async () => {
    const page = await query("points=5000");
    expect(page).toMatchObject({ device: DEVICE, from: now - 3_600_000, to: now, step: 1000 });
    expect(page.times).toHaveLength(60);
    expect(page.series.map(({ subject, reading, part }: any) => [subject, reading, part])).toEqual([
      ["", "cpu.user", null],
      ["", "disk.read", "sda"],
      ["GPU-0", "gpu.power", null],
    ]);
    for (const { mean } of page.series) expect(mean).toHaveLength(60);
  });

  test("of the machine alone, and of a run, are asked for by name", async () => {
    const subjects = async (text: string) =>
      (await query(`subjects=${text}`)).series.map(({ subject }: any) => subject);
    expect(await subjects("machine&readings=cpu.user")).toEqual([""]);
    expect(await subjects("run/7,GPU-0")).toEqual(["run/7", "GPU-0"]);
    expect(await subjects("nobody")).toEqual([]);
  });

  const wrong: [name: string, query: string, detail: RegExp][] = [
    ["a window that ends before it begins", "from=2000&to=1000", /from: must not be later than `to`/],
    ["a reading that nobody has", "readings=cpu.users", /no cpu\.users; use .*cpu\.user,/],
    ["a time beyond all calendars", "to=1e300", /to: /],
    ["a time before 1970", "from=-1", /from: /],
    ["a time that is none", "from=yesterday", /from: /],
    ["no points", "points=0", /points: /],
    ["too many points", "points=5001", /points: /],
  ];
  for (const [name, text, detail] of wrong)
    test(`${name}: 400`, async () => {
      const { status, detail: said } = await problem(`/api/v1/devices/node1/samples?${text}`);
      expect(status).toBe(400);
      expect(said).toMatch(detail);
    });

  test("of more than one answer holds are refused with what to do", async () => {
    const values = Object.fromEntries(
      Array.from({ length: 500 }, (_, core) => [`cpu.core.utilization@${core}`, 0.5]),
    );
    await appendSamples(at.collector, DEVICE, [{ subject: "", time: now, values }]);
    const window = `from=${now - 5_000_000}&to=${now}`;
    expect(await problem(`/api/v1/devices/node1/samples?points=5000&${window}`)).toMatchObject({
      status: 413,
      hint: expect.stringContaining("fewer points"),
    });
    expect((await query(`points=1000&${window}`)).series.length).toBe(503);
    expect((await query(`points=5000&readings=cpu.user&${window}`)).series.length).toBe(1);
  });
});

describe("events", () => {
  beforeEach(() => registerDevice(at.collector, DEVICE, facts()));
  const list = (query = "") => at.json(`/api/v1/devices/${DEVICE}/events${query}`);
  const texts = (events: { text: string }[]) => events.map(({ text }) => text);

  test("are one entry, and are announced as they are listed", async () => {
    const heard: unknown[] = [];
    at.collector.bus.subscribe(({ kind, data }) => kind === "event.recorded" && heard.push(data));
    const before = last();
    await recordEvents(at.collector, DEVICE, [
      { subject: "GPU-0", time: 2000, kind: "gpu.xid", text: "Xid 79", detail: { xid: 79 } },
      { subject: "", time: 1000, kind: "clock.jumped", text: "The clock moved.", detail: { ms: -5 } },
    ]);
    expect(last()).toBe(before + 1);
    const { events } = await list();
    expect(texts(events)).toEqual(["The clock moved.", "Xid 79"]);
    expect(events[1]).toMatchObject({
      device: DEVICE,
      subject: "GPU-0",
      time: "1970-01-01T00:00:02.000Z",
      kind: "gpu.xid",
      detail: { xid: 79 },
    });
    expect(heard).toEqual([[events[1], events[0]]]);
  });

  test("none is no entry", async () => {
    const before = last();
    await recordEvents(at.collector, DEVICE, []);
    expect(last()).toBe(before);
  });

  test("count their ids on after a restart", async () => {
    const record = () =>
      recordEvents(at.collector, DEVICE, [{ subject: "", time: 1, kind: "clock.jumped", text: "x" }]);
    await record();
    at = await at.restart();
    await record();
    expect((await list()).events.map(({ id }: any) => id)).toEqual([1, 2]);
  });

  test("of a window, the newest where there are too many, and of some subjects", async () => {
    await recordEvents(
      at.collector,
      DEVICE,
      [1, 2, 3, 4, 5].map((second) => ({
        subject: second % 2 ? "GPU-1" : "",
        time: second * 1000,
        kind: "gpu.xid" as const,
        text: String(second),
      })),
    );
    const shown = async (query: string) => {
      const { events, more } = await list(query);
      return [texts(events).join(""), more];
    };
    expect(await shown("")).toEqual(["12345", false]);
    expect(await shown("?from=2000&to=4000")).toEqual(["234", false]);
    expect(await shown("?to=4000&limit=2")).toEqual(["34", true]);
    expect(await shown("?limit=5")).toEqual(["12345", false]);
    expect(await shown("?subjects=machine")).toEqual(["24", false]);
    expect(await shown("?subjects=GPU-1,nobody")).toEqual(["135", false]);
  });

  test("say what was out of order when the window begins, and not what was in order", async () => {
    const event = (time: number, subject: string, kind: any, text: string, detail = {}) => ({
      time,
      subject,
      kind,
      text,
      detail,
    });
    const state = (time: number, reading: string, state: string) =>
      event(time, "GPU-0", "reading.state", `${reading} ${state}`, { reading, state });
    await recordEvents(at.collector, DEVICE, [
      event(10, "", "sampling.began", "began"),
      event(20, "", "gpu.status", "absent", { status: "absent" }),
      event(30, "", "gpu.status", "mismatch", { status: "mismatch" }),
      state(40, "gpu.fan", "unsupported"),
      state(41, "gpu.power", "transient"),
      state(42, "gpu.power", "ok"),
      event(50, "GPU-1", "gpu.lost", "GPU 1 lost"),
      event(51, "GPU-2", "gpu.lost", "GPU 2 lost"),
      event(52, "GPU-2", "gpu.back", "GPU 2 back"),
      event(60, "GPU-0", "throttle.began", "held down"),
      event(70, "GPU-0", "gpu.xid", "over at once"),
      event(80, "run/1", "sampling.ended", "the run has ended"),
      event(100, "", "gpu.status", "ok", { status: "ok" }),
      event(110, "", "sampling.ended", "stopped"),
    ]);
    const states = async (query: string) => texts((await list(query)).states);
    expect(await states("")).toEqual([]);
    expect(await states("?from=10")).toEqual([]);
    expect(await states("?from=100")).toEqual(["mismatch", "gpu.fan unsupported", "GPU 1 lost", "held down"]);
    expect(await states("?from=101&subjects=GPU-1,machine")).toEqual(["GPU 1 lost"]);
    expect((await states("?from=111")).at(-1)).toBe("stopped");
  });
});

describe("the devices of a run", () => {
  beforeEach(async () => {
    await registerDevice(at.collector, DEVICE, facts());
    await at.json("/api/v1/runs", { body: { id: "7" } });
  });

  test("are none where nothing was recorded", async () => {
    expect(await at.json("/api/v1/runs/7/devices")).toEqual({ run: "7", devices: [] });
  });

  test("come with when it lived there and what it used, GPUs by their number", async () => {
    const use = { by: "visible", energy: 5000, hours: 0.5, peak_memory: 10, shared: false } as const;
    await at.collector.db.insert(runDevice).values([
      {
        run: "7",
        device: DEVICE,
        from: 1000,
        to: 2000,
        attribution: "cgroup",
        cpuSeconds: 12.5,
        gpus: {
          "GPU-1": { ...use, index: 1, name: "H100" },
          "GPU-0": { ...use, index: 0, name: "H100", energy: null },
        },
      },
      { run: "7", device: "00000000000000aa", from: 500, note: "Nobody knows." },
    ]);
    const { devices } = await at.json("/api/v1/runs/7/devices");
    expect(devices).toMatchObject([
      { device: "00000000000000aa", name: "00000000000000aa", to: null, gpus: [], note: "Nobody knows." },
      {
        device: DEVICE,
        name: "node1",
        from: "1970-01-01T00:00:01.000Z",
        to: "1970-01-01T00:00:02.000Z",
        attribution: "cgroup",
        cpu_seconds: 12.5,
        gpus: [
          { uuid: "GPU-0", index: 0, energy: null },
          { uuid: "GPU-1", index: 1, energy: 5000, hours: 0.5 },
        ],
      },
    ]);
  });

  test("are not found with the run", async () => {
    expect(await problem("/api/v1/runs/8/devices")).toMatchObject({ status: 404 });
  });
});

describe("who may read", () => {
  beforeEach(() => registerDevice(at.collector, DEVICE, facts()));
  const paths = ["", "/live", "/node1", "/node1/samples", "/node1/events"].map(
    (rest) => `/api/v1/devices${rest}`,
  );

  for (const path of paths)
    test(`${path}: a read token, not a run's, not nobody`, async () => {
      const { tokens } = at.trust;
      const status = async (token: string | null) => {
        const response = await at.request(path, { token });
        await response.body?.cancel();
        return response.status;
      };
      expect(await status(tokens.read)).toBe(200);
      expect(await status(tokens.ofRun("7"))).toBe(403);
      expect(await status(null)).toBe(401);
    });

  test("a run's own token reads where it lives, and not where others do", async () => {
    await at.json("/api/v1/runs", { body: { id: "7" } });
    await at.json("/api/v1/runs", { body: { id: "8" } });
    const token = at.trust.tokens.ofRun("7");
    const status = async (path: string) => (await at.request(path, { token })).status;
    expect(await status("/api/v1/runs/7/devices")).toBe(200);
    expect(await status("/api/v1/runs/8/devices")).toBe(403);
  });
});
