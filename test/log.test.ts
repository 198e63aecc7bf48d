import { afterEach, describe, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCollector, type Collector } from "../src/collector.ts";
import { Encoding } from "../src/entry.ts";
import { appendLogs } from "../src/log/append.ts";
import { queryLogs } from "../src/log/query.ts";
import { QueryLogs, type LogItem, type LogLine } from "../src/log/schema.ts";
import { packLines } from "../src/store/log-chunk.ts";

const RUN = "123456789012345";
const folders: string[] = [];
const collectors: Collector[] = [];

afterEach(async () => {
  for (const collector of collectors.splice(0)) await collector.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-log-"));
  folders.push(folder);
  return folder;
}

/** A collector with one run. */
function open(folder = makeFolder()): Collector {
  const collector = openCollector({
    dataDir: folder,
    onFatal(error) {
      throw error;
    },
  });
  collectors.push(collector);
  if (!collector.counters.find(RUN)) {
    collector.connection
      .prepare(
        "INSERT INTO run (id, name, project, status, config, tags, created) VALUES (?, 'n', 'p', 'RUNNING', '{}', '[]', 0)",
      )
      .run(RUN);
  }
  return collector;
}

/** What a kill and a new start would find: libSQL lets go of a file only with the process, so it starts on a copy. */
async function restart(collector: Collector): Promise<Collector> {
  await collector.journal.settled();
  const folder = makeFolder();
  cpSync(collector.dataDir, folder, { recursive: true });
  return open(folder);
}

async function append(collector: Collector, seq: number, items: (string | LogItem)[], client = "c") {
  return appendLogs(collector, RUN, {
    client,
    seq,
    items: items.map((item) => (typeof item === "string" ? { text: item } : item)),
  });
}

const query = (collector: Collector, input: Record<string, unknown> = {}) =>
  queryLogs(collector, RUN, QueryLogs.parse(input));

const texts = async (collector: Collector, input: Record<string, unknown> = {}) =>
  (await query(collector, input)).lines.map((line) => line.text);

/** Every line, page by page. */
async function readAll(collector: Collector): Promise<string[]> {
  const all: string[] = [];
  for (let after: number | null = 0; after !== null;) {
    const page = await query(collector, { after, limit: 10_000 });
    for (const line of page.lines) {
      expect(line.line).toBe(all.length + 1);
      all.push(line.text);
    }
    after = page.next;
  }
  return all;
}

const numbered = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => `line ${from + index} ${"x".repeat((from + index) % 90)}`);

