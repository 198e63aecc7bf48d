import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCli, startServer, type TestServer } from "./helpers/cli.ts";

// A process a command, on a machine that may be busy.
setDefaultTimeout(60_000);

let from: TestServer;
let to: TestServer;
let folder: string;

beforeEach(async () => {
  from = await startServer();
  to = await startServer();
  folder = mkdtempSync(join(tmpdir(), "binnacle-sync-archive-"));
});
afterEach(async () => {
  await from.close();
  await to.close();
  rmSync(folder, { recursive: true, force: true });
});

const cli = (server: TestServer, ...args: string[]) =>
  runCli(args, { env: { BINNACLE_DATA: server.dataDir }, cwd: folder });

async function record(at: TestServer, id: string, points: number): Promise<void> {
  await at.api("/api/v1/runs", { id, name: `run ${id}` });
  const items = Array.from({ length: points }, (_, i) => ({ metrics: { loss: i, note: `n${i}` } }));
  await at.api(`/api/v1/runs/${id}/records`, { client: "w", seq: 1, items });
  const lines = [{ stream: "stdout", text: `${points} points` }];
  await at.api(`/api/v1/runs/${id}/logs`, { client: "w", seq: 2, items: lines });
}

async function save(id: string): Promise<void> {
  const { code } = await cli(from, "run", "export", "-rid", id, "-o", `${id}.zip`, "--force");
  expect(code).toBe(0);
}

async function exported(id: string, points: number): Promise<void> {
  await record(from, id, points);
  await from.api(`/api/v1/runs/${id}/finish`, {});
  await save(id);
}

test("a folder of exports comes in beside what clients left there, and the files stay", async () => {
  await exported("4001", 5);
  await exported("4002", 7);
  const line = (path: string, body: unknown) => `${JSON.stringify({ v: 1, path, body })}\n`;
  writeFileSync(join(folder, "9001-w.ndjson"), line("/api/v1/runs", { id: "9001", name: "spooled" }));
  const { code, stdout, stderr } = await cli(to, "sync", ".", "--json");
  expect(stderr).toBe("");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual([
    { file: "9001-w.ndjson", outcome: "sent", sent: 1, refused: 0, error: null },
    ...["4001", "4002"].map((id) => ({
      file: `${id}.zip`,
      outcome: "sent",
      sent: 1,
      refused: 0,
      error: null,
      run: { id, exported_as: id, name: `run ${id}`, notes: [] },
    })),
  ]);
  expect(readdirSync(folder).sort()).toEqual(["4001.zip", "4002.zip"]);
  const list = JSON.parse((await cli(to, "run", "list", "--json")).stdout);
  expect((list.runs ?? list).map(({ id }: { id: string }) => id).sort()).toEqual(["4001", "4002", "9001"]);
});

test("what is refused is said and counted, and keeps nothing else from coming in", async () => {
  await exported("4001", 5);
  await exported("4003", 5);
  await record(to, "4001", 6);
  writeFileSync(join(folder, "4002.zip"), "no zip at all");
  const first = await cli(to, "sync", ".");
  expect(first.code).toBe(1);
  const lines = first.stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(4);
  expect(lines[0]).toStartWith(
    "4001.zip: refused. Run 4001 is here already, and is another one than the archive's. Import it under a new id with --new-id",
  );
  expect(lines[1]).toStartWith("4002.zip: refused.");
  expect(lines[2]).toBe("4003.zip: run 4003 (run 4003) is here now.");
  expect(lines[3]).toBe("1 of 3 exports brought in, 2 refused.");

  rmSync(join(folder, "4002.zip"));
  const again = await cli(to, "sync", ".", "--new-id", "--json");
  expect(again.code).toBe(0);
  const results = JSON.parse(again.stdout);
  expect(results.map(({ run }: { run: { exported_as: string } }) => run.exported_as)).toEqual([
    "4001",
    "4003",
  ]);
  for (const { run } of results) expect(run.id).toMatch(/^\d{15}$/);
});

test("one export alone may be named; what is gone, or meets no collector, is said so and stays", async () => {
  await exported("4001", 5);
  const one = await cli(to, "sync", "4001.zip");
  expect(one).toMatchObject({ code: 0, stdout: "4001.zip: run 4001 (run 4001) is here now.\n" });
  expect((await cli(to, "sync", "none.zip")).code).toBe(3);
  const bytes = readFileSync(join(folder, "4001.zip")).length;
  const away = await runCli(["sync", "4001.zip"], {
    env: { BINNACLE_URL: "http://127.0.0.1:9" },
    cwd: folder,
  });
  expect(away.code).toBe(4);
  expect(existsSync(join(folder, "4001.zip"))).toBe(true);
  expect(readFileSync(join(folder, "4001.zip")).length).toBe(bytes);
});

test("what was brought in before is here already: a folder may be synced as often as one likes", async () => {
  await exported("4001", 5);
  expect((await cli(to, "sync", ".")).code).toBe(0);
  // What came here since, and a name that was changed here, are no other run.
  await to.api("/api/v1/runs/4001", { name: "mine" }, "PATCH");
  await to.api("/api/v1/runs/4001/records", { client: "x", seq: 1, items: [{ metrics: { loss: 9 } }] });
  await exported("4002", 7);
  const again = await cli(to, "sync", ".");
  expect(again).toMatchObject({ code: 0, stderr: "" });
  expect(again.stdout.trimEnd().split("\n")).toEqual([
    "4001.zip: run 4001 (mine) is here already, with all that is in it.",
    "4002.zip: run 4002 (run 4002) is here now.",
    "1 of 2 exports brought in, 1 here already.",
  ]);
  const { code, stdout } = await cli(to, "sync", "4001.zip", "--json");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([
    { outcome: "here", sent: 0, refused: 0, error: null, run: { id: "4001", exported_as: "4001" } },
  ]);
  // Where it comes from it is here, too.
  expect((await cli(from, "sync", ".")).code).toBe(0);
});

test("a later export of a run says what to do, and adds nothing to what is here", async () => {
  await record(from, "4001", 5);
  await save("4001");
  expect((await cli(to, "sync", ".")).code).toBe(0);
  await from.api("/api/v1/runs/4001/records", { client: "w", seq: 3, items: [{ metrics: { loss: 9 } }] });
  await save("4001");
  const later = await cli(to, "sync", ".");
  expect(later.code).toBe(1);
  expect(later.stdout).toStartWith(
    "4001.zip: refused. Run 4001 is here already as it was earlier: the archive has more of it. Import it under a new id",
  );
  const { points } = await to.api("/api/v1/runs/4001/points?key=loss");
  expect(points).toHaveLength(5);
  expect((await cli(to, "sync", ".", "--new-id")).code).toBe(0);
});
