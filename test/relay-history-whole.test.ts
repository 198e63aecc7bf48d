import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { exportOf, jsonOf, seriesOf, unzip } from "./helpers/archive.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { createLink, type Link, type LinkOptions } from "./helpers/relay-link.ts";

let here: TestCollector;
let there: TestCollector;
let links: Link[];
beforeEach(() => {
  here = createTestCollector();
  there = createTestCollector();
  links = [];
});
afterEach(async () => {
  for (const link of links) await link.close();
  await here.close();
  await there.close();
});

function link(options?: LinkOptions): Link {
  const created = createLink(here.collector, there.collector, options);
  links.push(created);
  return created;
}

const sha256Of = (bytes: Uint8Array | undefined) => bytes && createHash("sha256").update(bytes).digest("hex");

/** What a run's export holds of its content, as digests. */
async function contentOf(at: TestCollector, run: string) {
  const files = await unzip(await exportOf(at, run));
  const { series, clients, next_ordinal, next_line, ...row } = jsonOf(files, "run.json");
  const { counts } = jsonOf(files, "manifest.json");
  return {
    row,
    series,
    clients: clients.sort((a: { client: string }, b: { client: string }) => (a.client < b.client ? -1 : 1)),
    next_ordinal,
    next_line,
    counts,
    points: sha256Of(files.get("metrics/points.csv")),
    texts: sha256Of(files.get("metrics/texts.ndjson")),
    lines: sha256Of(files.get("logs/lines.ndjson")),
    config: jsonOf(files, "config.json"),
  };
}

/** JSON.stringify has no negative zero, JSON has. */
const negativeZeros = (body: unknown) =>
  JSON.stringify(body, (_, value) => (Object.is(value, -0) ? "@-0" : value)).replaceAll('"@-0"', "-0");

const key = fc.constantFrom("loss", "acc/val", "__proto__", "epoch", 'näme, "quoted"', "note");
const value = fc.oneof(
  { weight: 6, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(-0, 0, "NaN", "Infinity", "-Infinity", 5e-324, 1e308) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>("text", { a: [1, null] }, true, "\ud800") },
);
const record = fc.record(
  {
    metrics: fc.dictionary(key, value, { maxKeys: 4 }),
    step: fc.oneof(fc.integer({ min: -5, max: 5000 }), fc.double({ min: -1e6, max: 1e6, noNaN: true })),
    time: fc.double({ min: 1.6e12, max: 1.9e12, noNaN: true }),
    x: fc.constantFrom("epoch", "loss"),
  },
  { requiredKeys: ["metrics"] },
);
const line = fc.record(
  { text: fc.string({ unit: "binary", maxLength: 40 }), stream: fc.constantFrom("stdout", "stderr") },
  { requiredKeys: ["text"] },
);
const batch = fc.oneof(
  fc.record({
    kind: fc.constant("records" as const),
    rank: fc.constantFrom(0, 0, 1, 7),
    items: fc.array(record, { maxLength: 12 }),
    copies: fc.constantFrom(1, 1, 60),
  }),
  fc.record({
    kind: fc.constant("logs" as const),
    rank: fc.constantFrom(0, 1),
    items: fc.array(line, { maxLength: 8 }),
    copies: fc.constantFrom(1, 50),
  }),
);

/** Lets a destination that comes now find a journal that has been cut. */
async function forgetJournal(at: TestCollector): Promise<void> {
  await at.collector.tidy(10_000);
  expect(at.collector.journal.bounds().first).toBe(at.collector.journal.position().seq + 1);
}

describe("what was there before its journal is the same on the platform", () => {
  let number = 0;

  test("of any records and lines, in the same order, and it goes on from there", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { minLength: 1, maxLength: 10 }),
        fc.array(batch, { maxLength: 4 }),
        async (before, after) => {
          const run = `r${number++}`;
          const seqByClient = new Map<string, number>();
          const send = async (batches: typeof before) => {
            for (const { kind, rank, items, copies } of batches) {
              const client = `c${rank}`;
              const seq = (seqByClient.get(client) ?? 0) + 1;
              seqByClient.set(client, seq);
              const body = { client, seq, rank, items: Array(copies).fill(items).flat() };
              await here.json(`/api/v1/runs/${run}/${kind}`, { body: negativeZeros(body) });
            }
          };
          await here.json("/api/v1/runs", { body: { id: run, config: { lr: 0.1 }, tags: ["a"] } });
          await send(before);
          await forgetJournal(here);
          const relay = link({ name: run });
          try {
            await relay.upToDate();
            expect(relay.pieces.some(({ of }) => of === "facts")).toBe(true);
            expect(await contentOf(there, run)).toEqual(await contentOf(here, run));
            expect(await seriesOf(there.collector, run)).toEqual(await seriesOf(here.collector, run));
            // By the journal from now on.
            const sent = relay.pieces.length;
            await send(after);
            await here.json(`/api/v1/runs/${run}/finish`, { body: { status: "FINISHED", exit_code: 0 } });
            await relay.upToDate();
            expect(relay.pieces.length).toBe(sent);
            expect(await contentOf(there, run)).toEqual(await contentOf(here, run));
          } finally {
            await relay.remove();
          }
        },
      ),
      { numRuns: Number(process.env["FC_RUNS"] ?? 20) },
    );
    there = await there.restart();
    for (let run = 0; run < number; run += 5)
      expect(await contentOf(there, `r${run}`)).toEqual(await contentOf(here, `r${run}`));
  }, 180_000);
});
