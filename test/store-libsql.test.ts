/**
 * What the store relies on in libSQL, and what it guards against. The tests of defects fail when upstream repairs them: then a
 * rule can go. The others fail when a rule is taken away.
 */
import { afterEach, expect, test } from "bun:test";
import Database from "libsql";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { appendRecords } from "../src/metric/append.ts";
import { createBus } from "../src/store/bus.ts";
import { createJournal } from "../src/store/journal.ts";
import { applyMigrations } from "../src/store/migrations.ts";
import { closeConnection, openConnection } from "../src/store/open.ts";
import { migrations } from "../src/generated.ts";
import { startChild } from "./helpers/child.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";
import { noStrace, strace } from "./helpers/strace.ts";

const helper = (name: string) => join(import.meta.dirname, "helpers", name);
const bun = (...args: string[]) => execFileSync(process.execPath, args, { encoding: "utf8" });
const folders: string[] = [];
const makeFolder = () => {
  const folder = makeDataDir();
  folders.push(folder);
  return folder;
};
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
const entry = (time: number) => ({
  kind: "run.changed" as const,
  version: 1,
  run: "r",
  client: null,
  clientSeq: null,
  ordinal: null,
  nextStep: null,
  count: 1,
  time,
  encoding: 0 as const,
  payload: new Uint8Array([123, 125]),
});

