import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { createTestCollector, type TestCollector, type TestRequest } from "./helpers/collector.ts";

let at: TestCollector;
beforeAll(async () => {
  at = createTestCollector();
  await at.json("/api/v1/runs", { body: { id: "1" } });
  await at.json("/api/v1/runs", { body: { id: "gone" } });
  await at.json("/api/v1/runs/gone?force=true", { method: "DELETE" });
});
afterAll(() => at.close());

interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  hint: string;
  [member: string]: unknown;
}

/** Sends it and holds the answer to what every refusal promises. */
async function refusal(path: string, init: TestRequest = {}): Promise<Problem> {
  const response = await at.request(path, init);
  const text = await response.text();
  expect(response.headers.get("content-type"), text).toBe("application/problem+json");
  const problem = JSON.parse(text) as Problem;
  expect(problem.status).toBe(response.status);
  expect(problem.detail.length).toBeGreaterThan(5);
  expect(problem.hint.length, text).toBeGreaterThan(5);
  expect(text).not.toMatch(/select .+ from|insert into|sqlite|drizzle|node_modules|\.ts:\d|\n +at /i);
  expect(text.length).toBeLessThan(4000);
  return problem;
}

let client = 0;
const batch = (item: object | string, more: object = {}) => {
  const text = typeof item === "string" ? item : JSON.stringify(item);
  const head = JSON.stringify({ client: `c${++client}`, seq: 1, ...more });
  return `${head.slice(0, -1)},"items":[${text}]}`;
};

describe("records are refused, and say why", () => {
  const f = (name: string, body: string, status = 400, detail?: RegExp) =>
    test(name, async () => {
      const problem = await refusal("/api/v1/runs/1/records", { body });
      expect(problem.status, problem.detail).toBe(status);
      if (detail) expect(problem.detail).toMatch(detail);
    });

  f("no JSON", "{", 400, /not JSON/);
  f("NaN as a word", `{"client":"c","seq":1,"items":[{"metrics":{"a":NaN}}]}`, 400, /not JSON/);
  f("two documents", `{"client":"c","seq":1,"items":[]}{}`);
  f("a byte order mark in the middle", `{"client":"c",\uFEFF"seq":1}`);
  f("an array", "[]");
  f("null", "null");
  f("a number", "1");
  f("a string", '"x"');
  f("nothing", "{}");
  f("no client", `{"seq":1,"items":[]}`);
  f("a client with control characters", `{"client":"a\\u0000","seq":1,"items":[]}`);
  f("a client that climbs", `{"client":"../../x","seq":1,"items":[]}`);
  f("seq 0", `{"client":"c","seq":0,"items":[]}`);
  f("seq -1", `{"client":"c","seq":-1,"items":[]}`);
  f("seq 1.5", `{"client":"c","seq":1.5,"items":[]}`);
  f("seq as text", `{"client":"c","seq":"1","items":[]}`);
  f("seq beyond what counts", `{"client":"c","seq":1e300,"items":[]}`);
  f("items as an object", `{"client":"c","seq":1,"items":{}}`);
  f("an item that is null", batch("null"));
  f("an item without metrics", batch({ step: 1 }));
  f("metrics as an array", batch({ metrics: [1] }));
  f("an empty key", batch({ metrics: { "": 1 } }));
  f("a key with a line break", batch({ metrics: { "a\nb": 1 } }), 400, /control/);
  f("a key with NUL", batch({ metrics: { "a\u0000": 1 } }), 400, /control/);
  f("a key with C1 controls", batch({ metrics: { "a\u009b": 1 } }), 400, /control/);
  f("a key of 501 characters", batch({ metrics: { ["k".repeat(501)]: 1 } }));
  f("step 1e308", batch({ step: 1e308, metrics: { a: 1 } }));
  f("step -1e308", batch({ step: -1e308, metrics: { a: 1 } }));
  f("step 1e999, which JSON reads as infinity", batch(`{"step":1e999,"metrics":{"a":1}}`));
  f("a step as text", batch({ step: "1", metrics: { a: 1 } }));
  f("a negative time", batch({ time: -1, metrics: { a: 1 } }));
  f("a time in the year 10000", batch({ time: 253_402_300_800_000, metrics: { a: 1 } }));
  f("a time as text", batch({ time: "2020-01-01", metrics: { a: 1 } }));
  f("a negative rank", batch({ metrics: { a: 1 } }, { rank: -1 }));
  f("a rank beyond any machine", batch({ metrics: { a: 1 } }, { rank: 1e9 }));
  f("10,001 keys in a record", batch({ metrics: keys(10_001) }));
  f("a million keys in a record", batch({ metrics: keys(1_000_000) }));
  f("100,001 records", `{"client":"c","seq":1,"items":[${Array(100_001).fill('{"metrics":{}}').join()}]}`);
  f("a value nested 100,000 deep", batch(`{"metrics":{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}}`));
});

