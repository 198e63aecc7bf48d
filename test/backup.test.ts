import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unzip, zipOf } from "./helpers/archive.ts";
import { until } from "./helpers/relay.ts";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(90_000);

const RUN = "4831";
const weights = randomBytes(300_000);
let server: TestServer;
let folder: string;
let backup: string;

const cli = (dataDir: string, ...args: string[]) =>
  runCli(args, { env: { BINNACLE_DATA: dataDir }, cwd: folder });

const records = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    time: 1.7e12 + from + i,
    metrics: { loss: 1 / (from + i + 1) },
  }));

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-backup-"));
  backup = join(folder, "backup.zip");
  server = await startServer();
  await server.api("/api/v1/runs", { id: RUN, name: "digits", config: { lr: 0.1 } });
  await server.api(`/api/v1/runs/${RUN}/records`, { client: "w", seq: 1, items: records(0, 5000) });
  await server.api(`/api/v1/runs/${RUN}/logs`, { client: "w", seq: 2, items: [{ text: "hello" }] });
  writeFileSync(join(folder, "weights"), weights);
  const put = await cli(server.dataDir, "model", "put", "net", join(folder, "weights"), "-rid", RUN);
  expect(put).toMatchObject({ code: 0 });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const pointsOf = (from: TestServer) => from.api(`/api/v1/runs/${RUN}/points?key=loss&x=step`);

test("a backup is taken while records come, and what it restores is the collector as of one moment", async () => {
  let seq = 3;
  let stopped = false;
  const writing = (async () => {
    for (; !stopped; seq++)
      await server.api(`/api/v1/runs/${RUN}/records`, {
        client: "w",
        seq,
        items: records(5000 + (seq - 3) * 100, 100),
      });
  })();
  const made = await cli(server.dataDir, "backup", backup, "--json");
  stopped = true;
  await writing;
  expect(made).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(made.stdout)).toEqual({ file: backup, bytes: statSync(backup).size });
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  // Nothing of the making stays.
  expect(readdirSync(join(server.dataDir, "backups"))).toEqual([]);

  const dataDir = join(folder, "restored");
  const restored = await cli(dataDir, "restore", backup, "--json");
  expect(restored).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(restored.stdout)).toMatchObject({ data: dataDir, files: 1, missing: [], replaced: null });
  const there = await startServer({ dataDir });
  try {
    const [before, after] = [await pointsOf(server), await pointsOf(there)];
    const count = after.points.length;
    expect(count).toBeGreaterThanOrEqual(5000);
    expect(count).toBeLessThanOrEqual(before.points.length);
    expect(after.points).toEqual(before.points.slice(0, count));
    // A batch is whole or not there.
    expect(count % 100).toBe(0);
    expect((await there.api(`/api/v1/runs/${RUN}/logs`)).lines).toHaveLength(1);
    const out = join(folder, "got");
    expect(await cli(dataDir, "model", "get", "net", "-o", out)).toMatchObject({ code: 0 });
    expect(readFileSync(join(out, "weights")).equals(weights)).toBe(true);
  } finally {
    await there.close();
  }
});

test("tokens are not in it, and it is all of plain files", async () => {
  const token = readFileSync(join(server.dataDir, "token"), "utf8").trim();
  expect(readFileSync(backup).includes(token)).toBe(false);
  const files = await unzip(new Uint8Array(readFileSync(backup)));
  const sha256 = createHash("sha256").update(weights).digest("hex");
  expect([...files.keys()]).toEqual(["binnacle.db", `blobs/${sha256}`, "backup.json"]);
});