test("the defect: after one SQLITE_BUSY, plain libSQL reports writes that it never commits", async () => {
  const path = join(makeFolder(), "bare.db");
  const child = spawn(process.execPath, [helper("busy-defect.ts"), path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [output] = (await once(child.stdout, "data")) as [Buffer];
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(JSON.parse(output.toString())).toEqual({
    refused: "SQLITE_BUSY",
    changes: [1, 1, 1],
    inTransaction: false,
  });
  const rows = new Database(path).prepare("SELECT count(*) FROM row").raw(true).get();
  expect(rows).toEqual([0]);
});

test("nobody can make ours busy: a second connection is told the database is locked, and there is no -shm", () => {
  const folder = makeFolder();
  const path = join(folder, "binnacle.db");
  const connection = openConnection(path);
  connection.exec("CREATE TABLE row (id INTEGER PRIMARY KEY)");
  for (const how of ["ours", "bare"])
    expect(bun(helper("try-open.ts"), path, how).trim()).toBe("database is locked");
  expect(() => new Database(path).prepare("SELECT * FROM row").all()).toThrow("database is locked");
  expect(() => new Database(path).exec("BEGIN IMMEDIATE")).toThrow("database is locked");
  expect(readdirSync(folder)).not.toContain("binnacle.db-shm");
  const insert = connection.prepare("INSERT INTO row (id) VALUES (?)");
  for (const id of [1, 2, 3]) insert.run(id);
  closeConnection(connection);
  expect(bun(helper("try-open.ts"), path).trim()).toBe("opened");
});

test("a database that is busy all the same is fatal: the journal accepts nothing more", async () => {
  const path = join(makeFolder(), "bare.db");
  // Without our pragmas, so that another connection can get in.
  const connection = new Database(path);
  connection.exec("PRAGMA journal_mode=WAL");
  applyMigrations(connection, migrations, () => {});
  const fatal: unknown[] = [];
  const journal = createJournal(connection, createBus(console.error), {
    onFatal: (error) => fatal.push(error),
    onRejected: () => {},
    isDeleted: () => false,
  });
  expect(await journal.append(entry(1), {})).toBe(1);
  const holder = new Database(path);
  holder.exec("BEGIN IMMEDIATE");
  const caught = await journal.append(entry(2), {}).catch((error: unknown) => error);
  expect(caught).toMatchObject({ code: "internal" });
  expect(fatal).toMatchObject([{ code: "SQLITE_BUSY" }]);
  holder.exec("COMMIT");
  // Now libSQL would say yes and mean no.
  expect(await journal.append(entry(3), {}).catch((error: unknown) => error)).toMatchObject({
    code: "internal",
  });
});

test.skipIf(noStrace).each([
  ["fsync", "EIO", 60],
  ["pwrite64", "EIO", 600],
])(
  "%s failing with %s ends the process, and the next start has what was acknowledged",
  async (call, errno, when) => {
    const dataDir = makeFolder();
    const trace = strace("-f", "-qq", "-o", "/dev/null", "-e", `trace=${call}`);
    // Once and for good: after a failed fsync the next would "succeed" without the data.
    const child = await startChild(dataDir, {}, [
      ...trace,
      "-e",
      `inject=${call}:error=${errno}:when=${when}+`,
    ]);
    expect((await child.request("/runs", { id: "r" })).status).toBe(201);
    let acked = 0;
    for (let seq = 1; seq <= 2000; seq++) {
      const items = [{ metrics: { value: seq } }];
      const response = await child
        .request("/runs/r/records", { client: "c", seq, items })
        .catch(() => undefined);
      if (response?.status !== 200) break;
      acked = seq;
    }
    expect(await child.exited).not.toBe(0);
    expect(child.stderr()).toContain("SQLITE_IOERR");
    expect(acked).toBeGreaterThan(0);
    const store = openStore({ dataDir });
    const { points } = (await store.collector.series.points("r", "value"))!;
    const values = points.map(([, y]) => y as number);
    // The one that failed may be there or not.
    expect(values.length).toBeOneOf([acked, acked + 1]);
    expect(values).toEqual(Array.from(values, (_, i) => i + 1));
    await store.close();
  },
  60_000,
);

test("a seq is never used again, not even when every entry is deleted", async () => {
  const store = openStore({ trim: { everyMs: 1e9 } });
  await store.addRun("r");
  for (let i = 0; i < 5; i++) await store.append("r", [{ metrics: { a: i } }]);
  const { last } = store.collector.journal.bounds();
  store.collector.connection.exec("DELETE FROM journal");
  await store.reopen();
  expect(store.collector.journal.bounds()).toEqual({ first: last + 1, last });
  expect(await store.collector.journal.append(entry(1), {})).toBe(last + 1);
  await store.close();
});

test("pragmas and the bundled SQLite are those the rules were made for", () => {
  const connection = openConnection(join(makeFolder(), "binnacle.db"));
  const names = [
    "journal_mode",
    "locking_mode",
    "synchronous",
    "foreign_keys",
    "busy_timeout",
    "wal_autocheckpoint",
    "journal_size_limit",
    "page_size",
    "auto_vacuum",
  ];
  const values = Object.fromEntries(
    names.map((name) => [name, (connection.prepare(`PRAGMA ${name}`).raw(true).get() as unknown[])[0]]),
  );
  expect(values).toEqual({
    journal_mode: "wal",
    locking_mode: "exclusive",
    synchronous: 2,
    foreign_keys: 1,
    busy_timeout: 0,
    wal_autocheckpoint: 1000,
    journal_size_limit: 67108864,
    page_size: 4096,
    auto_vacuum: 2,
  });
  expect(connection.prepare("SELECT sqlite_version()").raw(true).get()).toEqual(["3.45.1"]);
  closeConnection(connection);
});

test.skipIf(noStrace)("a commit is an fsync", () => {
  const folder = makeFolder();
  const script = `
    import { openConnection } from ${JSON.stringify(join(import.meta.dirname, "../src/store/open.ts"))};
    const connection = openConnection(${JSON.stringify(join(folder, "f.db"))});
    connection.exec("CREATE TABLE row (id INTEGER PRIMARY KEY)");
    const insert = connection.prepare("INSERT INTO row DEFAULT VALUES");
    for (let i = 0; i < 100; i++) insert.run();
    process.exit(0);`;
  const tracing = strace("-f", "-c", "-e", "trace=fsync,fdatasync");
  const [program, ...args] = [...tracing, process.execPath, "-e", script];
  const { stderr } = spawnSync(program!, args, { encoding: "utf8" });
  // % time, seconds, usecs/call, calls, errors where there are any, name
  const counts = stderr.split("\n").filter((line) => /f(data)?sync$/.test(line));
  const calls = counts.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[3]), 0);
  expect(calls).toBeGreaterThanOrEqual(100);
});

test("a database of a newer version is refused and stays as it is", async () => {
  const store = openStore();
  store.collector.connection.exec("INSERT INTO migration VALUES (99, '0099_future', 'x')");
  const { dataDir } = store;
  await store.collector.close();
  expect(() => openStore({ dataDir })).toThrow("newer binnacle");
  // And the refusal holds no lock.
  expect(bun(helper("try-open.ts"), join(dataDir, "binnacle.db")).trim()).toBe("opened");
  rmSync(dataDir, { recursive: true, force: true });
});

test("a database made with another text of a migration is refused", async () => {
  const store = openStore();
  store.collector.connection.exec("UPDATE migration SET sha256 = 'other'");
  const { dataDir } = store;
  await store.collector.close();
  expect(() => openStore({ dataDir })).toThrow("is not the one this database was made with");
  rmSync(dataDir, { recursive: true, force: true });
});

