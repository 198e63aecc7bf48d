/** A database that fails at run time ends the collector, whoever was writing; one that can't be read in places does not. */
import { afterEach, describe, expect, test } from "bun:test";
import Database from "libsql";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { toResponse } from "../src/api/error.ts";
import { createObjects } from "../src/blob/objects.ts";
import { PACK_TYPE } from "../src/blob/schema.ts";
import { examine } from "../src/doctor/examine.ts";
import { appendLogs } from "../src/log/append.ts";
import { createDestinations } from "../src/relay/destinations.ts";
import { commitWrites } from "../src/source/state.ts";
import type { Connection } from "../src/store/open.ts";
import { cleanEnv } from "./helpers/cli.ts";
import { makeDataDir, openStore, type TestStore } from "./helpers/store.ts";
import { noStrace, strace } from "./helpers/strace.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const fileOf = (text: string) => {
  const bytes = new TextEncoder().encode(text);
  return { sha256: sha256(bytes), bytes };
};

let store: TestStore;
afterEach(async () => {
  await store?.close().catch(() => {});
});

function codeOf(attempt: () => unknown): string | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

const append = () => store.append("r", [{ metrics: { a: 1 } }]).then(() => undefined, String);

describe("a database that is busy", () => {
  /** Gives up the lock that keeps others out, and lets one in. */
  function holdIt(): Connection {
    const { connection } = store.collector;
    connection.exec("PRAGMA journal_mode=DELETE");
    connection.exec("PRAGMA locking_mode=NORMAL");
    connection.prepare("SELECT count(*) FROM run").get();
    const holder = new Database(join(store.dataDir, "binnacle.db"));
    holder.exec("BEGIN IMMEDIATE");
    return holder;
  }

  const place = { scope: "", bucket: "b", key: "k" };
  const rename = { sql: "UPDATE run SET name = 'x' WHERE id = ?", params: ["r"] };
  test.each([
    ["a file", () => store.collector.blobs.putSmall([fileOf("bytes")])],
    [
      "an object",
      () => createObjects(store.collector).put(place, { sha256: sha256(new Uint8Array()), size: 0 }),
    ],
    ["what a source is at", () => commitWrites(store.collector, [rename])],
    [
      "a destination",
      () => createDestinations(store.collector.connection, store.dataDir).remove("lab", undefined),
    ],
    ["one row", () => store.collector.connection.prepare("DELETE FROM relay_drop").run()],
  ])("ends the collector where %s is written, and nothing is accepted after it", async (_, write) => {
    store = openStore();
    await store.addRun("r");
    const holder = holdIt();
    expect(codeOf(write)).toBe("SQLITE_BUSY");
    expect(store.fatal).toMatchObject([{ code: "SQLITE_BUSY" }]);
    holder.exec("COMMIT");
    holder.close();
    // Now libSQL would say yes and mean no.
    expect(codeOf(write)).toBe("SQLITE_BUSY");
    expect(await append()).toContain("database is locked");
    expect(store.fatal).toHaveLength(1);
  });
});

