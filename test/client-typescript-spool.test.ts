import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { findConnection } from "../src/client/typescript/connection.ts";
import { parseEvent } from "../src/client/typescript/events.ts";
import { LaidAside } from "../src/client/typescript/laid-aside.ts";
import { listSpool, openSpool, replaySpool, type SpoolLine } from "../src/client/typescript/spool.ts";
import { lockSpool, unlockSpool } from "../src/client/typescript/spool-lock.ts";
import { CollectorError, type ErrorCode } from "../src/error.ts";
import { readBootId } from "../src/run/machine.ts";
import { python } from "./helpers/python.ts";

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "binnacle-spool-"));
});

afterEach(() => rmSync(dir, { recursive: true }));

const batch = (seq: number): SpoolLine => ({
  v: 1,
  path: "/api/v1/runs/1/records",
  body: { client: "c", seq, items: [{ metrics: { a: seq } }] },
});

/** Answers as a collector does: batches in order, repetitions harmless, those of `refused` never. */
function createTarget({ refused = [], failAt }: { refused?: number[]; failAt?: number } = {}) {
  const taken: number[] = [];
  let expected = 1;
  const post = async (_path: string, body: Record<string, unknown>) => {
    const seq = body["seq"] as number;
    const items = body["items"] as unknown[];
    if (seq === failAt) throw new CollectorError("unreachable", "gone");
    if (refused.includes(seq) && items.length > 0) throw new CollectorError("invalid", "not like this");
    if (seq > expected) throw new CollectorError("sequence-gap", "gap", { details: { expected } });
    if (seq < expected) return;
    expected++;
    if (items.length > 0) taken.push(seq);
  };
  return { taken, post };
}

function write(lines: SpoolLine[], torn = ""): string {
  const file = join(dir, "1-c.ndjson");
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join("") + torn);
  return file;
}

