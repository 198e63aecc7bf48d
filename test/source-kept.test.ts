import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { historyOf, historyParts } from "../src/relay/history.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import type { Frame } from "../src/relay/contract.ts";
import { fact, framesOf, okay, TestSource } from "./helpers/source.ts";

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

const RUN = "run-1";
const create = (at: TestCollector, more: object = {}) =>
  at.json("/api/v1/runs", { body: { id: RUN, name: "net", tags: ["a"], config: { lr: 0.1 }, ...more } });

/** All that the node is and has, said once more. */
async function tellFacts(from = node, to = source): Promise<void> {
  const acked = await to.relay(from.collector);
  const { bounds } = await historyParts(from.collector);
  for await (const { frames } of historyOf(from.collector, { of: "facts" }, 0, bounds))
    await okay(await to.history({ of: "facts" }, 0, 0, frames, { acked, upto: acked }));
}

describe("what a person changes of a run here", () => {
  const change = { name: "mine", tags: ["keep"], notes: "good", config: { lr: 0.2 } };
  const seen = () => platform.json(`/api/v1/runs/${RUN}`);

  test("stays though its source says again what it said before", async () => {
    await create(node);
    await source.relay(node.collector);
    await platform.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: change });
    await platform.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name: "still mine" } });
    await tellFacts();
    await tellFacts();
    expect(await seen()).toMatchObject({ ...change, name: "still mine" });
    platform = await platform.restart();
    source = Object.assign(new TestSource(platform, source.token, source.id), {
      nonce: source.nonce,
      turn: source.turn,
    });
    await tellFacts();
    expect(await seen()).toMatchObject({ ...change, name: "still mine" });
  });

  test("gives way to what the source changes later, and to nothing else of it", async () => {
    await create(node);
    await source.relay(node.collector);
    await platform.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: change });
    await node.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name: "renamed there" } });
    await tellFacts();
    expect(await seen()).toMatchObject({ ...change, name: "renamed there" });
    // Its last word is what counts from then on.
    await platform.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name: "mine again" } });
    await tellFacts();
    expect((await seen()).name).toBe("mine again");
    await node.json(`/api/v1/runs/${RUN}`, { method: "PATCH", body: { name: "net", notes: "theirs" } });
    await tellFacts();
    expect(await seen()).toMatchObject({ name: "net", notes: "theirs", tags: ["keep"] });
  });
});

describe("a run that its source deletes", () => {
  const factsOf = async (at: TestCollector) => {
    const { bounds } = await historyParts(at.collector);
    const all: Frame[] = [];
    for await (const { frames } of historyOf(at.collector, { of: "facts" }, 0, bounds)) all.push(...frames);
    return all;
  };

  test("upstream, too, is told on to who missed the entry that says so", async () => {
    await create(node);
    const top = createTestCollector({ platform: true });
    try {
      await source.relay(node.collector);
      const up = await TestSource.create(top, "site");
      const acked = await up.relay(platform.collector);
      await node.json(`/api/v1/runs/${RUN}?force=true&upstream=true`, { method: "DELETE" });
      const { time } = framesOf(node.collector).at(-1)!;
      await source.relay(node.collector);
      const facts = (await factsOf(platform)).filter(({ kind }) => kind === "run.deleted");
      expect(facts).toMatchObject([{ run: RUN, time }]);
      await okay(await up.history({ of: "facts" }, 0, 0, facts, { acked, upto: acked }));
      expect((await top.request(`/api/v1/runs/${RUN}`)).status).toBe(410);
    } finally {
      await top.close();
    }
  });

  test("says when that was, however often it is told", async () => {
    await create(node);
    const acked = await source.relay(node.collector);
    const deleted = (time: number) => fact(0, "run.deleted", RUN, { id: RUN }, { time });
    for (const time of [1_700_000_000_000, 1_800_000_000_000])
      await okay(await source.history({ of: "facts" }, 0, 0, [deleted(time)], { acked, upto: acked }));
    const { deleted_at_source } = await platform.json(`/api/v1/runs/${RUN}`);
    expect(Date.parse(deleted_at_source)).toBe(1_700_000_000_000);
  });
});

describe("a version that a person deletes here", () => {
  const put = async (at: TestCollector, text: string, aliases: string[] = [], where = "") => {
    const bytes = new TextEncoder().encode(text);
    const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
    at.collector.blobs.putSmall([{ sha256, bytes }]);
    const files = [{ path: "a.bin", size: bytes.length, sha256 }];
    await at.json(`/api/v1${where}/artifacts`, {
      body: { kind: "model", name: "net", type: "model", files, aliases },
    });
  };
  const modelsOf = async (at: TestCollector) => (await at.json("/api/v1/artifacts?kind=model")).artifacts;
  const versionsOf = async (at: TestCollector) => {
    const [model] = await modelsOf(at);
    const { versions } = await at.json(`/api/v1/artifacts/${model.id}/versions`);
    return versions.map(({ version }: { version: string }) => version);
  };
  const remove = async (at: TestCollector, path: string) => {
    const [model] = await modelsOf(at);
    await at.json(`/api/v1/artifacts/${model.id}${path}?force=true`, { method: "DELETE" });
  };

  test("stays deleted though its source says again that it has it", async () => {
    await put(node, "1");
    await put(node, "2", ["best"]);
    await source.relay(node.collector);
    await remove(platform, "/versions/v2");
    await tellFacts();
    expect(await versionsOf(platform)).toEqual(["v1"]);
    await remove(platform, "");
    await tellFacts();
    expect(await modelsOf(platform)).toEqual([]);
    await put(node, "3");
    await tellFacts();
    expect(await versionsOf(platform)).toEqual(["v3"]);
  });

  test("stays deleted where it went with a run", async () => {
    await create(node);
    await put(node, "1", [], `/runs/${RUN}`);
    await source.relay(node.collector);
    await platform.json(`/api/v1/runs/${RUN}?force=true`, { method: "DELETE" });
    await tellFacts();
    expect(await modelsOf(platform)).toEqual([]);
  });

  test("an own one of the same name and number is another", async () => {
    await put(node, "1");
    await put(platform, "1");
    await remove(platform, "");
    await tellFacts();
    expect(await modelsOf(platform)).toMatchObject([{ source: "lab", versions: 1 }]);
  });

  test("is deleted by its source's name to who hears of it from here", async () => {
    await put(node, "1", ["best"]);
    await put(platform, "1", ["best"]);
    await source.relay(node.collector);
    const top = createTestCollector({ platform: true });
    try {
      const up = await TestSource.create(top, "site");
      await up.relay(platform.collector);
      const theirs = (await modelsOf(platform)).find((model: { source: string | null }) => model.source);
      const path = `/api/v1/artifacts/${theirs.id}/versions/v1`;
      await platform.json(path, { method: "PATCH", body: { description: "theirs" } });
      await platform.json(`${path}?force=true`, { method: "DELETE" });
      await up.relay(platform.collector);
      const aliases = await Promise.all(
        (await modelsOf(top)).map(async ({ id, source: of }: { id: number; source: string }) => {
          const { versions } = await top.json(`/api/v1/artifacts/${id}/versions`);
          const [{ aliases, description }] = versions;
          return [of, aliases.includes("best"), description];
        }),
      );
      expect(aliases.sort()).toEqual([
        ["site", true, null],
        [`site/${source.id.slice(0, 8)}`, false, "theirs"],
      ]);
    } finally {
      await top.close();
    }
  });
});