describe("append", () => {
  test("numbers lines from 1 and keeps stream, time, level and rank", async () => {
    const collector = open();
    await appendLogs(collector, RUN, {
      client: "c",
      seq: 1,
      rank: 3,
      items: [
        { time: 1000, stream: "stdout", text: "hello" },
        { time: 1001.5, stream: "stderr", text: "ERROR: no" },
        { time: 1002, stream: "stderr", level: "DEBUG", text: "ERROR: but they say debug" },
      ],
    });
    expect((await query(collector)).lines).toEqual([
      { line: 1, time: 1000, stream: "stdout", level: null, rank: 3, text: "hello" },
      { line: 2, time: 1001.5, stream: "stderr", level: "ERROR", rank: 3, text: "ERROR: no" },
      { line: 3, time: 1002, stream: "stderr", level: "DEBUG", rank: 3, text: "ERROR: but they say debug" },
    ]);
  });

  test("a repeated batch changes nothing and gets the same answer", async () => {
    const collector = open();
    const first = append(collector, 1, ["a"]);
    const repeated = append(collector, 1, ["a"]);
    expect(await Promise.all([first, repeated])).toEqual([{ acked: 1 }, { acked: 1 }]);
    expect(await append(collector, 1, ["a"])).toEqual({ acked: 1 });
    expect(await texts(collector)).toEqual(["a"]);
  });

  test("a gap is refused with what was expected", async () => {
    const collector = open();
    await append(collector, 1, ["a"]);
    expect(append(collector, 3, ["c"])).rejects.toMatchObject({
      code: "sequence-gap",
      details: { expected: 2 },
    });
  });

  test("an empty batch fills a hole in the numbering, and a restart remembers it", async () => {
    const collector = open();
    await append(collector, 1, []);
    await append(collector, 2, ["b"]);
    await append(collector, 3, []);
    collector.logs.seal();
    const reopened = await restart(collector);
    await append(reopened, 4, ["d"]);
    expect(await texts(reopened)).toEqual(["b", "d"]);
  });

  test("an unknown run and a deleted one are told apart", async () => {
    const collector = open();
    const items = [{ text: "a" }];
    expect(appendLogs(collector, "9", { client: "c", seq: 1, items })).rejects.toMatchObject({
      code: "not-found",
    });
    collector.counters.delete(RUN);
    expect(appendLogs(collector, RUN, { client: "c", seq: 1, items })).rejects.toMatchObject({
      code: "gone",
    });
  });

  test("a traceback is one error across batches", async () => {
    const collector = open();
    await append(collector, 1, ["start", "Traceback (most recent call last):", '  File "a.py", line 1']);
    await append(collector, 2, ["    f()", "ValueError: bad", "INFO: on we go"]);
    expect((await query(collector)).lines.map((line) => line.level)).toEqual([
      null,
      "ERROR",
      "ERROR",
      "ERROR",
      "ERROR",
      "INFO",
    ]);
  });

  test("a batch that a full disk refused is no repetition when it comes again", async () => {
    const collector = open();
    await append(collector, 1, ["a"]);
    const { connection } = collector;
    const { page_count } = connection.prepare("PRAGMA page_count").get() as { page_count: number };
    connection.exec(`PRAGMA max_page_count=${page_count}`);
    const noise = Array.from({ length: 300 }, () => crypto.randomUUID().repeat(20));
    const first = append(collector, 2, noise);
    const repeated = append(collector, 2, noise);
    await expect(first).rejects.toMatchObject({ code: "disk-full" });
    await expect(repeated).rejects.toMatchObject({ code: "disk-full" });
    connection.exec("PRAGMA max_page_count=1000000");
    collector.journal.refuse(undefined);
    expect(await append(collector, 2, noise)).toEqual({ acked: 2 });
    expect(await texts(collector)).toEqual(["a", ...noise]);
  });
});

describe("lines still being rewritten", () => {
  test("are announced and shown, never stored", async () => {
    const collector = open();
    const heard: unknown[] = [];
    collector.bus.subscribe(({ kind, data }) => void (kind === "log.open" && heard.push(data)));
    const base = { client: "c", seq: 1, items: [] };
    await appendLogs(collector, RUN, { ...base, open: { stderr: " 10%" } });
    await appendLogs(collector, RUN, { ...base, open: { stderr: " 20%" } });
    await appendLogs(collector, RUN, { ...base, open: { stderr: " 20%" } });
    expect((await query(collector)).open).toEqual({ stdout: null, stderr: " 20%" });
    await appendLogs(collector, RUN, {
      ...base,
      items: [{ stream: "stderr", text: "100%" }],
      open: { stderr: null },
    });
    expect(await query(collector)).toMatchObject({ total: 1, open: { stdout: null, stderr: null } });
    expect(heard).toEqual([
      { rank: 0, stdout: null, stderr: " 10%" },
      { rank: 0, stdout: null, stderr: " 20%" },
      { rank: 0, stdout: null, stderr: null },
    ]);
  });
});

