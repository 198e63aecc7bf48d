import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { needOf } from "../src/api/auth.ts";
import { descriptionOf } from "../src/api/route.ts";
import { Cursor, ENTRIES_TYPE, MAX_BODY_BYTES } from "../src/relay/contract.ts";
import { encodeFrames } from "../src/relay/frame.ts";
import { compress } from "../src/store/zstd.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";
import { contentDigest, fact, okay, problemOf, records, runRow, TestSource } from "./helpers/source.ts";

let clock: { now: number };
let platform: TestCollector;
let source: TestSource;

beforeAll(async () => {
  clock = { now: Date.now() };
  platform = createTestCollector({ platform: true, now: () => clock.now });
});
beforeEach(async () => {
  source = await TestSource.create(platform, `lab-${randomBytes(4).toString("hex")}`);
});
afterAll(() => platform.close());

const SHA = "a".repeat(64);

/** Every route below /relay/v1, with an address of this source. */
const routes = () =>
  platform.app.routes
    .filter(({ method, path, handler }) => {
      return method !== "ALL" && path.startsWith("/relay/v1/") && descriptionOf(handler) !== undefined;
    })
    .map(({ method, path }) => ({
      method,
      path: path.replace(":source", source.id).replace(":sha256", SHA).replace(":index", "0"),
    }));

const created = fact(1, "run.created", "r", runRow());

describe("who may relay", () => {
  test("every route wants the token of a source, and takes no other", async () => {
    expect(routes().length).toBeGreaterThanOrEqual(11);
    const { trust } = platform;
    const revoked = await TestSource.create(platform, "gone");
    await platform.request("/api/v1/sources/gone", { method: "DELETE" });
    const expired = await platform.json("/api/v1/sources", {
      body: { name: "short", expires: clock.now + 1000 },
    });
    clock.now += 1000;
    const wrong = [
      null,
      "",
      "x",
      `bnc_source_${"0".repeat(64)}`,
      `${source.token}0`,
      source.token.toUpperCase(),
      revoked.token,
      expired.token,
    ];
    for (const { method, path } of routes()) {
      expect(needOf(method, path)).toEqual({ scope: "source" });
      for (const token of wrong) {
        const response = await platform.request(path, {
          method,
          token,
          ...(method !== "GET" && { body: {} }),
        });
        expect(`${method} ${path} ${response.status}`).toBe(`${method} ${path} 401`);
        const problem = await response.text();
        if (token) expect(problem).not.toContain(token);
        expect(problem).toContain("binnacle source add");
      }
      for (const token of [
        trust.tokens.admin,
        trust.tokens.read,
        trust.tokens.write,
        trust.tokens.ofRun("r"),
      ]) {
        const { status } = await platform.request(path, {
          method,
          token,
          ...(method !== "GET" && { body: {} }),
        });
        expect(`${method} ${path} ${status}`).toBe(`${method} ${path} 403`);
      }
    }
  });

  test("a source's token reaches nothing else, and nothing is there to be seen", async () => {
    await source.greet(1);
    await source.send(0, 1, [created]);
    const others = platform.app.routes.filter(
      ({ method, path }) => method !== "ALL" && !path.startsWith("/relay/v1/"),
    );
    expect(others.length).toBeGreaterThan(50);
    for (const { method, path } of others) {
      const at = path.replace(/:\w+/g, "1");
      if (needOf(method, at).scope === "none") continue;
      const { status } = await platform.request(at, {
        method,
        token: source.token,
        ...(method !== "GET" && { body: {} }),
      });
      expect(`${method} ${at} ${status}`).toBe(`${method} ${at} 403`);
    }
    // Of the relay's own, GET says the source's own cursor alone.
    const get = await source.request("cursor", { method: "GET" });
    expect(Object.keys(await okay<object>(get)).sort()).toEqual(Object.keys(Cursor.shape).sort());
  });

  test("another source's token does not reach what is under this id", async () => {
    await source.greet(1);
    const other = await TestSource.create(platform, "other");
    const thief = new TestSource(platform, other.token, source.id);
    Object.assign(thief, { nonce: source.nonce, turn: source.turn });
    const tries = [
      thief.request("cursor", { method: "GET" }),
      thief.request("cursor", { json: thief.hello(1) }),
      thief.batch(0, 1, [created]),
      thief.history({ of: "facts" }, 0, 0, []),
      thief.post("requeued", [created]),
      thief.request("positions", { json: { parts: [] }, headers: thief.headers() }),
      thief.request("content/missing", { json: { sha256: [SHA] } }),
      thief.request(`content/blobs/${SHA}/upload`, { json: { size: 1, chunks: [SHA] } }),
    ];
    for (const response of await Promise.all(tries))
      expect(await problemOf(response)).toMatchObject({ status: 403, type: "forbidden" });
    expect(await okay(await source.request("cursor", { method: "GET" }))).toMatchObject({ acked: 0 });
  });

  test("a token that is revoked or expires is worth nothing from that moment on", async () => {
    const { token } = await platform.json("/api/v1/sources", {
      body: { name: "weak", expires: clock.now + 5000 },
    });
    const weak = new TestSource(platform, token);
    await weak.greet(1);
    clock.now += 5000;
    expect((await weak.batch(0, 1, [created])).status).toBe(401);
    await source.greet(1);
    const { name } = (await platform.json("/api/v1/sources")).tokens.at(-1);
    expect(name).toBeDefined();
    const { sources } = await platform.json("/api/v1/sources");
    const own = sources.find(({ id }: { id: string }) => id === source.id);
    await platform.json(`/api/v1/sources/${own.name}`, { method: "DELETE" });
    expect((await source.batch(0, 1, [created])).status).toBe(401);
    expect((await source.greet(1).catch((error: Error) => error.message)) as string).toStartWith("401");
  });

  test("a collector that is no platform has none of it", async () => {
    const plain = createTestCollector();
    expect((await plain.request("/api/v1/sources")).status).toBe(404);
    for (const token of [source.token, plain.trust.tokens.admin])
      expect((await plain.request(`/relay/v1/sources/${source.id}/cursor`, { token })).status).not.toBe(200);
    await plain.close();
  });
});