function keys(count: number): Record<string, number> {
  const metrics: Record<string, number> = {};
  for (let i = 0; i < count; i++) metrics[`k${i}`] = i;
  return metrics;
}

describe("what is unusual and yet right is kept", () => {
  test("keys named like parts of an object", async () => {
    await at.json("/api/v1/runs", { body: { id: "proto" } });
    const body = batch(`{"metrics":{"__proto__":1,"constructor":2,"toString":3,"hasOwnProperty":4}}`);
    await at.json("/api/v1/runs/proto/records", { body });
    const { metrics } = await at.json("/api/v1/runs/proto/metrics");
    expect(metrics.map(({ name, last }: { name: string; last: number }) => [name, last])).toEqual([
      ["__proto__", 1],
      ["constructor", 2],
      ["toString", 3],
      ["hasOwnProperty", 4],
    ]);
    const { points } = await at.json("/api/v1/runs/proto/points?key=__proto__");
    expect(points).toEqual([[0, 1]]);
    expect(({} as Record<string, unknown>)["1"]).toBeUndefined();
  });

  test("the largest and smallest steps, times and values", async () => {
    await at.json("/api/v1/runs", { body: { id: "edge" } });
    const max = Number.MAX_SAFE_INTEGER;
    const items = [
      { step: max, time: 0, metrics: { a: Number.MAX_VALUE } },
      { step: -max, time: 253_402_300_799_999, metrics: { a: -5e-324 } },
      { step: -0, metrics: { a: -0 } },
    ];
    await at.json("/api/v1/runs/edge/records", { body: { client: "e", seq: 1, items } });
    const { points } = await at.json("/api/v1/runs/edge/points?key=a");
    expect(points.slice(0, 2)).toEqual([
      [max, Number.MAX_VALUE],
      [-max, -5e-324],
    ]);
  });

  test("an empty body where everything is optional", async () => {
    expect((await at.request("/api/v1/runs", { method: "POST" })).status).toBe(201);
  });
});

