import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let at: TestCollector;
beforeEach(() => {
  at = createTestCollector();
});
afterEach(() => at.close());

describe("createRun", () => {
  test("gives an id of 15 digits and a memorable name where there is none", async () => {
    const response = await at.request("/api/v1/runs", { body: {} });
    expect(response.status).toBe(201);
    const run = (await response.json()) as Record<string, unknown>;
    expect(run["id"]).toMatch(/^[1-9]\d{14}$/);
    expect(run["name"]).toMatch(/^[a-z]+-[a-z]+-[1-9]\d?$/);
    expect(run).toMatchObject({ status: "RUNNING", project: "default", next_step: 0, finished: null });
  });

  test("joins a live run as another writer and merges config", async () => {
    const first = { id: "42", config: { a: 1 }, writer: { client: "one" } };
    const second = { id: "42", name: "mine", config: { b: 2 }, writer: { client: "two", rank: 1 } };
    expect((await at.request("/api/v1/runs", { body: first })).status).toBe(201);
    const joined = await at.request("/api/v1/runs", { body: second });
    expect(joined.status).toBe(200);
    expect(await joined.json()).toMatchObject({
      name: "mine",
      config: { a: 1, b: 2 },
      writers: [{ client: "one" }, { client: "two", rank: 1 }],
    });
  });

  test("eight ranks that create one run at once make one run", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, rank) =>
        at.request("/api/v1/runs", { body: { id: "7", writer: { client: `c${rank}`, rank } } }),
      ),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 200, 200, 200, 200, 200, 201]);
    expect((await at.json("/api/v1/runs/7")).writers).toHaveLength(8);
  });
});