describe("tokens", () => {
  test("are told once and kept as digests: nothing that is stored or answered has one", async () => {
    const { token } = await platform.json("/api/v1/sources", { body: { name: "once" } });
    expect(token).toMatch(/^bnc_source_[0-9a-f]{64}$/);
    expect(JSON.stringify(await platform.json("/api/v1/sources"))).not.toContain(token.slice(11));
    const rows = platform.collector.connection.prepare("SELECT * FROM source_token").all();
    expect(JSON.stringify(rows)).not.toContain(token.slice(11));
  });

  test("a second one of a name lets the first one go without a gap", async () => {
    const { token } = await platform.json("/api/v1/sources", { body: { name: "turn" } });
    const turning = new TestSource(platform, token);
    await turning.greet(2);
    const next = await platform.json("/api/v1/sources", { body: { name: "turn" } });
    await turning.greet(2);
    clock.now += 1;
    expect(await platform.json("/api/v1/sources/turn?others=true", { method: "DELETE" })).toEqual({
      name: "turn",
      revoked: 1,
    });
    turning.token = next.token;
    await turning.greet(2);
  });

  test("want a name that can stand in an id, and a time to come", async () => {
    for (const body of [
      {},
      { name: "" },
      { name: "." },
      { name: "a b" },
      { name: "../x" },
      { name: "x".repeat(65) },
    ])
      expect((await platform.request("/api/v1/sources", { body })).status).toBe(400);
    const past = { name: "past", expires: clock.now };
    expect((await platform.request("/api/v1/sources", { body: past })).status).toBe(400);
    expect((await platform.request("/api/v1/sources/nobody", { method: "DELETE" })).status).toBe(404);
  });

  test("are the admin's to make and end, and every reader's to list", async () => {
    const { read, write } = platform.trust.tokens;
    for (const token of [read, write]) {
      expect((await platform.request("/api/v1/sources", { token, body: { name: "x" } })).status).toBe(403);
      expect((await platform.request("/api/v1/sources/x", { token, method: "DELETE" })).status).toBe(403);
    }
    expect((await platform.request("/api/v1/sources", { token: read })).status).toBe(200);
  });
});

