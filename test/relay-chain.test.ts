import { afterEach, expect, test } from "bun:test";
import type { Relay } from "../src/relay/schema.ts";
import { appendRecords } from "../src/metric/append.ts";
import { exportOf, jsonOf, textOf, unzip } from "./helpers/archive.ts";
import { logFiles } from "./helpers/artifacts.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

interface Site {
  at: TestCollector;
  url: string;
  server: ReturnType<typeof Bun.serve>;
}

let sites: Site[] = [];
afterEach(async () => {
  // Who sends first: else it meets nobody, and waits.
  for (const { at } of sites) await at.close();
  for (const { server } of sites) await server.stop(true);
  sites = [];
});

/** A platform that relays on, and listens. */
function open(): Site {
  const at = createTestCollector({ platform: true, relays: true });
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    reusePort: false,
    idleTimeout: 0,
    fetch: (request) => at.app.fetch(request),
  });
  const site = { at, url: `http://127.0.0.1:${server.port}`, server };
  sites.push(site);
  return site;
}

async function relay(from: Site, to: Site, label: string): Promise<void> {
  const { token } = await to.at.json("/api/v1/sources", { body: { name: label } });
  await from.at.json("/api/v1/relays", { body: { name: "up", url: to.url, token } });
}

const statusOf = async ({ at }: Site): Promise<Relay> => (await at.json("/api/v1/relays")).relays[0];

/** Resolves when the destination is so; the last it said is told where it never comes to it. */
async function until(site: Site, isSo: (relay: Relay) => boolean): Promise<Relay> {
  for (let tries = 0; ; tries++) {
    const relay = await statusOf(site);
    if (isSo(relay)) return relay;
    if (tries > 600) throw new Error(JSON.stringify(relay));
    await Bun.sleep(25);
  }
}

/** All that any of them has is on its way's end, files included. */
async function arrived(...senders: Site[]): Promise<void> {
  for (const site of senders)
    await until(
      site,
      ({ state, backlog, content }) => state === "idle" && backlog.entries === 0 && content?.files === 0,
    );
}

/** Bytes of files travel by themselves: what a version says may be there before they are. */
async function contentOf({ at }: Site, run: string) {
  for (let tries = 0; tries < 400; tries++) {
    const { status, body } = await at.request(`/api/v1/runs/${run}/export`);
    await body?.cancel();
    if (status !== 409) break;
    await Bun.sleep(25);
  }
  const files = await unzip(await exportOf(at, run));
  const { series, next_ordinal, next_line } = jsonOf(files, "run.json");
  return {
    series,
    next_ordinal,
    next_line,
    points: textOf(files, "metrics/points.csv"),
    texts: textOf(files, "metrics/texts.ndjson"),
    lines: textOf(files, "logs/lines.ndjson"),
    weights: [...files.entries()]
      .filter(([name]) => name.startsWith("models/"))
      .map(([name, bytes]) => [name, Bun.hash(bytes).toString()]),
  };
}

const sourceOf = async ({ at }: Site, run: string) =>
  (await at.json("/api/v1/runs")).runs.find(({ id }: { id: string }) => id === run)?.source;

test("three in a row: the top shows what the first has logged, by history and by journal, with its files", async () => {
  const [box, middle, top] = [open(), open(), open()];
  const { collector } = box.at;
  await box.at.json("/api/v1/runs", { body: { id: "4711", name: "far below" } });
  let seq = 0;
  const log = async (rank: number, count: number) => {
    const items = Array.from({ length: count }, (_, i) => ({
      step: i,
      metrics: { loss: Math.sin(i + seq), ...(i % 40 === 0 && { note: `at ${i}` }) },
    }));
    await appendRecords(collector, "4711", { client: `c${rank}`, seq: ++seq, rank, items });
  };
  // Ranks in turns, so that entries of history overlap; each has numbers of its own.
  let round = 0;
  const logRounds = async (rounds: number) => {
    for (let i = 0; i < rounds; i++) {
      round++;
      for (const rank of [0, 1, 2]) {
        seq = round - 1;
        await log(rank, 50);
      }
    }
  };
  await logRounds(30);
  await box.at.json("/api/v1/runs/4711/logs", {
    body: { client: "lines", seq: 1, items: Array.from({ length: 500 }, (_, i) => ({ text: `line ${i}` })) },
  });
  await logFiles(collector, "4711", "net", { files: { "w.bin": "x".repeat(300_000), "a.txt": "small" } });
  // What is relayed further begins as history, and what is relayed first does, too.
  await collector.tidy(10_000);
  await relay(middle, top, "site");
  await relay(box, middle, "box");
  await arrived(box, middle);
  const sent = await contentOf(box, "4711");
  expect(sent.weights.length).toBe(2);
  expect(await contentOf(middle, "4711")).toEqual(sent);
  expect(await contentOf(top, "4711")).toEqual(sent);

  await logRounds(10);
  await logFiles(collector, "4711", "net", { files: { "w.bin": "y".repeat(300_000), "a.txt": "small" } });
  await box.at.json("/api/v1/runs/4711/finish", { body: { status: "FINISHED", exit_code: 0 } });
  await arrived(box, middle);
  const more = await contentOf(box, "4711");
  expect(more.next_ordinal).toBe(40 * 150);
  expect(await contentOf(top, "4711")).toEqual(more);
  expect(await sourceOf(box, "4711")).toBeNull();
  expect(await sourceOf(middle, "4711")).toBe("box");
  expect(await sourceOf(top, "4711")).toBe("site ▸ box");
  const { runs } = await top.at.json("/api/v1/runs");
  expect(runs[0]).toMatchObject({ id: "4711", status: "FINISHED", name: "far below" });
}, 60_000);

test("a circle of three is refused where it would close, and nothing goes round", async () => {
  const [one, two, three] = [open(), open(), open()];
  await one.at.json("/api/v1/runs", { body: { id: "1001" } });
  await relay(one, two, "one");
  await relay(two, three, "two");
  await arrived(one, two);
  await relay(three, one, "three");
  const paused = await until(three, ({ state }) => state === "paused");
  expect(paused.error!.hint).toContain("circle");
  await two.at.json("/api/v1/runs", { body: { id: "1002" } });
  await arrived(two);
  const idsOf = async ({ at }: Site) =>
    (await at.json("/api/v1/runs")).runs.map(({ id }: { id: string }) => id).sort();
  expect(await idsOf(one)).toEqual(["1001"]);
  expect(await idsOf(three)).toEqual(["1001", "1002"]);
}, 60_000);

test("a relay to itself is refused", async () => {
  const one = open();
  await one.at.json("/api/v1/runs", { body: { id: "1001" } });
  await relay(one, one, "myself");
  const paused = await until(one, ({ state }) => state === "paused");
  expect(paused.error!.hint).toContain("circle");
  expect((await one.at.json("/api/v1/runs")).runs).toHaveLength(1);
}, 30_000);
