import { expect, test } from "bun:test";
import type { Span } from "../src/span/schema.ts";
import { edgeLabel, layTimeline, summaryOf } from "../src/ui/timeline.ts";

const T = Date.parse("2026-11-24T00:00:00Z");
const status = (name: string, edge: string | null): Span => ({
  id: `${name} ${edge}`,
  kind: "status",
  name,
  value: null,
  edge,
  started: new Date(T).toISOString(),
  ended: null,
  round: null,
  total: null,
});

test("a federated server stands above the edges, and is none of them", () => {
  const said = [
    ["7", "TRAINING"],
    ["server 9", "RUNNING"],
    ["12", "TRAINING"],
    ["server", "RUNNING"],
  ] as const;
  const timeline = layTimeline(
    said.map(([edge, word]) => status(word, edge)),
    T + 1000,
  );
  expect(timeline.lanes.map(({ label }) => label)).toEqual(["Server", "Server 9", "Edge 7", "Edge 12"]);
  expect(summaryOf(timeline, 0)).toEqual(["2 edges: 2 training"]);
  expect(summaryOf(layTimeline([status("RUNNING", "server")], T), 0)).toEqual([]);
});

test.each([
  [null, "Run"],
  ["7", "Edge 7"],
  ["server", "Server"],
  ["server 1716563514434392064", "Server 1716563514434392064"],
  ["serverless", "serverless"],
  ["rank 3", "rank 3"],
])("the edge %p is called %s", (edge, label) => expect(edgeLabel(edge)).toBe(label));