describe("bodies", () => {
  const post = (body: Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    source.request("batches", {
      body,
      headers: {
        ...source.headers(),
        "content-type": ENTRIES_TYPE,
        "content-digest": contentDigest(body),
        "idempotency-key": '"1/1-1"',
        ...headers,
      },
    });
  const frames = () => encodeFrames([created]);
  beforeEach(() => source.greet(1));

  test("are taken as they are, behind zstd and behind gzip", async () => {
    expect(await okay(await post(frames()))).toEqual({ acked: 1 });
    const zstd = compress(encodeFrames([{ ...created, seq: 2 }])) as Uint8Array<ArrayBuffer>;
    expect(
      await okay(await post(zstd, { "content-encoding": "zstd", "idempotency-key": '"1/2-2"' })),
    ).toEqual({ acked: 2 });
    const gzip = gzipSync(encodeFrames([{ ...created, seq: 3 }])) as Uint8Array<ArrayBuffer>;
    expect(
      await okay(await post(gzip, { "content-encoding": "gzip", "idempotency-key": '"1/3-3"' })),
    ).toEqual({ acked: 3 });
  });

  test("are refused by what is wrong with them, and nothing of them is here", async () => {
    const before = platform.collector.journal.bounds().last;
    const bomb = compress(new Uint8Array(MAX_BODY_BYTES + 1)) as Uint8Array<ArrayBuffer>;
    const gzipBomb = gzipSync(new Uint8Array(MAX_BODY_BYTES + 1)) as Uint8Array<ArrayBuffer>;
    const two = new Uint8Array([
      ...compress(new Uint8Array(8)),
      ...compress(new Uint8Array(MAX_BODY_BYTES)),
    ]) as Uint8Array<ArrayBuffer>;
    const garbage = new Uint8Array(randomBytes(5000));
    const cases: [number, string, Promise<Response>][] = [
      [413, "too-large", post(bomb, { "content-encoding": "zstd" })],
      [413, "too-large", post(gzipBomb, { "content-encoding": "gzip" })],
      [413, "too-large", post(two, { "content-encoding": "zstd" })],
      [413, "too-large", post(frames(), { "content-length": String(MAX_BODY_BYTES + 1) })],
      [415, "unsupported", post(frames(), { "content-encoding": "br" })],
      [415, "unsupported", post(frames(), { "content-encoding": "gzip, zstd" })],
      [415, "unsupported", post(frames(), { "content-type": "application/json" })],
      [400, "invalid", post(garbage)],
      [400, "invalid", post(garbage, { "content-encoding": "zstd" })],
      [400, "invalid", post(garbage, { "content-encoding": "gzip" })],
      [400, "invalid", post(frames().slice(0, -3))],
      [503, "busy", post(frames(), { "content-digest": contentDigest(garbage) })],
      [400, "invalid", post(frames(), { "content-digest": "" })],
      [400, "invalid", post(frames(), { "content-digest": "md5=:AAAA:" })],
      [400, "invalid", post(frames(), { "idempotency-key": "1/1-1" })],
      [400, "invalid", post(frames(), { "idempotency-key": '"1/0-1"' })],
      [400, "invalid", post(frames(), { "idempotency-key": '"2/1-1"' })],
      [400, "invalid", post(frames(), { "idempotency-key": '"1/1-99999999999999999"' })],
      [400, "invalid", post(frames(), { "idempotency-key": '"1/9-1"' })],
      [400, "invalid", post(frames(), { "x-relay-nonce": "../../etc" })],
      [400, "invalid", post(frames(), { "x-relay-epoch": "NaN" })],
      [400, "invalid", post(frames(), { "x-relay-turn": "-1" })],
      [400, "invalid", post(frames(), { "x-relay-path": "me" })],
      [400, "invalid", post(frames(), { "x-relay-path": Array(65).fill(source.id).join(",") })],
    ];
    for (const [status, type, response] of cases)
      expect(await problemOf(await response)).toMatchObject({ status, type });
    expect(platform.collector.journal.bounds().last).toBe(before);
    expect(await source.send(0, 1, [created])).toBe(1);
  }, 60_000);

  test("condemn entries only where there are some: of a packing that is not as its header says that says nothing", async () => {
    const zstd = compress(frames()) as Uint8Array<ArrayBuffer>;
    const cases: [string | undefined, Promise<Response>][] = [
      ["unreadable", post(frames().slice(0, -3))],
      [undefined, post(zstd)],
      [undefined, post(zstd.slice(0, 5))],
      [undefined, post(zstd, { "content-encoding": "gzip" })],
      [undefined, post(frames(), { "content-encoding": "zstd" })],
    ];
    for (const [body, response] of cases) {
      const problem = await problemOf(await response);
      expect({ type: problem.type, body: problem.body }).toEqual({ type: "invalid", body });
    }
  });

  test("a path that is none of a source's is refused before anything is looked up", async () => {
    for (const id of ["x", "..", "a".repeat(33), "A".repeat(32), `${source.id}%2f..`]) {
      const at = new TestSource(platform, source.token, id);
      expect([400, 404]).toContain((await at.request("cursor", { json: at.hello(0) })).status);
    }
  });

  test("a greeting that makes no sense is refused", async () => {
    const says = async (more: object) =>
      problemOf(await source.request("cursor", { json: source.hello(1, more) }));
    for (const more of [
      { epoch: 0 },
      { epoch: 1e12 },
      { nonce: "x" },
      { last: -1 },
      { last: 1.5 },
      { path: [] },
      { path: ["x"] },
      { host: "x".repeat(300) },
      { openings: [{ nonce: "x", last: 1 }] },
      { openings: Array.from({ length: 301 }, () => ({ nonce: "a".repeat(32), last: 1 })) },
      { sent_at: "now" },
    ])
      expect(await says(more)).toMatchObject({ status: 400, type: "invalid" });
  });

  test("what its clock says is told as a difference, and orders nothing", async () => {
    const far = clock.now - 10 * 365 * 86_400_000;
    await source.greet(1, { sent_at: far });
    const { sources } = await platform.json("/api/v1/sources");
    const own = sources.find(({ id }: { id: string }) => id === source.id);
    expect(own.skew).toBe(clock.now - far);
    expect(Date.parse(own.last_seen)).toBe(clock.now);
  });
});

test("what is answered is what the document says", async () => {
  const bytes = randomBytes(100);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const pack = Buffer.concat([Buffer.from(sha256, "hex"), Buffer.from([100, 0, 0, 0]), bytes]);
  const post = (path: string, json: object) => source.request(path, { json, headers: source.headers() });
  const tries: [string, () => Promise<Response>][] = [
    ["POST cursor", () => source.request("cursor", { json: source.hello(1) })],
    ["GET cursor", () => source.request("cursor", { method: "GET" })],
    ["POST batches", () => source.batch(0, 1, [{ ...created, run: "told" }])],
    ["POST positions", () => post("positions", { parts: [{ of: "logs", run: "told" }] })],
    ["POST history", () => source.history({ of: "facts" }, 0, 0, [], { acked: 1 })],
    ["POST requeued", () => source.post("requeued", [created])],
    ["POST content/missing", () => post("content/missing", { sha256: [sha256] })],
    [
      "POST content/pack",
      () =>
        source.request("content/pack", {
          body: new Uint8Array(pack),
          headers: { "content-type": "application/vnd.binnacle.blobs" },
        }),
    ],
    [
      "POST content/blobs/:sha256/upload",
      () => post(`content/blobs/${sha256}/upload`, { size: 100, chunks: [sha256] }),
    ],
    ["POST content/blobs/:sha256/commit", () => post(`content/blobs/${sha256}/commit`, {})],
  ];
  for (const [name, attempt] of tries) {
    const [method, path] = name.split(" ");
    const at = `/relay/v1/sources/:source/${path}`;
    const handler = platform.app.routes.find((one) => one.method === method && one.path === at)!.handler;
    const response = await attempt();
    const answered = descriptionOf(handler)!.responses[String(response.status)];
    expect(answered, `${name} ${response.status}`).toBeDefined();
    const parsed = answered!.content!["application/json"]!.schema.safeParse(await response.json());
    expect(parsed.error?.issues, name).toBeUndefined();
  }
});

describe("history", () => {
  beforeEach(() => source.greet(10));
  const held = (run: string, more: object = {}) =>
    fact(0, "run.held", run, {
      id: run,
      row: { ...runRow("held"), deletedAtSource: null },
      writers: [],
      series: [
        { key: "b", rank: 0, x: null, axis: false, first: -2 },
        { key: "loss", rank: 0, x: null, axis: false, first: -1 },
      ],
      uses: [],
      ...more,
    });
  const id = () => `h-${source.id.slice(0, 8)}`;
  const part = () => ({ of: "metrics", run: id() }) as const;
  const piece = (ordinal: number, values: number[]) => records(0, id(), { ordinal, values, client: null });

  test("states what is; said twice it changes nothing", async () => {
    const facts = { of: "facts" } as const;
    await okay(await source.history(facts, 0, 0, [held(id())]));
    const { last } = platform.collector.journal.bounds();
    await okay(await source.history(facts, 0, 0, [held(id())]));
    expect(platform.collector.journal.bounds().last).toBe(last);
    const run = await platform.json(`/api/v1/runs/${id()}`);
    expect(run).toMatchObject({ name: "held", status: "RUNNING" });
  });

  test("goes on where a part stands, passes over what is missing, and takes what overlaps once", async () => {
    await okay(await source.history({ of: "facts" }, 0, 0, [held(id())]));
    expect(await source.positions([part(), { of: "logs", run: id() }])).toEqual([0, 1]);
    const first = await source.history(part(), 0, 3, [piece(0, [1, 2, 3])]);
    expect(await okay(first)).toEqual({ position: 3 });
    const overlap = await source.history(part(), 0, 5, [piece(0, [1, 2, 3, 4, 5])]);
    expect(await okay(overlap)).toEqual({ position: 5 });
    expect(await okay(await source.history(part(), 5, 9, []))).toEqual({ position: 9 });
    expect(await okay(await source.history(part(), 9, 10, [piece(9, [10])]))).toEqual({ position: 10 });
    const { points } = await platform.json(`/api/v1/runs/${id()}/points?key=loss`);
    expect(points.map(([, value]: [number, number]) => value)).toEqual([1, 2, 3, 4, 5, 10]);
    expect(await problemOf(await source.history(part(), 12, 13, []))).toMatchObject({
      status: 409,
      type: "sequence-gap",
      expected: 10,
    });
    // The journal goes on behind it, once all has come.
    const early = await source.batch(0, 4, [records(4, id(), { ordinal: 10, values: [11] })]);
    expect(await problemOf(early)).toMatchObject({ status: 422, type: "unknown-run" });
    await source.whole(id());
    await source.send(0, 4, [records(4, id(), { ordinal: 10, values: [11] })]);
    expect(await source.positions([part()])).toEqual([11]);
  });

  test("is refused once the cursor has moved: what was true then may be so no more", async () => {
    await source.send(0, 1, []);
    const late = await source.history({ of: "facts" }, 0, 0, [held(id())], { acked: 0 });
    expect(await problemOf(late)).toMatchObject({ status: 409, type: "sequence-gap" });
    expect((await platform.request(`/api/v1/runs/${id()}`)).status).toBe(404);
  });

  test("names every bad frame of a piece, and takes none of it", async () => {
    const facts = { of: "facts" } as const;
    const frames = [held("../x"), held(id()), piece(0, [1]), fact(0, "device.held", "device:x", {})];
    const refused = await problemOf(await source.history(facts, 0, 0, frames));
    expect(refused).toMatchObject({ status: 400, type: "invalid" });
    const { rejected } = refused as unknown as { rejected: { index: number; type: string }[] };
    expect(rejected.map(({ index }) => index)).toEqual([0, 2, 3]);
    expect((await platform.request(`/api/v1/runs/${id()}`)).status).toBe(404);
    await okay(await source.history(facts, 0, 0, [frames[1]!]));
  });

  test("of a run that is not here asks for its facts first", async () => {
    expect(await problemOf(await source.history(part(), 0, 1, [piece(0, [1])]))).toMatchObject({
      status: 422,
      type: "unknown-run",
      run: id(),
    });
  });

  test("what was refused once is taken when it is sent again, each once", async () => {
    await okay(await source.history({ of: "facts" }, 0, 0, [held(id())]));
    await source.whole(id());
    await source.send(0, 6, [records(6, id(), { ordinal: 2, values: [3] })]);
    const frames = [
      records(5, id(), { ordinal: 0, values: [1, 2] }),
      fact(4, "run.changed", id(), { status: "X" }),
    ];
    for (let time = 1; time <= 2; time++) {
      const answer = await okay<{ rejected: { index: number }[] }>(await source.post("requeued", frames));
      expect(answer.rejected.map(({ index }) => index)).toEqual([1]);
    }
    const { points } = await platform.json(`/api/v1/runs/${id()}/points?key=loss`);
    expect(points.map(([, value]: [number, number]) => value)).toEqual([3, 1, 2]);
    // What comes then goes behind it.
    await source.send(6, 7, [records(7, id(), { ordinal: 3, values: [4] })]);
    const after = await platform.json(`/api/v1/runs/${id()}/points?key=loss`);
    expect(after.points.map(([, value]: [number, number]) => value)).toEqual([3, 1, 2, 4]);
  });
});
