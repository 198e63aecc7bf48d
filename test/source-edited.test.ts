import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { historyOf, historyParts } from "../src/relay/history.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { okay, TestSource } from "./helpers/source.ts";

setDefaultTimeout(60_000);

let platform: TestCollector;
let node: TestCollector;
let source: TestSource;

beforeEach(async () => {
  platform = createTestCollector({ platform: true });
  node = createTestCollector();
  source = await TestSource.create(platform);
});
afterEach(async () => {
  await node.close();
  await platform.close();
});

async function put(text: string, more: object = {}): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  node.collector.blobs.putSmall([{ sha256, bytes }]);
  const files = [{ path: "a.bin", size: bytes.length, sha256 }];
  await node.json("/api/v1/artifacts", {
    body: { kind: "model", name: "net", type: "model", files, ...more },
  });
}

async function change(at: TestCollector, version: string, body: object): Promise<void> {
  const [{ id }] = (await at.json("/api/v1/artifacts?kind=model")).artifacts;
  await at.json(`/api/v1/artifacts/${id}/versions/${version}`, { method: "PATCH", body });
}

async function versionOf(at: TestCollector, version: string) {
  const [{ id }] = (await at.json("/api/v1/artifacts?kind=model")).artifacts;
  const { description, metadata, aliases } = await at.json(`/api/v1/artifacts/${id}/versions/${version}`);
  return { description, metadata, aliases: aliases.filter((alias: string) => alias !== "latest").sort() };
}

/** All that the node is and has, said once more. */
async function tellFacts(): Promise<void> {
  const acked = await source.relay(node.collector);
  const { bounds } = await historyParts(node.collector);
  for await (const { frames } of historyOf(node.collector, { of: "facts" }, 0, bounds))
    await okay(await source.history({ of: "facts" }, 0, 0, frames, { acked, upto: acked }));
}

const ours = { description: "checked by us", metadata: { score: 2 } };

test("what a person says of a source's version here stays though the source states it again", async () => {
  await put("1", { description: "first", metadata: { score: 1 }, aliases: ["best", "old"] });
  await put("2");
  await source.relay(node.collector);
  await change(platform, "v1", { ...ours, remove_aliases: ["old"] });
  // An alias is moved from the one to the other.
  await change(platform, "v2", { add_aliases: ["best", "ours"] });
  const here = async () => [await versionOf(platform, "v1"), await versionOf(platform, "v2")];
  const expected = [
    { ...ours, aliases: [] },
    { description: null, metadata: {}, aliases: ["best", "ours"] },
  ];
  expect(await here()).toEqual(expected);
  await tellFacts();
  await tellFacts();
  expect(await here()).toEqual(expected);
  platform = await platform.restart();
  source = Object.assign(new TestSource(platform, source.token, source.id), {
    nonce: source.nonce,
    turn: source.turn,
  });
  await tellFacts();
  expect(await here()).toEqual(expected);
});

test("it gives way to what the source changes later, and to nothing else of it", async () => {
  await put("1", { description: "first", metadata: { score: 1 }, aliases: ["best"] });
  await source.relay(node.collector);
  await change(platform, "v1", { ...ours, add_aliases: ["ours"], remove_aliases: ["best"] });
  await change(node, "v1", { description: "second", add_aliases: ["theirs"] });
  await tellFacts();
  const seen = { description: "second", metadata: { score: 2 }, aliases: ["ours", "theirs"] };
  expect(await versionOf(platform, "v1")).toEqual(seen);
  // Its last word is what counts from then on.
  await change(platform, "v1", { description: "ours again", remove_aliases: ["theirs"] });
  await tellFacts();
  expect(await versionOf(platform, "v1")).toEqual({ ...seen, description: "ours again", aliases: ["ours"] });
  await change(node, "v1", { description: "first", metadata: { score: 3 } });
  await tellFacts();
  expect(await versionOf(platform, "v1")).toEqual({
    description: "first",
    metadata: { score: 3 },
    aliases: ["ours"],
  });
});

test("a change that only history tells of is one all the same", async () => {
  await put("1", { description: "first", aliases: ["best"] });
  const acked = await source.relay(node.collector);
  await change(platform, "v1", { description: "ours", add_aliases: ["ours"] });
  await change(node, "v1", { description: "second", metadata: { a: 1 }, remove_aliases: ["best"] });
  const { bounds } = await historyParts(node.collector);
  for await (const { frames } of historyOf(node.collector, { of: "facts" }, 0, bounds))
    await okay(await source.history({ of: "facts" }, 0, 0, frames, { acked, upto: acked + 1 }));
  const seen = { description: "second", metadata: { a: 1 }, aliases: ["ours"] };
  expect(await versionOf(platform, "v1")).toEqual(seen);
});

test("who hears of it from here hears what was said here", async () => {
  const top = createTestCollector({ platform: true });
  try {
    await put("1", { description: "first", metadata: { score: 1 }, aliases: ["best"] });
    await source.relay(node.collector);
    const up = await TestSource.create(top, "site");
    await up.relay(platform.collector);
    await change(platform, "v1", { ...ours, remove_aliases: ["best"] });
    await tellFacts();
    await up.relay(platform.collector);
    expect(await versionOf(top, "v1")).toEqual({ ...ours, aliases: [] });
  } finally {
    await top.close();
  }
});