test("a restore takes the place of nothing unless told, and then moves aside what was there", async () => {
  const dataDir = join(folder, "taken");
  const first = await startServer({ dataDir });
  await first.api("/api/v1/runs", { id: "77", name: "mine" });
  expect(await cli(dataDir, "restore", backup)).toMatchObject({ code: 5 });
  expect((await cli(dataDir, "restore", backup, "--force")).stderr).toContain("binnacle stop");
  await first.kill("SIGTERM");
  expect((await cli(dataDir, "restore", backup)).stderr).toContain("--force");
  const token = readFileSync(join(dataDir, "token"), "utf8");
  const forced = await cli(dataDir, "restore", backup, "--force", "--json");
  expect(forced).toMatchObject({ code: 0 });
  const { replaced } = JSON.parse(forced.stdout);
  expect(existsSync(join(replaced, "binnacle.db"))).toBe(true);
  expect(readFileSync(join(dataDir, "token"), "utf8")).toBe(token);
  const again = await startServer({ dataDir });
  expect((await again.api("/api/v1/runs")).runs.map(({ id }: { id: string }) => id)).toEqual([RUN]);
  await again.close();
});

test("what is no whole backup changes nothing, and says what it is", async () => {
  const files = await unzip(new Uint8Array(readFileSync(backup)));
  const variants: Record<string, (copy: typeof files) => void> = {
    "no description": (copy) => void copy.delete("backup.json"),
    "no database": (copy) => void copy.delete("binnacle.db"),
    "a stranger in it": (copy) => void copy.set("../token", new Uint8Array(3)),
    "a file more": (copy) => void copy.set(`blobs/${"0".repeat(64)}`, new Uint8Array(3)),
    "a database that was changed": (copy) => {
      const database = Uint8Array.from(copy.get("binnacle.db")!);
      database[5000]! ^= 1;
      copy.set("binnacle.db", database);
    },
    "a file that was changed": (copy) => {
      const name = [...copy.keys()].find((key) => key.startsWith("blobs/"))!;
      copy.set(name, new Uint8Array(300_000));
    },
  };
  for (const [name, change] of Object.entries(variants)) {
    const copy = new Map(files);
    change(copy);
    const path = join(folder, "bad.zip");
    writeFileSync(
      path,
      await zipOf(copy, Object.fromEntries([...copy.keys()].map((key) => [key, { level: 0 }]))),
    );
    const dataDir = join(folder, "bad");
    const { code, stderr } = await cli(dataDir, "restore", path);
    expect({ name, code, text: stderr.slice(0, 40) }).toMatchObject({ name, code: 2 });
    expect(stderr).toContain("Nothing was changed");
    expect(existsSync(dataDir) ? readdirSync(dataDir) : []).toEqual([]);
  }
  const cut = join(folder, "cut.zip");
  writeFileSync(cut, readFileSync(backup));
  truncateSync(cut, statSync(cut).size - 100);
  expect((await cli(join(folder, "bad"), "restore", cut)).stderr).toContain("no whole backup");
  expect(await cli(join(folder, "bad"), "restore", join(folder, "none.zip"))).toMatchObject({ code: 3 });
  expect(await cli(join(folder, "bad"), "restore")).toMatchObject({ code: 2 });
  expect(await cli(server.dataDir, "backup")).toMatchObject({ code: 2 });
});

test("a backup is for the admin alone", async () => {
  for (const scope of ["read", "write"]) {
    const { stdout } = await cli(server.dataDir, "token", "--scope", scope);
    const answer = await fetch(`${server.url}/api/v1/backup`, {
      method: "POST",
      headers: { authorization: `Bearer ${stdout.trim()}`, "content-type": "application/json" },
      body: "{}",
    });
    expect(answer.status).toBe(403);
  }
});