test("migrations apply in order, all or nothing, after a copy where there is something to lose", () => {
  const connection = openConnection(join(makeFolder(), "m.db"));
  const one = { name: "0000_a", sql: "CREATE TABLE a (id INTEGER)" };
  const two = { name: "0001_b", sql: "CREATE TABLE b (id INTEGER)" };
  const bad = { name: "0002_c", sql: "CREATE TABLE c (id INTEGER); CREATE TABLE a (id INTEGER)" };
  const upgrades: string[] = [];
  const upgrade = ({ name }: { name: string }) => upgrades.push(name);
  const tables = () =>
    (
      connection
        .prepare("SELECT name FROM sqlite_master WHERE length(name) = 1 ORDER BY name")
        .raw(true)
        .all() as string[][]
    ).flat();
  applyMigrations(connection, [one], upgrade);
  expect([tables(), upgrades]).toEqual([["a"], []]);
  expect(() => applyMigrations(connection, [one, two, bad], upgrade)).toThrow("already exists");
  expect(tables()).toEqual(["a"]);
  applyMigrations(connection, [one, two], upgrade);
  expect([tables(), upgrades]).toEqual([
    ["a", "b"],
    ["0002_c", "0001_b"],
  ]);
  applyMigrations(connection, [one, two], upgrade);
  expect(upgrades).toHaveLength(2);
  closeConnection(connection);
});

test("an upgrade leaves a copy of what was there, which opens and has all of it", async () => {
  const [killed, dataDir] = [makeFolder(), makeFolder()];
  const older = migrations.slice(0, 5);
  const connection = openConnection(join(killed, "binnacle.db"));
  applyMigrations(connection, older, () => {});
  const insert = connection.prepare(
    "INSERT INTO run (id, name, project, status, config, tags, created) VALUES (?, 'old', 'p', 'FINISHED', '{}', '[]', 1)",
  );
  for (let id = 1; id <= 300; id++) insert.run(String(id));
  // As a kill leaves it: much is in the WAL alone.
  for (const name of ["binnacle.db", "binnacle.db-wal"]) cpSync(join(killed, name), join(dataDir, name));
  closeConnection(connection);

  const store = openStore({ dataDir });
  expect(store.collector.connection.prepare("SELECT count(*) FROM run").raw(true).get()).toEqual([300]);
  await store.collector.close();
  const copy = `binnacle-before-${migrations.at(-1)!.name}.db`;
  expect(readdirSync(dataDir).filter((name) => name.startsWith("binnacle-before-"))).toEqual([copy]);
  expect(statSync(join(dataDir, copy)).mode & 0o777).toBe(0o600);
  const before = new Database(join(dataDir, copy));
  const one = (sql: string) => (before.prepare(sql).raw(true).get() as unknown[])[0];
  expect(one("PRAGMA integrity_check")).toBe("ok");
  expect(one("SELECT count(*) FROM run WHERE name = 'old'")).toBe(300);
  expect(one("SELECT count(*) FROM migration")).toBe(older.length);
  before.close();
  // Nothing is left to upgrade: no second copy.
  rmSync(join(dataDir, copy));
  const again = openStore({ dataDir });
  await again.collector.close();
  expect(existsSync(join(dataDir, copy))).toBe(false);
});

test("no database is in memory only, not in a test either: libSQL has lost all tables of such (libsql-client-ts #229)", async () => {
  const root = join(import.meta.dirname, "..");
  const inMemory = /["'`]:mem[o]ry:|new Database\(\s*\)|mode=mem[o]ry/;
  const files = [...new Bun.Glob("{src,test,examples}/**/*.{ts,tsx,mjs,py}").scanSync(root)];
  expect(files.length).toBeGreaterThan(500);
  const texts = await Promise.all(files.map((file) => Bun.file(join(root, file)).text()));
  expect(files.filter((_, index) => inMemory.test(texts[index]!))).toEqual([]);
});

test("a second collector on the same folder is refused, and the first goes on", async () => {
  const store = openStore();
  await store.addRun("r");
  expect(() => openStore({ dataDir: store.dataDir })).toThrow("database is locked");
  expect(await appendRecords(store.collector, "r", { client: "c", seq: 1, items: [] })).toEqual({ acked: 1 });
  expect(existsSync(join(store.dataDir, "binnacle.db-shm"))).toBe(false);
  await store.close();
});
