import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { registerDevice } from "../src/device/register.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { facts } from "./helpers/device.ts";

const IDS = { gpu7: "7".repeat(32), gpu8: "8".repeat(32) };
const HOSTILE = `<img src=x onerror=alert(1)>`;

let server: TestCollector;

beforeAll(async () => {
  server = createTestCollector();
  const { connection } = server.collector;
  for (const [label, id] of Object.entries(IDS))
    connection
      .prepare(
        "INSERT INTO source (id, name, label, epoch, acked, nonce, first_seen, last_seen) VALUES (?, ?, ?, 1, 0, ?, 0, 0)",
      )
      .run(id, label, label, "0".repeat(32));
  const run = async (id: string, source: string | null, device?: string) => {
    const writer = { client: "w", ...(device !== undefined && { device }) };
    await server.json("/api/v1/runs", { body: { id, name: id, project: id.slice(0, 1), writer } });
    connection.prepare("UPDATE run SET source = ? WHERE id = ?").run(source, id);
  };
  await run("a-own", null, "localhost");
  await run("b-of-7", IDS.gpu7, "localhost");
  await run("b-of-8", IDS.gpu8, "gpu8-host");
  connection.prepare("UPDATE run SET deleted_at_source = 86400000 WHERE id = 'b-of-8'").run();
  const device = async (id: string, name: string, source: string | null) => {
    await registerDevice(server.collector, id, facts({ name }));
    connection.prepare("UPDATE device SET source = ? WHERE id = ?").run(source, id);
  };
  await device("a".repeat(16), "localhost", null);
  await device("b".repeat(16), "localhost", IDS.gpu7);
  await device("c".repeat(16), HOSTILE, IDS.gpu8);
  connection
    .prepare('INSERT INTO run_device (run, device, "from") VALUES (?, ?, 0)')
    .run("b-of-8", "c".repeat(16));
  for (const [source, type] of [
    ["", "own"],
    [IDS.gpu7, "seven"],
    [`${IDS.gpu7}/${"9".repeat(32)}`, "of another"],
  ] as const) {
    const { lastInsertRowid: id } = connection
      .prepare(
        "INSERT INTO artifact (kind, name, type, created, updated, source) VALUES ('model', 'net', ?, 0, 0, ?)",
      )
      .run(type, source);
    connection
      .prepare(
        "INSERT INTO artifact_version (artifact, version, digest, size, files, created) VALUES (?, 1, 'd', 0, 0, 0)",
      )
      .run(id);
  }
});
afterAll(() => server.close());

const ids = async (path: string, of: string) =>
  (await server.json(`/api/v1/${path}`))[of].map(({ id }: { id: string }) => id).sort();

describe("runs", () => {
  const cases: [string, string[]][] = [
    ["", ["a-own", "b-of-7", "b-of-8"]],
    ["?source=.", ["a-own"]],
    ["?source=gpu7", ["b-of-7"]],
    ["?source=nobody", []],
    ["?source=gpu7&project=a", []],
    ["?device=localhost", ["a-own", "b-of-7"]],
    // Of two machines with one name only the id tells them apart.
    [`?device=${"a".repeat(16)}`, ["a-own"]],
    [`?device=${"b".repeat(16)}`, ["b-of-7"]],
    [`?device=${encodeURIComponent(HOSTILE)}`, ["b-of-8"]],
    [`?device=${"c".repeat(16)}&source=gpu8`, ["b-of-8"]],
    ["?device=gpu8-host", ["b-of-8"]],
    ["?device=%25", []],
  ];
  for (const [query, want] of cases)
    test(`${query || "all"} → ${want.join(", ") || "none"}`, async () => {
      expect(await ids(`runs${query}`, "runs")).toEqual(want);
    });

  test("say where they come from, and when they were deleted there", async () => {
    const { runs } = await server.json("/api/v1/runs?sort=name");
    const told = runs.map((run: Record<string, unknown>) => [run["source"], run["deleted_at_source"]]);
    expect(told).toEqual([
      [null, null],
      ["gpu7", null],
      ["gpu8", "1970-01-02T00:00:00.000Z"],
    ]);
    expect(await server.json("/api/v1/runs/b-of-7")).toMatchObject({ source: "gpu7" });
  });
});

test("devices of a source", async () => {
  expect(await ids("devices?source=gpu7", "devices")).toEqual(["b".repeat(16)]);
  expect(await ids("devices?source=.", "devices")).toEqual(["a".repeat(16)]);
  const { devices } = await server.json("/api/v1/devices");
  expect(devices.map(({ source }: { source: string }) => source).sort()).toEqual(["gpu7", "gpu8", null]);
});

describe("models", () => {
  const types = async (query: string) =>
    (await server.json(`/api/v1/artifacts?kind=model${query}`)).artifacts.map(
      ({ type, source }: { type: string; source: string | null }) => `${type} ${source}`,
    );

  test("of a source; a name may stand once in each", async () => {
    const theirs = ["of another gpu7/99999999", "seven gpu7"];
    expect((await types("&name=net")).sort()).toEqual([theirs[0]!, "own null", theirs[1]!]);
    expect(await types("&source=.")).toEqual(["own null"]);
    expect((await types("&source=gpu7")).sort()).toEqual(theirs);
    expect(await types("&source=gpu7/9999")).toEqual([theirs[0]!]);
    expect(await types("&source=gpu8")).toEqual([]);
  });

  test("a run that names one means ours, unless it says whose", async () => {
    const use = (source?: string) =>
      server.json("/api/v1/runs/a-own/inputs", { body: { kind: "model", name: "net", source } });
    expect(await use()).toMatchObject({ type: "own" });
    expect(await use("gpu7")).toMatchObject({ type: "seven" });
    expect(await use("gpu7/99999999")).toMatchObject({ type: "of another" });
  });
});