describe("replaying a file", () => {
  const cases: {
    name: string;
    seqs: number[];
    target?: Parameters<typeof createTarget>[0];
    taken: number[];
    outcome: string;
    left: boolean;
  }[] = [
    {
      name: "delivers in order and deletes it",
      seqs: [1, 2, 3],
      taken: [1, 2, 3],
      outcome: "sent",
      left: false,
    },
    {
      name: "passes over numbers that were lost",
      seqs: [1, 4, 5],
      taken: [1, 4, 5],
      outcome: "sent",
      left: false,
    },
    {
      name: "moves aside what is refused and goes on",
      seqs: [1, 2, 3],
      target: { refused: [2] },
      taken: [1, 3],
      outcome: "partly",
      left: false,
    },
    {
      name: "keeps it whole where the collector stops answering",
      seqs: [1, 2, 3],
      target: { failAt: 2 },
      taken: [1],
      outcome: "kept",
      left: true,
    },
  ];
  for (const { name, seqs, target, taken, outcome, left } of cases)
    test(name, async () => {
      const file = write(seqs.map(batch), '{"v":1,"path":"/api');
      const collector = createTarget(target);
      expect(await replaySpool(file, collector)).toMatchObject({ outcome });
      expect(collector.taken).toEqual(taken);
      expect(existsSync(file)).toBe(left);
      expect(existsSync(`${file}.lock`)).toBe(false);
    });

  test("a second time changes nothing", async () => {
    const collector = createTarget();
    for (let time = 0; time < 2; time++) {
      const file = write([1, 2].map(batch));
      expect(await replaySpool(file, collector)).toMatchObject({ outcome: "sent", sent: 2 });
    }
    expect(collector.taken).toEqual([1, 2]);
  });

  for (const code of ["unauthorized", "forbidden", "busy", "disk-full", "internal"] as ErrorCode[])
    test(`${code} keeps it: the right token, or some room, may come`, async () => {
      const file = write([batch(1)]);
      const post = () => Promise.reject(new CollectorError(code, "no"));
      expect(await replaySpool(file, { post })).toMatchObject({ outcome: "kept", error: "no" });
      expect(existsSync(file)).toBe(true);
    });

  test("damaged lines are kept aside, paths elsewhere are never asked for", async () => {
    const file = join(dir, "1-c.ndjson");
    const lines = [
      "nonsense",
      '{"v":2}',
      '{"v":1,"path":"http://else/","body":{}}',
      '{"v":1,"path":"/api/v1/x","body":[]}',
    ];
    writeFileSync(file, `${lines.join("\n")}\n${JSON.stringify(batch(1))}\n`);
    const collector = createTarget();
    expect(await replaySpool(file, collector)).toMatchObject({ outcome: "partly", sent: 1, refused: 4 });
    expect(readFileSync(`${file}.refused`, "utf8")).toBe(`${lines.join("\n")}\n`);
  });

  test("what is refused is laid aside before its number is filled, and once however often it is tried", async () => {
    const file = write([1, 2, 3].map(batch));
    const aside = `${file}.refused`;
    // Its first try breaks off behind the refused line, its second before that line's number is filled.
    const first = createTarget({ refused: [2], failAt: 3 });
    expect(await replaySpool(file, first)).toMatchObject({ outcome: "kept", refused: 1 });
    const laidAside = `${JSON.stringify(batch(2))}\n`;
    expect(readFileSync(aside, "utf8")).toBe(laidAside);
    const atFilling: string[] = [];
    const other = createTarget({ refused: [2] });
    const second = await replaySpool(file, {
      post: async (path, body) => {
        if (Array.isArray(body["items"]) && body["items"].length === 0) {
          atFilling.push(readFileSync(aside, "utf8"));
          throw new CollectorError("unreachable", "gone");
        }
        return other.post(path, body);
      },
    });
    expect(second).toMatchObject({ outcome: "kept", refused: 1 });
    expect(atFilling).toEqual([laidAside]);
    expect(await replaySpool(file, other)).toMatchObject({ outcome: "partly", sent: 2, refused: 1 });
    expect(readFileSync(aside, "utf8")).toBe(laidAside);
    expect(other.taken).toEqual([1, 3]);
  });

  test("a line that was torn while it was laid aside is not glued to the next", async () => {
    const file = write([1, 2].map(batch));
    writeFileSync(`${file}.refused`, '{"v":1,"pa');
    expect(await replaySpool(file, createTarget({ refused: [2] }))).toMatchObject({ outcome: "partly" });
    expect(readFileSync(`${file}.refused`, "utf8")).toBe(`{"v":1,"pa\n${JSON.stringify(batch(2))}\n`);
  });

  test("nor to what its client itself lays aside, and that is there once whoever does it", async () => {
    const file = write([1, 2].map(batch));
    writeFileSync(`${file}.refused`, '{"v":1,"pa');
    const aside = new LaidAside(file);
    await aside.add(batch(2), new CollectorError("invalid", "not like this"));
    expect(aside).toMatchObject({ count: 1, file: `${file}.refused` });
    expect(await replaySpool(file, createTarget({ refused: [2] }))).toMatchObject({ outcome: "partly" });
    expect(readFileSync(`${file}.refused`, "utf8")).toBe(`{"v":1,"pa\n${JSON.stringify(batch(2))}\n`);
  });

  test("what is written to it meanwhile is sent too, not deleted", async () => {
    const next = `${JSON.stringify(batch(2))}\n`;
    const file = write([batch(1)], next.slice(0, 20));
    const collector = createTarget();
    const post = async (path: string, body: Record<string, unknown>) => {
      await collector.post(path, body);
      // Until what there was is read to its end. Then the torn line becomes whole, and one more comes.
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (body["seq"] === 1) appendFileSync(file, next.slice(20));
      if (body["seq"] === 2) appendFileSync(file, `${JSON.stringify(batch(3))}\n`);
    };
    expect(await replaySpool(file, { post })).toMatchObject({ outcome: "sent", sent: 3 });
    expect(collector.taken).toEqual([1, 2, 3]);
    expect(existsSync(file)).toBe(false);
  });

  test("long lines that arrive in pieces are read whole", async () => {
    const long = { ...batch(1), body: { ...batch(1).body, text: "ü".repeat(2_000_000) } };
    const file = write([long, batch(2)]);
    const read: unknown[] = [];
    await replaySpool(file, { post: async (_path, body) => void read.push(body) });
    expect(read).toEqual([long.body, batch(2).body]);
  });
});

