import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { deleteArtifact, deleteVersion } from "../src/artifact/delete.ts";
import { getArtifactByName, getVersion, listFiles, resolveVersion } from "../src/artifact/find.ts";
import { listArtifacts, listRunArtifacts, listVersions } from "../src/artifact/list.ts";
import { logArtifact } from "../src/artifact/log.ts";
import { Alias, ArtifactName, FilePath, LogArtifact } from "../src/artifact/schema.ts";
import { setVersion } from "../src/artifact/set.ts";
import { useArtifact } from "../src/artifact/use.ts";
import { createRun } from "../src/run/create.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let test_: TestCollector;
beforeEach(() => {
  test_ = createTestCollector();
});
afterEach(() => test_.close());

const collector = () => test_.collector;

/** Keeps the texts and names them as files. */
function filesOf(textByPath: Record<string, string>) {
  const files = Object.entries(textByPath).map(([path, text]) => {
    const bytes = Buffer.from(text);
    return { path, bytes, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  });
  collector().blobs.putSmall(files);
  return files.map(({ path, size, sha256 }) => ({ path, size, sha256 }));
}

const log = (run: string | null, name: string, textByPath: Record<string, string>, more: object = {}) =>
  logArtifact(
    collector(),
    run,
    LogArtifact.parse({ kind: "model", name, type: "model", files: filesOf(textByPath), ...more }),
  );

describe("versions of a name", () => {
  test("are numbered by the store, whichever run logs them; the newest is latest", async () => {
    await createRun(collector(), { id: "r1" });
    await createRun(collector(), { id: "r2" });
    expect(await log("r1", "net", { "a.bin": "1" })).toMatchObject({
      version: "v1",
      is_new: true,
      aliases: ["latest"],
    });
    expect(await log("r2", "net", { "a.bin": "2" })).toMatchObject({ version: "v2", produced_by: ["r2"] });
    expect(await log("r2", "other", { "a.bin": "2" })).toMatchObject({ version: "v1" });
    const { id } = await getArtifactByName(collector(), "model", "net");
    expect((await listVersions(collector(), id)).map(({ version, aliases }) => [version, aliases])).toEqual([
      ["v2", ["latest"]],
      ["v1", []],
    ]);
  });

  test("logged by many at once get each its number", async () => {
    const logged = await Promise.all(
      Array.from({ length: 20 }, (_, i) => log(null, "net", { "a.bin": `${i}` })),
    );
    expect(new Set(logged.map(({ version }) => version)).size).toBe(20);
  });

  test("with the same files as the newest are that version, and know both runs", async () => {
    await createRun(collector(), { id: "r1" });
    await createRun(collector(), { id: "r2" });
    await log("r1", "net", { "b/c.txt": "x", "a.bin": "1" });
    expect(await log("r2", "net", { "a.bin": "1", "b/c.txt": "x" })).toMatchObject({
      version: "v1",
      is_new: false,
      produced_by: ["r1", "r2"],
    });
    expect(await log("r2", "net", { "a.bin": "1", "b/d.txt": "x" })).toMatchObject({ version: "v2" });
  });

  test("a deleted number is not used again", async () => {
    await log(null, "net", { a: "1" });
    const { id } = await log(null, "net", { a: "2" });
    await deleteVersion(collector(), id, 2);
    expect(await log(null, "net", { a: "3" })).toMatchObject({ version: "v3" });
    expect(await resolveVersion(collector(), id, "latest")).toBe(3);
  });
});

describe("an alias", () => {
  test("leads to one version and moves when another is given it", async () => {
    const { id } = await log(null, "net", { a: "1" }, { aliases: ["best"] });
    await log(null, "net", { a: "2" });
    expect(await resolveVersion(collector(), id, "best")).toBe(1);
    expect(await resolveVersion(collector(), id, "v2")).toBe(2);
    await setVersion(collector(), id, 2, { add_aliases: ["best", "shipped"] });
    expect(await resolveVersion(collector(), id, "best")).toBe(2);
    expect((await getVersion(collector(), id, 1)).aliases).toEqual([]);
    await setVersion(collector(), id, 2, { remove_aliases: ["best"] });
    await expect(resolveVersion(collector(), id, "best")).rejects.toThrow("no version best");
  });

  test("holds a version against deletion, unless insisted", async () => {
    const { id } = await log(null, "net", { a: "1" }, { aliases: ["best"] });
    await log(null, "net", { a: "2" });
    await expect(deleteVersion(collector(), id, 1)).rejects.toThrow("is called best");
    await deleteVersion(collector(), id, 1, { force: true });
    await expect(getVersion(collector(), id, 1)).rejects.toThrow("no version v1");
  });
});

test("what nobody refers to any more is collected, what another version still has is not", async () => {
  const [shared, own] = filesOf({ shared: "both", own: "one" });
  const { id } = await log(null, "one", { shared: "both", own: "one" });
  await log(null, "two", { shared: "both" });
  await deleteArtifact(collector(), id);
  collector().connection.exec("UPDATE blob SET touched = 0");
  expect(await collector().blobs.collect()).toBe(1);
  expect(collector().blobs.has(own!.sha256)).toBe(false);
  expect(collector().blobs.has(shared!.sha256)).toBe(true);
});

test("a file whose bytes are not here is refused, and the missing ones named", async () => {
  const file = { path: "a", size: 1, sha256: "0".repeat(64) };
  const input = LogArtifact.parse({ kind: "artifact", name: "x", type: "general", files: [file] });
  const error = await logArtifact(collector(), null, input).catch((error: unknown) => error);
  expect(error).toMatchObject({ code: "conflict", details: { missing: [file.sha256] } });
  expect(await listArtifacts(collector(), {})).toEqual([]);
});

test("a run's page has what it made and what it used", async () => {
  await createRun(collector(), { id: "r1" });
  await createRun(collector(), { id: "r2" });
  const { id } = await log("r1", "data", { a: "1" });
  await useArtifact(collector(), "r2", id, 1);
  await useArtifact(collector(), "r2", id, 1);
  await log("r2", "net", { a: "2" }, { origin: { environment: "dev", edge: "7" } });
  expect(
    (await listRunArtifacts(collector(), "r2")).map(({ role, version }) => [role, version.name]),
  ).toEqual([
    ["input", "data"],
    ["output", "net"],
  ]);
  expect(await getVersion(collector(), id, 1)).toMatchObject({ produced_by: ["r1"], used_by: ["r2"] });
});

test("ten thousand files are one version, listed a page at a time", async () => {
  const texts = Object.fromEntries(
    Array.from({ length: 10_000 }, (_, i) => [`d/${String(i).padStart(5, "0")}`, `${i}`]),
  );
  const { id, files } = await log(null, "many", texts);
  expect(files).toBe(10_000);
  const page = await listFiles(collector(), id, 1, { limit: 3, after: "d/00009" });
  expect(page.map(({ path }) => path)).toEqual(["d/00010", "d/00011", "d/00012"]);
});

test("a search finds names and types, the last updated first", async () => {
  await log(null, "resnet_50", { a: "1" });
  await log(null, "bert", { a: "1" });
  await log(null, "resnet_18", { a: "1" });
  const found = await listArtifacts(collector(), { search: "NET_" });
  expect(found.map(({ name }) => name).sort()).toEqual(["resnet_18", "resnet_50"]);
});

describe("refused", () => {
  test.each(["", ".", "..", "a/b", "a\\b", "a\0b", "a\u202eb", " a", "x".repeat(1000), "a\nb"])(
    "name %j",
    (name) => expect(ArtifactName.safeParse(name).success).toBe(false),
  );
  test.each([
    "",
    "/a",
    "a//b",
    "../a",
    "a/../b",
    "a/.",
    "a\\b",
    "a\0",
    "a/\u2066b",
    "x".repeat(1001),
    `${"é".repeat(200)}`,
  ])("path %j", (path) => expect(FilePath.safeParse(path).success).toBe(false));
  test.each(["v1", "latest", "", "a b", "-x"])("alias %j", (alias) =>
    expect(Alias.safeParse(alias).success).toBe(false),
  );
  test("a list that names a path twice", () => {
    const file = { path: "a", size: 1, sha256: "0".repeat(64) };
    expect(
      LogArtifact.safeParse({ kind: "model", name: "x", type: "model", files: [file, file] }).success,
    ).toBe(false);
  });
  test.each([
    [["a", "a/b"], false],
    [["a/b/c", "a/b"], false],
    [["a/b", "a.c", "a/bc/d", "b"], true],
  ])("a list in which a file is a folder, too: %j is taken: %p", (paths, isTaken) => {
    const files = paths.map((path) => ({ path, size: 1, sha256: "0".repeat(64) }));
    expect(LogArtifact.safeParse({ kind: "model", name: "x", type: "model", files }).success).toBe(isTaken);
  });
});

test.each(["cv-model", "ResNet 50 (fp16)", "模型", "a.b_c@d"])("name %j is taken", (name) => {
  expect(ArtifactName.safeParse(name).success).toBe(true);
});
