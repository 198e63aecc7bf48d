import { expect, test } from "bun:test";
import type { Span } from "../src/span/schema.ts";
import { createRefresh } from "../src/ui/browser/keep-fresh.ts";
import { KnownSpans } from "../src/ui/browser/known-spans.ts";

const span = (id: string, ended: string | null = null): Span => ({
  id,
  kind: "event",
  name: id,
  value: null,
  edge: null,
  started: "2026-11-24T00:00:00Z",
  ended,
  round: null,
  total: null,
});
const ids = (known: KnownSpans) => known.all().map(({ id }) => id);

test("what is heard while a page loads makes it load once more", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let loads = 0;
  const refresh = createRefresh(() => {
    begun[loads]!.resolve();
    return gates[loads++]!.promise;
  });
  refresh();
  refresh();
  await begun[0]!.promise;
  refresh();
  refresh();
  expect(loads).toBe(1);
  gates[0]!.resolve();
  await begun[1]!.promise;
  expect(loads).toBe(2);
  gates[1]!.resolve();
});

test("spans heard while they are asked for stand beside the answer, and over it", async () => {
  const known = new KnownSpans(10);
  known.hear([span("gone")]);
  await known.load(async () => {
    known.hear([span("a", "2026-11-24T00:00:01Z"), span("b")]);
    return { spans: [span("a"), span("c")], next: null };
  });
  expect(ids(known).sort()).toEqual(["a", "b", "c"]);
  expect(known.all().find(({ id }) => id === "a")!.ended).not.toBeNull();
  expect(known.more).toBe(false);
});

test("a load that fails leaves what is known", async () => {
  const known = new KnownSpans(10);
  known.hear([span("a")]);
  const failed = await known
    .load(async () => {
      known.hear([span("b")]);
      throw new Error("no answer");
    })
    .catch((error: Error) => error.message);
  expect(failed).toBe("no answer");
  expect(ids(known)).toEqual(["a", "b"]);
});

test("a page takes no more spans than it can draw, however long it listens, and says so", async () => {
  const known = new KnownSpans(3);
  known.hear([span("a"), span("b"), span("c")]);
  expect(known.more).toBe(false);
  known.hear([span("d"), span("a", "2026-11-24T00:00:01Z")]);
  expect(ids(known)).toEqual(["a", "b", "c"]);
  expect(known.all()[0]!.ended).not.toBeNull();
  expect(known.more).toBe(true);

  await known.load(async (after) => {
    known.hear([span("e")]);
    return after === "" ? { spans: [span("a"), span("b")], next: "b" } : { spans: [span("c")], next: "c" };
  });
  expect(ids(known)).toEqual(["a", "b", "c"]);
  expect(known.more).toBe(true);
});