describe("storing", () => {
  const strange = [
    "\udc80\udcff lone",
    "\ud83d\ude00 pair",
    "\ud83d cut",
    "\u0000 nul",
    "\u001b[31mred\u001b[0m",
    "",
    " ",
  ];

  test("strange text survives journal, head, chunk and restart exactly", async () => {
    let collector = open();
    await append(collector, 1, strange);
    expect(await texts(collector)).toEqual(strange);
    collector = await restart(collector);
    expect(await texts(collector)).toEqual(strange);
    collector.logs.seal();
    collector = await restart(collector);
    collector.connection.exec("DELETE FROM journal");
    collector = await restart(collector);
    expect(await texts(collector)).toEqual(strange);
  });

  test("chunks and head read as one log, at any moment of sealing, and after a restart", async () => {
    let collector = open();
    const expected: string[] = [];
    for (let seq = 1; seq <= 60; seq++) {
      const lines = numbered(expected.length, (seq * 37) % 400);
      if (lines.length === 0) continue;
      await append(collector, seq, lines);
      expected.push(...lines);
      if (seq % 17 === 0) collector.logs.seal();
      if (seq % 23 === 0) {
        collector = await restart(collector);
      }
    }
    expect(await readAll(collector)).toEqual(expected);
    collector.logs.seal();
    expect(collector.logs.applier.lowWater!()).toBeUndefined();
    expect(await readAll(collector)).toEqual(expected);
    collector = await restart(collector);
    expect(await readAll(collector)).toEqual(expected);
    const chunks = collector.connection
      .prepare("SELECT first_line, last_line, size FROM log_chunk ORDER BY first_line")
      .all() as { first_line: number; last_line: number; size: number }[];
    // Slow logs must not become one-line chunks: all but the last are full.
    for (const chunk of chunks.slice(0, -1)) expect(chunk.size).toBeGreaterThan(65_536 - 200);
    for (const chunk of chunks) expect(chunk.size).toBeLessThanOrEqual(65_536);
  });

  test("an entry that is a chunk by itself does not hold the body that it came in", async () => {
    const collector = open();
    const lines = numbered(1, 2000).map((text, index): LogLine => ({
      line: index + 1,
      time: 0,
      stream: "stdout",
      level: null,
      rank: 0,
      text,
    }));
    const { encoding, payload } = packLines(lines);
    const body = new Uint8Array(3 * payload.byteLength);
    body.set(payload, 16);
    await collector.journal.append(
      {
        kind: "log.appended",
        version: 1,
        run: RUN,
        client: null,
        clientSeq: null,
        ordinal: 1,
        nextStep: null,
        count: lines.length,
        time: 0,
        encoding,
        payload: body.subarray(16, 16 + payload.byteLength),
      },
      lines,
    );
    // Whoever still looks into it sees this.
    body.fill(0);
    collector.logs.seal();
    const chunk = collector.connection.prepare("SELECT data FROM log_chunk").get() as { data: Buffer };
    expect(Buffer.from(payload).equals(chunk.data)).toBe(true);
  });

  test("entries that are a chunk by themselves are sealed as they were packed, and read in order among small ones", async () => {
    let collector = open();
    const expected: string[] = [];
    const payloads = new Set<string>();
    const counts = [10, 2000, 1500, 30, 2000, 700, 400, 2500, 6000, 5, 1500, 1500];
    for (const [index, count] of counts.entries()) {
      const lines = numbered(expected.length, count);
      const { last } = collector.journal.bounds();
      await append(collector, index + 1, lines);
      for (const { payload } of collector.journal.read(last, 1))
        payloads.add(Buffer.from(payload).toString("hex"));
      expected.push(...lines);
      if (index === 6) collector.logs.seal();
      if (index === 8) collector = await restart(collector);
    }
    expect(await readAll(collector)).toEqual(expected);
    collector.logs.seal();
    collector = await restart(collector);
    expect(await readAll(collector)).toEqual(expected);
    const chunks = collector.connection
      .prepare("SELECT first_line AS first, last_line AS last, size, data FROM log_chunk ORDER BY first_line")
      .all() as { first: number; last: number; size: number; data: ArrayBuffer }[];
    chunks.reduce((before, { first, last }) => (expect(first).toBe(before + 1), last), 0);
    const whole = chunks.filter(
      ({ size, data }) => size >= 65_536 && payloads.has(Buffer.from(data).toString("hex")),
    );
    // All but those of few lines, and the one that is too long to read one line of.
    expect(whole.map(({ first, last }) => last - first + 1)).toEqual([2000, 1500, 2000, 2500, 1500, 1500]);
    for (const { size } of chunks) expect(size).toBeLessThanOrEqual(4 * 65_536);
  });

  test("the low-water mark is the oldest entry with a line that is only in memory", async () => {
    const collector = open();
    await append(collector, 1, ["a"]);
    await append(collector, 2, ["b"]);
    expect(collector.logs.applier.lowWater!()).toBe(1);
    collector.logs.seal();
    expect(collector.logs.applier.lowWater!()).toBeUndefined();
    await append(collector, 3, ["c"]);
    expect(collector.logs.applier.lowWater!()).toBe(3);
    // What is below the mark may go: nothing is missing after a restart.
    collector.connection.exec("DELETE FROM journal WHERE seq < 3");
    expect(await texts(await restart(collector))).toEqual(["a", "b", "c"]);
  });

  test("a start does not unpack what is sealed", async () => {
    const collector = open();
    await append(collector, 1, ["a"]);
    collector.logs.seal();
    await append(collector, 2, ["b"]);
    collector.connection.exec("UPDATE journal SET payload = x'00' WHERE seq = 1");
    expect(await texts(await restart(collector))).toEqual(["a", "b"]);
  });

  test("a line longer than a chunk has one of its own", async () => {
    const collector = open();
    const long = "y".repeat(300_000);
    await append(collector, 1, ["a", long, "b"]);
    collector.logs.seal();
    expect(await texts(collector)).toEqual(["a", long, "b"]);
  });

  test("full chunks are sealed by themselves, also where one line fills them, and then nothing goes on", async () => {
    const collector = open();
    const exact = ["x".repeat(65_536 - 2 * 24 - 10), "y".repeat(10)];
    for (const [index, lines] of [["z".repeat(300_000)], exact, numbered(0, 3000)].entries()) {
      await append(collector, index + 1, lines as string[]);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    const { n, last } = collector.connection
      .prepare("SELECT count(*) AS n, max(last_line) AS last FROM log_chunk")
      .get() as { n: number; last: number };
    expect(n).toBeGreaterThanOrEqual(3);
    expect(last).toBe(3003);
    const total = () =>
      (collector.connection.prepare("SELECT total_changes() AS n").get() as { n: number }).n;
    const writes = total();
    const cpu = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(total()).toBe(writes);
    expect(process.cpuUsage(cpu).user).toBeLessThan(150_000);
  });

  test("numbers missing after a refused batch break nothing", async () => {
    const collector = open();
    await append(collector, 1, ["a"]);
    collector.counters.get(RUN).nextLine += 5;
    await append(collector, 2, ["b"]);
    collector.logs.seal();
    expect((await query(collector)).lines.map(({ line, text }) => [line, text])).toEqual([
      [1, "a"],
      [7, "b"],
    ]);
  });

  test("batches are compressed in the journal", async () => {
    const collector = open();
    await append(collector, 1, numbered(0, 500));
    const [entry] = collector.journal.read(0, 1);
    expect(entry!.encoding).toBe(Encoding.jsonZstd);
    expect(entry!.payload.byteLength).toBeLessThan(6000);
  });

  test("purge leaves nothing of a run", async () => {
    const collector = open();
    await append(collector, 1, numbered(0, 5000));
    collector.logs.seal();
    await append(collector, 2, ["tail"]);
    await collector.logs.purge(RUN);
    expect(collector.connection.prepare("SELECT count(*) AS n FROM log_chunk").get()).toMatchObject({ n: 0 });
    expect(collector.logs.applier.lowWater!()).toBeUndefined();
    expect(collector.logs.total(RUN)).toBe(0);
  });
});

describe("query", () => {
  /** 5,000 lines, level ERROR at every 1,000th, rank 1 for odd numbers; sealed but for the last. */
  async function filled(): Promise<Collector> {
    const collector = open();
    const items = Array.from({ length: 5000 }, (_, index): LogItem => {
      const line = index + 1;
      return {
        text: `${line % 1000 === 0 ? "ERROR " : ""}line ${line} ${"z".repeat(60)}`,
        time: line * 1000,
        stream: line % 2 === 0 ? "stdout" : "stderr",
      };
    });
    await append(collector, 1, items.slice(0, 4999));
    collector.logs.seal();
    await append(collector, 2, items.slice(4999));
    return collector;
  }
  const lines = async (collector: Collector, input: Record<string, unknown>) => {
    const page = await query(collector, input);
    const numbers = page.lines.map((line) => line.line);
    return [numbers[0], numbers.at(-1), numbers.length, page.previous, page.next];
  };

  test("pages forwards, backwards and from the end", async () => {
    const collector = await filled();
    expect(await lines(collector, { limit: 10 })).toEqual([4991, 5000, 10, 4991, null]);
    expect(await lines(collector, { limit: 10, before: 4991 })).toEqual([4981, 4990, 10, 4981, 4990]);
    expect(await lines(collector, { limit: 10, before: 4 })).toEqual([1, 3, 3, null, 3]);
    expect(await lines(collector, { limit: 10, after: 0 })).toEqual([1, 10, 10, null, 10]);
    expect(await lines(collector, { limit: 10, after: 4995 })).toEqual([4996, 5000, 5, 4996, null]);
    expect(await lines(collector, { limit: 10, after: 4990 })).toEqual([4991, 5000, 10, 4991, null]);
    expect(await lines(collector, { limit: 10, after: 9999 })).toEqual([
      undefined,
      undefined,
      0,
      10_000,
      null,
    ]);
    expect(await lines(collector, { limit: 10, after: 3, before: 6 })).toEqual([4, 5, 2, 4, null]);
    expect((await query(collector)).total).toBe(5000);
  });

  test("a page of very long lines ends early, and says where to go on", async () => {
    const collector = open();
    for (let seq = 1; seq <= 5; seq++)
      await append(
        collector,
        seq,
        Array.from({ length: 4 }, () => "x".repeat(1_000_000)),
      );
    const forwards = await query(collector, { after: 0, limit: 10_000 });
    expect([forwards.lines.length, forwards.next, forwards.previous]).toEqual([9, 9, null]);
    const backwards = await query(collector, { limit: 10_000 });
    expect([backwards.lines[0]!.line, backwards.lines.length]).toEqual([12, 9]);
    expect([backwards.next, backwards.previous]).toEqual([null, 12]);
  });

  test("filters by level, stream, time, rank and pattern, and combines them", async () => {
    const collector = await filled();
    const found = async (input: Record<string, unknown>) =>
      (await query(collector, { after: 0, ...input })).lines.map((line) => line.line);
    expect(await found({ level: "WARNING" })).toEqual([1000, 2000, 3000, 4000, 5000]);
    expect(await found({ level: "CRITICAL" })).toEqual([]);
    expect(await found({ since: 4_999_000 })).toEqual([4999, 5000]);
    expect(await found({ since: 4_990_000, stream: "stderr" })).toEqual([4991, 4993, 4995, 4997, 4999]);
    expect(await found({ rank: 1 })).toEqual([]);
    expect(await found({ grep: "line (12|49)34 " })).toEqual([1234, 4934]);
    expect(await found({ grep: "line \\d+00 ", level: "ERROR", since: 3_000_000 })).toEqual([
      3000, 4000, 5000,
    ]);
    const newest = await query(collector, { grep: "line .234 ", limit: 2 });
    expect(newest.lines.map((line) => line.line)).toEqual([3234, 4234]);
    expect(newest.previous).toBe(3234);
  });

  test("a pattern sees the text without its colours", async () => {
    const collector = open();
    await append(collector, 1, ["\u001b[1mlo\u001b[31mss\u001b[0m=3", "nothing"]);
    expect(await texts(collector, { grep: "^loss=" })).toHaveLength(1);
  });

  test("a pattern that would take JavaScript for ever is searched in linear time", async () => {
    const collector = open();
    await append(collector, 1, [`${"a".repeat(900_000)}b`, "aaa"]);
    const started = performance.now();
    expect(await texts(collector, { grep: "^(a+)+$" })).toEqual(["aaa"]);
    expect(performance.now() - started).toBeLessThan(2000);
  });

  test("a pattern that cannot be searched is refused with a reason and a hint", async () => {
    const collector = open();
    for (const grep of ["(", "(?=x)", "(a)\\1", "[z-a]", "*"])
      expect(query(collector, { grep })).rejects.toMatchObject({ code: "invalid", hint: expect.any(String) });
  });

  test("an empty log has an empty page; an unknown run has none", async () => {
    const collector = open();
    expect(await query(collector)).toEqual({
      run: RUN,
      total: 0,
      lines: [],
      next: null,
      previous: null,
      open: { stdout: null, stderr: null },
    });
    expect(queryLogs(collector, "9", QueryLogs.parse({}))).rejects.toMatchObject({ code: "not-found" });
  });
});
