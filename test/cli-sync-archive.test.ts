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

async function exported(id: string, points: number): Promise<void> {
  await from.api("/api/v1/runs", { id, name: `run ${id}` });
  const items = Array.from({ length: points }, (_, i) => ({ metrics: { loss: i } }));
  await from.api(`/api/v1/runs/${id}/records`, { client: "w", seq: 1, items });
  await from.api(`/api/v1/runs/${id}/finish`, {});
  const { code } = await cli(from, "run", "export", "-rid", id, "-o", `${id}.zip`);
  expect(code).toBe(0);
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
  expect((await cli(to, "run", "import", "4001.zip")).code).toBe(0);
  writeFileSync(join(folder, "4002.zip"), "no zip at all");
  const first = await cli(to, "sync", ".");
  expect(first.code).toBe(1);
  const lines = first.stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(4);
  expect(lines[0]).toStartWith(
    "4001.zip: refused. Run 4001 is here already. Import it under a new id with --new-id",
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