describe("batches", () => {
  const post = (seq: number, value = seq) =>
    at.request("/api/v1/runs/1/records", {
      body: { client: "ordered", seq, items: [{ metrics: { ordered: value } }] },
    });

  test("out of order: 409 says which is expected; twice: the same answer, stored once", async () => {
    expect((await post(1)).status).toBe(200);
    const gap = await refusal("/api/v1/runs/1/records", { body: { client: "ordered", seq: 3, items: [] } });
    expect(gap).toMatchObject({ status: 409, type: "urn:binnacle:sequence-gap", expected: 2 });
    const lines = await refusal("/api/v1/runs/1/logs", { body: { client: "ordered", seq: 9, items: [] } });
    expect(lines).toMatchObject({ status: 409, expected: 2 });
    expect(await (await post(2)).json()).toEqual({ acked: 2 });
    expect(await (await post(2, 99)).json()).toEqual({ acked: 2 });
    expect(await (await post(1, 99)).json()).toEqual({ acked: 1 });
    const { points } = await at.json("/api/v1/runs/1/points?key=ordered");
    expect(points.map(([, value]: [number, number]) => value)).toEqual([1, 2]);
  });

  test("a refused batch takes no number", async () => {
    const body = {
      client: "refused",
      seq: 1,
      items: [{ metrics: { a: 1 } }, { step: 1e308, metrics: { a: 1 } }],
    };
    expect((await refusal("/api/v1/runs/1/records", { body })).status).toBe(400);
    const good = { client: "refused", seq: 1, items: [{ metrics: { refused: 1 } }] };
    expect((await at.request("/api/v1/runs/1/records", { body: good })).status).toBe(200);
    expect((await at.json("/api/v1/runs/1/points?key=refused")).points).toHaveLength(1);
  });

  test("more series than a run may have are refused whole", async () => {
    await at.json("/api/v1/runs", { body: { id: "many" } });
    for (let seq = 1; seq <= 2; seq++) {
      const metrics = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${seq}.${i}`, i]));
      await at.json("/api/v1/runs/many/records", { body: { client: "m", seq, items: [{ metrics }] } });
    }
    const body = { client: "m", seq: 3, items: [{ metrics: { one: 1 } }] };
    const problem = await refusal("/api/v1/runs/many/records", { body });
    expect(problem.status).toBe(400);
    expect(problem.hint).not.toBe("");
    expect((await at.json("/api/v1/runs/many/metrics")).metrics).toHaveLength(20_000);
  }, 20_000);
});

describe("runs are refused, and say why", () => {
  const f = (name: string, body: unknown, detail: RegExp) =>
    test(name, async () => {
      const problem = await refusal("/api/v1/runs", { body });
      expect(problem.status).toBe(400);
      expect(problem.detail).toMatch(detail);
    });
  f("an id that climbs", { id: "../etc" }, /id/);
  f("an id with a slash", { id: "a/b" }, /id/);
  f("an id that begins with a dot", { id: ".x" }, /id/);
  f("an id of 129 characters", { id: "1".repeat(129) }, /id/);
  f("a name with a line break", { name: "a\nb" }, /name.*control/);
  f("a name with an escape", { name: "\u001b[31mred" }, /name.*control/);
  f("an empty name", { name: "" }, /name/);
  f("a name of 251 characters", { name: "n".repeat(251) }, /name/);
  f("a name that is a number", { name: 5 }, /name/);
  f("config that is a list", { config: [] }, /config/);
  f("101 tags", { tags: Array(101).fill("t") }, /tags/);
  f("a start before 1970", { started: -1 }, /started/);
  f("a start beyond dates", { started: 1e300 }, /started/);
  f("a pid of 0", { writer: { client: "c", pid: 0 } }, /pid/);
  f("an unknown role", { writer: { client: "c", role: "god" } }, /role/);

  for (const depth of [65, 5000, 100_000])
    test(`config nested ${depth} deep`, async () => {
      const body = `{"config":{"a":${"[".repeat(depth)}${"]".repeat(depth)}}}`;
      const problem = await refusal("/api/v1/runs", { body });
      expect(problem.status).toBe(400);
      expect(problem.detail).toContain("nested");
    });

  test("an exit code beyond a byte, a status that is no end", async () => {
    for (const body of [{ exit_code: 256 }, { exit_code: -1 }, { status: "RUNNING" }])
      expect((await refusal("/api/v1/runs/1/finish", { body })).status).toBe(400);
  });
});

describe("queries are refused, and say why", () => {
  const f = (path: string, status = 400) =>
    test(path, async () => {
      expect((await refusal(`/api/v1${path}`)).status).toBe(status);
    });
  f("/runs?limit=0");
  f("/runs?limit=1001");
  f("/runs?limit=ten");
  f("/runs?sort=secret");
  f("/runs?status=running");
  f("/runs?after=../x");
  f("/runs/1/points");
  f("/runs/1/points?key=ordered&points=1000000");
  f("/runs/1/points?key=ordered&points=NaN");
  f("/runs/1/points?key=ordered&from=x");
  f("/runs/1/points?key=never", 404);
  f("/runs/1/logs?limit=1000000");
  f("/runs/1/logs?grep=(");
  f("/runs/1/logs?level=LOUD");
  f("/runs/1/logs?since=yesterday");
  f("/live?after=-1");
  f("/runs/1/heartbeat");
  f("/runs/1/heartbeat?client=a%20b");
  f("/runs/none", 404);
  f("/runs/none/metrics", 404);
  f("/runs/none/points?key=a", 404);
  f("/runs/none/logs", 404);
  f("/runs/none/heartbeat?client=a", 404);
  f("/runs/gone", 410);
  f("/runs/gone/metrics", 410);
});

describe("bodies", () => {
  const send = (init: RequestInit & { headers?: Record<string, string> }) =>
    at.app.request("/api/v1/runs/1/records", {
      method: "POST",
      ...init,
      headers: {
        authorization: `Bearer ${at.trust.tokens.admin}`,
        "content-type": "application/json",
        ...init.headers,
      },
    });
  const good = (name: string) => JSON.stringify({ client: name, seq: 1, items: [{ metrics: { a: 1 } }] });
  /** Chunks without end, and how many were taken. */
  function endless(chunk: Uint8Array): { body: ReadableStream; taken: () => number } {
    let taken = 0;
    const body = new ReadableStream({
      pull(controller) {
        taken += chunk.byteLength;
        controller.enqueue(chunk);
      },
    });
    return { body, taken: () => taken };
  }

  test("another content type is 415", async () => {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data",
      "application/jsonp",
      "",
    ])
      expect((await send({ body: good("t"), headers: { "content-type": type } })).status, type).toBe(415);
    const charset = { "content-type": "application/json; charset=utf-8" };
    expect((await send({ body: good("charset"), headers: charset })).status).toBe(200);
  });

  test("a body that says it is too large is refused unread", async () => {
    const { body, taken } = endless(new Uint8Array(65_536));
    const response = await send({ body, headers: { "content-length": String(100 * 1024 ** 2) } });
    expect(response.status).toBe(413);
    expect(taken()).toBeLessThan(1024 ** 2);
  });

  test("a body that doesn't say how large it is is counted", async () => {
    const { body, taken } = endless(new Uint8Array(1024 ** 2));
    expect((await send({ body })).status).toBe(413);
    expect(taken()).toBeLessThan(40 * 1024 ** 2);
  });

  test("gzip and zstd are taken", async () => {
    for (const [encoding, compress] of [
      ["gzip", gzipSync],
      ["zstd", zstdCompressSync],
      ["GZIP", gzipSync],
    ] as const)
      expect(
        (await send({ body: compress(good(`z${encoding}`)), headers: { "content-encoding": encoding } }))
          .status,
      ).toBe(200);
  });

  test("bombs are stopped at the limit, whatever they would become", async () => {
    const zeros = new Uint8Array(256 * 1024 ** 2);
    for (const [encoding, bomb] of [
      ["gzip", gzipSync(zeros)],
      ["zstd", zstdCompressSync(zeros)],
    ] as const) {
      expect(bomb.byteLength).toBeLessThan(1024 ** 2);
      const before = process.memoryUsage().rss;
      expect((await send({ body: bomb, headers: { "content-encoding": encoding } })).status, encoding).toBe(
        413,
      );
      expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 ** 2);
    }
  }, 20_000);

  test("stacked and unknown encodings are 415, damaged ones 400", async () => {
    for (const encoding of ["gzip, gzip", "deflate", "br", "zstd,gzip", "compress"])
      expect(
        (await send({ body: gzipSync("{}"), headers: { "content-encoding": encoding } })).status,
        encoding,
      ).toBe(415);
    for (const encoding of ["gzip", "zstd"]) {
      expect((await send({ body: "no such thing", headers: { "content-encoding": encoding } })).status).toBe(
        400,
      );
      const half = (encoding === "gzip" ? gzipSync : zstdCompressSync)(good("half")).subarray(0, -8);
      expect((await send({ body: half, headers: { "content-encoding": encoding } })).status).toBe(400);
    }
  });

  test("what is no UTF-8 is 400", async () => {
    const body = Buffer.concat([Buffer.from('{"client":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    expect((await send({ body })).status).toBe(400);
  });
});

test("an error that nobody foresaw says nothing of how we are made", async () => {
  const other = createTestCollector();
  other.collector.connection.exec("DROP TABLE writer");
  const response = await other.request("/api/v1/runs", { body: { writer: { client: "c" } } });
  expect(response.status).toBe(500);
  expect(await response.text()).not.toMatch(/writer|table|sql/i);
  expect(other.unforeseen).toHaveLength(1);
  other.unforeseen.length = 0;
  await other.close();
});

test("a method that a path does not have is 405 and says which it has; an unknown path is 404", async () => {
  const ask = async (method: string, path: string) => {
    const answer = await at.request(path, { method });
    return [answer.status, answer.headers.get("allow")];
  };
  expect(await ask("PUT", "/api/v1/runs")).toEqual([405, "GET, POST"]);
  expect(await ask("GET", "/api/v1/runs/1/records")).toEqual([405, "POST"]);
  expect(await ask("POST", "/api/v1/runs/1")).toEqual([405, "GET, PATCH, DELETE"]);
  expect(await ask("GET", "/api/v1/nothing")).toEqual([404, null]);
});