test("destinations that were added since a backup stay, unless it is another collector's", async () => {
  const dataDir = join(folder, "since");
  const platform = await startServer({ args: ["--role", "platform", "--no-hardware"] });
  let source = await startServer({ dataDir, args: ["--no-hardware"] });
  const log = (run: string, client: string, seq: number, from: number) =>
    source.api(`/api/v1/runs/${run}/records`, { client, seq, items: records(from, 100) });
  const arrived = (run: string, count: number) =>
    until(
      () => platform.api(`/api/v1/runs/${run}/points?key=loss&x=step`).catch(() => ({ points: [] })),
      ({ points }) => points.length === count,
    );
  try {
    await source.api("/api/v1/runs", { id: "early" });
    await log("early", "a", 1, 0);
    const file = join(folder, "since.zip");
    expect(await source.cli("backup", file)).toMatchObject({ code: 0 });
    const tokenFile = join(folder, "since-token");
    writeFileSync(tokenFile, (await platform.cli("source", "add", "box")).stdout.trim());
    expect(await source.cli("relay", "add", "top", platform.url, "--token-file", tokenFile)).toMatchObject({
      code: 0,
    });
    await log("early", "a", 2, 100);
    await arrived("early", 200);
    await source.kill("SIGTERM");
    const restored = await source.cli("restore", file, "--force");
    expect(restored.stderr).toContain(`The destination top (${platform.url}) was added since, and stays.\n`);
    source = await startServer({ dataDir, args: ["--no-hardware"] });
    const { relays } = await source.json("relay", "status", "--json");
    expect(relays).toMatchObject([{ name: "top", url: platform.url, from: "history", kind: "platform" }]);
    await source.api("/api/v1/runs", { id: "late" });
    await log("early", "a", 2, 100);
    await log("early", "a", 3, 200);
    await arrived("early", 300);
    await until(
      () => platform.api("/api/v1/runs"),
      ({ runs }) => runs.map(({ id }: { id: string }) => id).join() === "late,early",
    );
    await source.kill("SIGTERM");
    const other = await source.cli("restore", backup, "--force", "--json");
    expect(JSON.parse(other.stdout).destinations).toEqual({
      kept: [],
      left: [{ name: "top", url: platform.url }],
    });
    source = await startServer({ dataDir, args: ["--no-hardware"] });
    expect((await source.json("relay", "status", "--json")).relays).toEqual([]);
    // Its token is not for another address.
    await source.cli("relay", "add", "top", "http://127.0.0.1:1");
    expect(readFileSync(join(dataDir, "relays.json"), "utf8")).not.toContain("bnc_source");
  } finally {
    await source.close();
    await platform.close();
  }
});

test("a platform loses nothing of what came after a backup that is restored, and has nothing twice", async () => {
  const dataDir = join(folder, "source");
  const platform = await startServer({ args: ["--role", "platform", "--no-hardware"] });
  let source = await startServer({ dataDir, args: ["--no-hardware"] });
  try {
    const token = (await platform.cli("source", "add", "box")).stdout.trim();
    writeFileSync(join(folder, "relay-token"), token);
    const add = ["relay", "add", "top", platform.url, "--token-file", join(folder, "relay-token")];
    expect(await source.cli(...add)).toMatchObject({ code: 0 });
    await source.api("/api/v1/runs", { id: "early" });
    const log = (run: string, client: string, seq: number, from: number) =>
      source.api(`/api/v1/runs/${run}/records`, { client, seq, items: records(from, 100) });
    const arrived = (run: string, count: number) =>
      until(
        () => platform.api(`/api/v1/runs/${run}/points?key=loss&x=step`).catch(() => ({ points: [] })),
        ({ points }) => points.length === count,
      );
    await log("early", "a", 1, 0);
    await arrived("early", 100);
    const file = join(folder, "early.zip");
    expect(await source.cli("backup", file)).toMatchObject({ code: 0 });
    // What the backup does not have: more of that run, and a run of its own.
    await log("early", "a", 2, 100);
    await source.api("/api/v1/runs", { id: "lost" });
    await log("lost", "b", 1, 0);
    await arrived("early", 200);
    await arrived("lost", 100);
    await source.kill("SIGTERM");
    expect(await source.cli("restore", file, "--force")).toMatchObject({ code: 0 });
    source = await startServer({ dataDir, args: ["--no-hardware"] });
    expect((await source.api("/api/v1/runs")).runs.map(({ id }: { id: string }) => id)).toEqual(["early"]);
    // The writer, who had no answer to its last batch, sends it again; others are new, under numbers that were used before.
    await log("early", "a", 2, 100);
    await log("early", "a", 3, 200);
    await source.api("/api/v1/runs", { id: "late" });
    await log("late", "c", 1, 0);
    const { points } = await arrived("early", 300);
    await arrived("late", 100);
    await arrived("lost", 100);
    expect(points.map(([, value]: [number, number]) => value)).toEqual(
      records(0, 300).map(({ metrics }) => metrics.loss),
    );
  } finally {
    await source.close();
    await platform.close();
  }
});