describe("a database with damaged pages", () => {
  const PAGE = 4096;

  /** A run, and a page of `table` that is no page, before the collector opens it. */
  async function damage(table: string): Promise<void> {
    store = openStore();
    await store.addRun("r");
    const { connection, dataDir } = store.collector;
    const select = connection.prepare("SELECT rootpage FROM sqlite_master WHERE name = ?").raw(true);
    const [page] = select.get(table) as [number];
    await store.collector.close();
    overwrite(dataDir, page);
    store = openStore({ dataDir });
  }

  function overwrite(dataDir: string, page: number): void {
    const fd = openSync(join(dataDir, "binnacle.db"), "r+");
    writeSync(fd, Buffer.alloc(PAGE, 0x55), 0, PAGE, (page - 1) * PAGE);
    closeSync(fd);
  }

  test("ends the collector where one of them is written", async () => {
    await damage("artifact");
    const insert = `INSERT INTO artifact (kind, name, created) VALUES ('model', 'm', 1)`;
    expect(codeOf(() => store.collector.connection.exec(insert))).toBe("SQLITE_CORRUPT");
    expect(store.fatal).toMatchObject([{ code: "SQLITE_CORRUPT" }]);
    expect(await append()).toContain("malformed");
  });

  test("goes on where one of them is read: the rest is there, and what comes is kept", async () => {
    await damage("artifact");
    const { connection } = store.collector;
    expect(codeOf(() => connection.prepare("SELECT * FROM artifact").all())).toBe("SQLITE_CORRUPT");
    expect(await store.collector.db.all("SELECT * FROM artifact").catch((error) => error.cause.code)).toBe(
      "SQLITE_CORRUPT",
    );
    expect(await append()).toBeUndefined();
    expect(store.fatal).toEqual([]);
    const { dataDir } = store;
    await store.collector.close();
    store = openStore({ dataDir });
    expect((await store.collector.series.points("r", "a"))!.points).toHaveLength(1);
  });

  test("goes on where one of them is of a deleted run, at each start: the other runs are there", async () => {
    store = openStore();
    const { connection, dataDir } = store.collector;
    for (const run of ["gone", "kept", "gone-too"]) {
      await store.addRun(run);
      // Less than a chunk each: one that is a chunk by itself would stand in the journal, too.
      for (let seq = 1; seq <= 100; seq++) {
        const items = [{ text: randomBytes(10 * 1024).toString("hex") }];
        await appendLogs(store.collector, run, { client: "c", seq, items });
      }
    }
    store.collector.logs.seal();
    connection.exec("UPDATE run SET deleted = 1 WHERE id LIKE 'gone%'");
    const { data } = connection.prepare("SELECT data FROM log_chunk WHERE run = 'gone' LIMIT 1").get() as {
      data: Buffer;
    };
    const start = Buffer.from(data.subarray(0, 200));
    await store.collector.close();
    // The first place is what a page had before it was split.
    const at = readFileSync(join(dataDir, "binnacle.db")).lastIndexOf(start);
    overwrite(dataDir, Math.floor(at / PAGE) + 1);
    const chunksOf = (run: string) =>
      store.collector.connection.prepare("SELECT rowid FROM log_chunk WHERE run = ?").all(run).length;
    for (let starts = 1; starts <= 2; starts++) {
      const told: string[] = [];
      store = openStore({ dataDir, onDiagnostic: (text) => void told.push(text) });
      await store.collector.pruner.resume();
      expect(store.fatal).toEqual([]);
      expect(told).toEqual([expect.stringContaining("binnacle doctor")]);
      expect(chunksOf("gone-too")).toBe(0);
      expect(store.collector.logs.before("kept", 2, {})?.[0]).toMatchObject({ line: 1 });
      expect(await store.append("kept", [{ metrics: { a: starts } }]).then(() => undefined, String)).toBe(
        undefined,
      );
      await store.collector.close();
    }
  });

  test("is looked through by doctor, which says so and ends nothing", async () => {
    await damage("artifact");
    const command = [process.execPath, join(import.meta.dirname, "../src/cli/main.ts")];
    const { signal } = new AbortController();
    const { checks } = await examine(store.collector, { quick: false, command, signal, onProgress() {} });
    expect(checks.find(({ name }) => name === "database")).toMatchObject({ status: "problem" });
    expect(store.fatal).toEqual([]);
    expect(await append()).toBeUndefined();
  });

  test("is answered as damaged, with what to do, and told to the diagnostics", async () => {
    const told: unknown[] = [];
    for (const error of [corrupt(), new Error("Failed query: SELECT secret", { cause: corrupt() })]) {
      const response = toResponse(error, (unforeseen) => told.push(unforeseen));
      const problem = (await response.json()) as { type: string; detail: string; hint: string };
      expect([response.status, problem.type]).toEqual([500, "urn:binnacle:damaged"]);
      expect(problem.hint).toContain("binnacle doctor");
      expect(problem.detail).not.toContain("SELECT");
    }
    expect(told).toHaveLength(2);
  });

  const corrupt = () =>
    Object.assign(new Error("database disk image is malformed"), { code: "SQLITE_CORRUPT" });
});

test.skipIf(noStrace)(
  "one fsync that fails beneath a file ends the process: the next one would succeed without the data",
  async () => {
    const dataDir = makeDataDir();
    const main = join(import.meta.dirname, "../src/cli/main.ts");
    const flags = ["--data", dataDir, "--port", "0", "--no-hardware", "--fedml", "off"];
    const inject = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"];
    const tracing = strace(...inject, "-e", "inject=fsync:error=EIO:when=60");
    const [program, ...args] = [...tracing, process.execPath, main, "start", ...flags];
    const child = spawn(program!, args, { stdio: ["ignore", "pipe", "pipe"], env: cleanEnv() });
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
    let stderr = "";
    child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
    const url = await new Promise<string>((resolve, reject) => {
      let stdout = "";
      child.stdout.on("data", (bytes: Buffer) => {
        stdout += bytes.toString();
        const link = /listens on (http:\S+),/.exec(stdout);
        if (link) resolve(link[1]!);
      });
      void exited.then((code) => reject(new Error(`it ended with ${code}: ${stderr}`)));
    });
    const admin = (await Bun.file(join(dataDir, "token")).text()).trim();
    let stored = 0;
    try {
      for (; stored < 300; stored++) {
        const { sha256: digest, bytes } = fileOf(`file ${stored}`);
        const length = Buffer.alloc(4);
        length.writeUInt32LE(bytes.length);
        const response = await fetch(`${url}/api/v1/blobs/pack`, {
          method: "POST",
          headers: { authorization: `Bearer ${admin}`, "content-type": PACK_TYPE },
          body: Buffer.concat([Buffer.from(digest, "hex"), length, bytes]),
        }).catch(() => undefined);
        if (response?.status !== 200) break;
      }
      expect(stored).toBeWithin(1, 300);
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      expect(await exited).toBe(1);
      clearTimeout(timer);
      expect(stderr).toContain("The database can no longer be trusted");
    } finally {
      child.kill("SIGKILL");
      await exited;
    }
    store = openStore({ dataDir });
    const digests = Array.from({ length: stored }, (_, index) => fileOf(`file ${index}`).sha256);
    expect(store.collector.blobs.missing(digests)).toEqual([]);
    await store.close();
    rmSync(dataDir, { recursive: true, force: true });
  },
  60_000,
);