describe("a file belongs to one living process", () => {
  const dead = spawnSync("true").pid;
  const host = hostname();
  const boot = readBootId() ?? "";
  const locks: [name: string, lock: string | undefined, free: boolean, hoursOld?: number][] = [
    ["no lock", undefined, true],
    ["a process that is gone, by an older client", `${dead}`, true],
    ["a living one, by an older client", `${process.ppid}`, false],
    ["a process that is gone", `${dead} ${host} ${boot}`, true],
    ["a living one", `${process.ppid} ${host} ${boot}`, false],
    ["a living one, however long", `${process.ppid} ${host} ${boot}`, false, 25],
    ["a living one where boots have no name", `${process.ppid} ${host} `, false],
    ["a number that is in use again after a reboot", `${process.ppid} ${host} another-boot`, boot !== ""],
    ["a number that is free here, of another machine", `${dead} elsewhere another-boot`, false],
    ["another machine, a day ago", `${process.ppid} elsewhere another-boot`, true, 25],
    ["nonsense", "x", true],
  ];
  const writeLock = (lock: string | undefined, hoursOld = 0) => {
    const file = write([batch(1)]);
    if (lock === undefined) return file;
    writeFileSync(`${file}.lock`, lock);
    const time = Date.now() / 1000 - hoursOld * 3600;
    utimesSync(`${file}.lock`, time, time);
    return file;
  };
  const ours: (typeof locks)[number] = [
    "our own number, of an earlier life in a container",
    `${process.pid} ${host} ${boot}`,
    true,
  ];
  for (const [name, lock, free, hoursOld] of [...locks, ours])
    test(name, () => {
      const file = writeLock(lock, hoursOld);
      expect(lockSpool(file)).toBe(free);
      if (!free) return;
      expect(readFileSync(`${file}.lock`, "utf8")).toBe(`${process.pid} ${host} ${boot}`);
      expect(lockSpool(file)).toBe(false);
      unlockSpool(file);
      expect(existsSync(`${file}.lock`)).toBe(false);
    });

  for (const [name, lock, free, hoursOld] of locks)
    test(`and Python's client agrees: ${name}`, async () => {
      const script = `
import os, sys
from binnacle import _spool
taken = _spool.take_lock(sys.argv[1])
print(taken, os.getpid(), open(sys.argv[1] + ".lock").read() if taken else "")`;
      const stdout = await python(script, { args: [writeLock(lock, hoursOld)] });
      const [taken, pid, ...text] = stdout.trim().split(" ");
      expect(taken).toBe(free ? "True" : "False");
      if (free) expect(text.join(" ")).toBe(`${pid} ${host} ${boot}`.trim());
    });

  test("its writer's file is left alone until it is closed, private, and gone when delivered", () => {
    const spool = openSpool(join(dir, "new"), "1", "c");
    spool.append([batch(1)]);
    expect(statSync(spool.path).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, "new")).mode & 0o777).toBe(0o700);
    expect(() => openSpool(join(dir, "new"), "1", "c")).toThrow("in use");
    spool.close();
    expect(listSpool(join(dir, "new"))).toEqual([spool.path]);
    openSpool(join(dir, "new"), "1", "c").close({ discard: true });
    expect(listSpool(join(dir, "new"))).toEqual([]);
    expect(listSpool(join(dir, "none"))).toEqual([]);
  });
});

describe("the collector is found", () => {
  const dataDir = (name: string, url?: string) => {
    const folder = join(dir, name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "token"), `token-of-${name}\n`);
    if (url) writeFileSync(join(folder, "collector.json"), JSON.stringify({ url }));
    return folder;
  };
  const find = (options: Parameters<typeof findConnection>[0]) => {
    const { url, token } = findConnection({ env: {}, ...options });
    return [url, token];
  };

  test("by what is nearest to the caller", () => {
    const running = dataDir("running", "http://127.0.0.1:1/");
    const idle = dataDir("idle");
    const lan = dataDir("lan", "http://10.0.0.1:1");
    const env = { BINNACLE_URL: "http://127.0.0.1:2", BINNACLE_DATA: running };
    expect(find({ url: "http://localhost:3", env })).toEqual(["http://localhost:3", "token-of-running"]);
    expect(find({ env })).toEqual(["http://127.0.0.1:2", "token-of-running"]);
    expect(find({ data: running, env: { BINNACLE_URL: "http://127.0.0.1:2" } })).toEqual([
      "http://127.0.0.1:1",
      "token-of-running",
    ]);
    expect(find({ data: idle, env })).toEqual(["http://127.0.0.1:2", "token-of-idle"]);
    expect(find({ env: { BINNACLE_DATA: running } })).toEqual(["http://127.0.0.1:1", "token-of-running"]);
    expect(find({ env: { BINNACLE_DATA: idle, BINNACLE_URL: "" } })).toEqual([
      "http://127.0.0.1:7070",
      "token-of-idle",
    ]);
    expect(find({ env: { XDG_STATE_HOME: dir } })).toEqual(["http://127.0.0.1:7070", undefined]);
    expect(find({ env: { ...env, BINNACLE_TOKEN: "given" } })).toEqual(["http://127.0.0.1:2", "given"]);
    expect(find({ url: "http://10.0.0.1:1/", data: lan })).toEqual(["http://10.0.0.1:1", "token-of-lan"]);
    expect(find({ url: "http://10.0.0.1:2", data: lan })).toEqual(["http://10.0.0.1:2", undefined]);
    expect(find({ url: "http://127.0.0.1.evil.example", data: lan })[1]).toBeUndefined();
    expect(find({ url: "http://[::1]:5", data: idle })[1]).toBe("token-of-idle");
  });

  test("its spool folder too", () => {
    expect(findConnection({ data: "/d", env: {} }).spoolDir).toBe("/d/spool");
    expect(findConnection({ data: "/d", env: { BINNACLE_SPOOL: "/s" } }).spoolDir).toBe("/s");
  });
});

test("events of a stream", () => {
  const cases: [string, ReturnType<typeof parseEvent>][] = [
    [": ping", undefined],
    ["event: log\ndata: [1,\ndata: 2]\nid: 7", { event: "log", data: "[1,\n2]", id: "7" }],
    ["data:x", { event: "message", data: "x", id: undefined }],
    ["event: a\r\ndata: b: c", { event: "a", data: "b: c", id: undefined }],
    ["event: a", undefined],
  ];
  for (const [block, event] of cases) expect(parseEvent(block)).toEqual(event);
});
