import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { z } from "zod";
import { descriptionOf } from "../src/api/route.ts";
import { registerDevice } from "../src/device/register.ts";
import { appendSamples } from "../src/sample/append.ts";
import { recordEvents } from "../src/sample/event.ts";
import { createTestCollector, type TestCollector, type TestRequest } from "./helpers/collector.ts";
import { DEVICE, facts, gpuValues, machineValues } from "./helpers/device.ts";

/** Made for people in a browser, or for Prometheus; they are no part of the API. */
const PAGES = new Set([
  "GET /metrics",
  "GET /",
  "GET /ui/runs",
  "GET /runs/:id",
  "GET /runs/:id/metrics",
  "GET /runs/:id/logs",
  "GET /runs/:id/hardware",
  "GET /runs/:id/models",
  "GET /runs/:id/artifacts",
  "GET /runs/:id/timeline",
  "GET /ui/runs/:id/files",
  "GET /models",
  "GET /models/:id",
  "GET /models/:id/:version",
  "GET /ui/models",
  "GET /ui/models/:id",
  "GET /ui/models/:id/:version",
  "GET /devices",
  "GET /devices/:id",
  "GET /relay",
  "GET /sources",
  "GET /ui/banner",
  "GET /ui/runs/:id/source",
  "GET /runs/:id/logs.txt",
  "GET /assets/:file",
  "GET /favicon.ico",
  "GET /api/v1/openapi.json",
]);

let at: TestCollector;
beforeAll(() => {
  at = createTestCollector({ relays: true, platform: true, fedml: "on" });
});
afterAll(() => at.close());

interface Operation {
  summary: string;
  operationId: string;
  security: unknown[];
  responses: Record<string, unknown>;
}

async function operations(): Promise<Map<string, Operation>> {
  const document = await at.json("/api/v1/openapi.json");
  const found = new Map<string, Operation>();
  for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Operation>>))
    for (const [method, operation] of Object.entries(methods))
      found.set(`${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}`, operation);
  return found;
}

test("every route is documented, and every documented route is there", async () => {
  const routes = at.app.routes
    .filter(({ method }) => method !== "ALL")
    .map(({ method, path }) => `${method} ${path}`);
  expect(new Set(routes).size).toBe(routes.length);
  const documented = [...(await operations()).keys()];
  expect([...routes].filter((route) => !PAGES.has(route)).sort()).toEqual(documented.sort());
});

test("every reference in the document leads somewhere", async () => {
  const document = await at.json("/api/v1/openapi.json");
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
  const named = new Set(references.map(([, name]) => name!));
  expect([...named].sort()).toEqual(Object.keys(document.components.schemas).sort());
  expect(named.size).toBeGreaterThan(10);
});

test("operations have an id of their own, a summary, a scope and a problem document", async () => {
  const ids = new Set<string>();
  for (const operation of (await operations()).values()) {
    ids.add(operation.operationId);
    expect(operation.summary).not.toBe("");
    expect(operation.security).toBeArray();
    expect(operation.responses).toHaveProperty("default");
  }
  expect(ids.size).toBe((await operations()).size);
});

interface Example extends TestRequest {
  route: string;
  path: string;
  status: number;
}

const record = (seq: number) => ({
  client: "c",
  seq,
  items: [
    { step: 0, time: 5, metrics: { loss: 0.5, odd: "NaN", text: "hi", deep: { a: [1, null] } } },
    { x: "epoch", metrics: { loss: 0.4, epoch: 1 } },
  ],
});

const HI = createHash("sha256").update("hi").digest("hex");
const files = [{ path: "a/hi.txt", size: 2, sha256: HI }];

/** Nobody answers there: that is its state, and no error. */
const DESTINATION = { name: "up", url: "http://127.0.0.1:1", token: "no-such-token" };

/** Real requests, in order; each answer is held against the schema that the document was made from. */
const examples: Example[] = [
  { route: "GET /healthz", path: "/healthz", status: 200 },
  {
    route: "POST /api/v1/runs",
    path: "/api/v1/runs",
    body: { id: "1", writer: { client: "c" } },
    status: 201,
  },
  { route: "POST /api/v1/runs", path: "/api/v1/runs", body: { id: "1", config: { lr: 1 } }, status: 200 },
  { route: "POST /api/v1/runs/:id/records", path: "/api/v1/runs/1/records", body: record(1), status: 200 },
  {
    route: "POST /api/v1/runs/:id/logs",
    path: "/api/v1/runs/1/logs",
    body: { client: "c", seq: 2, items: [{ text: "ERROR: no" }], open: { stdout: "10 %" } },
    status: 200,
  },
  { route: "GET /api/v1/runs", path: "/api/v1/runs?limit=10", status: 200 },
  { route: "GET /api/v1/runs/:id", path: "/api/v1/runs/1", status: 200 },
  {
    route: "PATCH /api/v1/runs/:id",
    path: "/api/v1/runs/1",
    method: "PATCH",
    body: { tags: ["a"], notes: "n" },
    status: 200,
  },
  { route: "GET /api/v1/runs/:id/metrics", path: "/api/v1/runs/1/metrics", status: 200 },
  { route: "GET /api/v1/runs/:id/points", path: "/api/v1/runs/1/points?key=loss", status: 200 },
  { route: "GET /api/v1/runs/:id/points", path: "/api/v1/runs/1/points?key=odd&points=10", status: 200 },
  { route: "GET /api/v1/runs/:id/points", path: "/api/v1/runs/1/points?key=text", status: 200 },
  { route: "GET /api/v1/runs/:id/logs", path: "/api/v1/runs/1/logs", status: 200 },
  { route: "GET /api/v1/devices", path: "/api/v1/devices", status: 200 },
  { route: "GET /api/v1/devices/:id", path: "/api/v1/devices/node1", status: 200 },
  { route: "GET /api/v1/devices/:id/samples", path: `/api/v1/devices/${DEVICE}/samples`, status: 200 },
  { route: "GET /api/v1/devices/:id/events", path: "/api/v1/devices/3f9c/events?from=2000", status: 200 },
  { route: "GET /api/v1/runs/:id/devices", path: "/api/v1/runs/1/devices", status: 200 },
  { route: "POST /api/v1/blobs/missing", path: "/api/v1/blobs/missing", body: { sha256: [HI] }, status: 200 },
  {
    route: "POST /api/v1/blobs/pack",
    path: "/api/v1/blobs/pack",
    method: "POST",
    body: "",
    headers: { "content-type": "application/vnd.binnacle.blobs" },
    status: 200,
  },
  {
    route: "POST /api/v1/blobs/:sha256/upload",
    path: `/api/v1/blobs/${HI}/upload`,
    body: { size: 2, chunks: [HI] },
    status: 200,
  },
  {
    route: "POST /api/v1/blobs/:sha256/commit",
    path: `/api/v1/blobs/${HI}/commit`,
    method: "POST",
    status: 200,
  },
  {
    route: "POST /api/v1/runs/:id/artifacts",
    path: "/api/v1/runs/1/artifacts",
    body: {
      kind: "model",
      name: "m",
      type: "model",
      files,
      metadata: { deep: [1, null] },
      aliases: ["best"],
    },
    status: 201,
  },
  {
    route: "POST /api/v1/runs/:id/artifacts",
    path: "/api/v1/runs/1/artifacts",
    body: { kind: "model", name: "m", type: "model", files },
    status: 200,
  },
  {
    route: "POST /api/v1/artifacts",
    path: "/api/v1/artifacts",
    body: { kind: "artifact", name: "d", type: "dataset", files },
    status: 201,
  },
  {
    route: "POST /api/v1/runs/:id/inputs",
    path: "/api/v1/runs/1/inputs",
    body: { kind: "artifact", name: "d", version: "latest" },
    status: 200,
  },
  { route: "GET /api/v1/runs/:id/artifacts", path: "/api/v1/runs/1/artifacts", status: 200 },
  { route: "GET /api/v1/artifacts", path: "/api/v1/artifacts?kind=model&limit=1", status: 200 },
  { route: "GET /api/v1/artifacts/:id", path: "/api/v1/artifacts/1", status: 200 },
  { route: "GET /api/v1/artifacts/:id/versions", path: "/api/v1/artifacts/1/versions", status: 200 },
  { route: "GET /api/v1/artifacts/:id/versions/:v", path: "/api/v1/artifacts/1/versions/best", status: 200 },
  {
    route: "PATCH /api/v1/artifacts/:id/versions/:v",
    path: "/api/v1/artifacts/1/versions/v1",
    method: "PATCH",
    body: { description: "the first" },
    status: 200,
  },
  {
    route: "GET /api/v1/artifacts/:id/versions/:v/files",
    path: "/api/v1/artifacts/1/versions/v1/files",
    status: 200,
  },
  {
    route: "DELETE /api/v1/artifacts/:id/versions/:v",
    path: "/api/v1/artifacts/1/versions/v1?force=true",
    method: "DELETE",
    status: 200,
  },
  {
    route: "DELETE /api/v1/artifacts/:id",
    path: "/api/v1/artifacts/2?force=true",
    method: "DELETE",
    status: 200,
  },
  {
    route: "POST /api/v1/runs/:id/spans",
    path: "/api/v1/runs/1/spans",
    body: { client: "s", seq: 1, items: [{ name: "train", edge: "1", started: 1, ended: 2 }] },
    status: 200,
  },
  { route: "GET /api/v1/runs/:id/spans", path: "/api/v1/runs/1/spans", status: 200 },
  { route: "GET /api/v1/runs/:id/fedml", path: "/api/v1/runs/1/fedml", status: 200 },
  { route: "POST /api/v1/runs/:id/stop", path: "/api/v1/runs/1/stop", body: {}, status: 200 },
  { route: "POST /api/v1/runs/:id/finish", path: "/api/v1/runs/1/finish", body: {}, status: 200 },
  { route: "DELETE /api/v1/runs/:id", path: "/api/v1/runs/1", method: "DELETE", status: 200 },
  { route: "POST /api/v1/relays", path: "/api/v1/relays", body: DESTINATION, status: 201 },
  { route: "POST /api/v1/relays", path: "/api/v1/relays", body: DESTINATION, status: 200 },
  { route: "GET /api/v1/relays", path: "/api/v1/relays", status: 200 },
  { route: "POST /api/v1/relays/:name/retry", path: "/api/v1/relays/up/retry", method: "POST", status: 200 },
  {
    route: "GET /api/v1/relays/:name/dead-letters",
    path: "/api/v1/relays/up/dead-letters",
    status: 200,
  },
  {
    route: "POST /api/v1/relays/:name/dead-letters",
    path: "/api/v1/relays/up/dead-letters",
    body: { action: "discard" },
    status: 200,
  },
  {
    route: "DELETE /api/v1/relays/:name",
    path: "/api/v1/relays/up?discard=true",
    method: "DELETE",
    status: 200,
  },
  { route: "POST /api/v1/sources", path: "/api/v1/sources", body: { name: "lab" }, status: 201 },
  { route: "GET /api/v1/sources", path: "/api/v1/sources", status: 200 },
  { route: "DELETE /api/v1/sources/:name", path: "/api/v1/sources/lab", method: "DELETE", status: 200 },
  { route: "POST /api/v1/sign-in-codes", path: "/api/v1/sign-in-codes", method: "POST", status: 200 },
  { route: "POST /api/v1/token/rotate", path: "/api/v1/token/rotate", method: "POST", status: 200 },
];

/** Held against their documents elsewhere: streams, files, redirects, the end of the process. */
const NO_JSON = new Set([
  "GET /sign-in",
  "GET /python/",
  "GET /python/:file",
  "GET /api/v1/live",
  "GET /api/v1/devices/live",
  "GET /api/v1/runs/:id/heartbeat",
  "POST /api/v1/shutdown",
  "GET /api/v1/overlay",
  "PUT /api/v1/blobs/:sha256/chunks/:index",
  "GET /api/v1/artifacts/:id/versions/:v/file",
  "GET /api/v1/artifacts/:id/versions/:v/preview",
  "POST /api/v1/artifacts/:id/versions/:v/pack",
  "GET /api/v1/artifacts/:id/versions/:v/zip",
  "POST /api/v1/backup",
  "POST /api/v1/doctor",
  "GET /api/v1/runs/:id/export",
  "POST /api/v1/runs/import",
  // With the token of a source alone.
  "POST /relay/v1/sources/:source/cursor",
  "GET /relay/v1/sources/:source/cursor",
  "POST /relay/v1/sources/:source/positions",
  "POST /relay/v1/sources/:source/batches",
  "POST /relay/v1/sources/:source/history",
  "POST /relay/v1/sources/:source/requeued",
  "POST /relay/v1/sources/:source/content/missing",
  "POST /relay/v1/sources/:source/content/pack",
  "POST /relay/v1/sources/:source/content/blobs/:sha256/upload",
  "PUT /relay/v1/sources/:source/content/blobs/:sha256/chunks/:index",
  "POST /relay/v1/sources/:source/content/blobs/:sha256/commit",
]);

describe("answers keep to the document", () => {
  const schemas = new Map<string, z.ZodType>();
  beforeAll(async () => {
    const { collector } = at;
    const time = Date.now();
    const samples = [
      { subject: "", time, values: machineValues },
      { subject: "GPU-0", time, values: gpuValues },
    ];
    await registerDevice(collector, DEVICE, facts());
    await appendSamples(collector, DEVICE, samples);
    collector.latest.put(DEVICE, samples);
    await recordEvents(collector, DEVICE, [
      { subject: "GPU-0", time: 1000, kind: "gpu.lost", text: "GPU 0 fell off the bus." },
      { subject: "GPU-0", time: 3000, kind: "gpu.xid", text: "Xid 79", detail: { xid: 79 } },
    ]);
    collector.blobs.putSmall([{ sha256: HI, bytes: Buffer.from("hi") }]);
    for (const { method, path, handler } of at.app.routes) {
      const responses = Object.entries(descriptionOf(handler)?.responses ?? {});
      for (const [status, { content = {} }] of responses)
        for (const [type, { schema }] of Object.entries(content))
          schemas.set(`${method} ${path} ${status} ${type}`, schema);
    }
  });

  for (const { route, path, status, ...init } of examples)
    test(`${init.method ?? (init.body === undefined ? "GET" : "POST")} ${path} → ${status}`, async () => {
      const response = await at.request(path, init);
      const text = await response.text();
      expect(response.status, text).toBe(status);
      const schema = schemas.get(`${route} ${status} application/json`);
      expect(schema, `${route} documents no ${status}`).toBeDefined();
      const parsed = schema!.safeParse(JSON.parse(text));
      expect(parsed.error?.issues, text).toBeUndefined();
      // A member that the schema does not name is one that the document hides.
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(parsed.data)));
    });

  test("every route that answers in JSON has an example here", async () => {
    const shown = new Set(examples.map(({ route }) => route));
    const missing = [...(await operations()).keys()].filter(
      (route) => !shown.has(route) && !NO_JSON.has(route),
    );
    expect(missing).toEqual([]);
  });

  test("a refusal is a problem document", async () => {
    const response = await at.request("/api/v1/runs/none");
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    const schema = schemas.get("GET /api/v1/runs/:id default application/problem+json")!;
    expect(schema.safeParse(await response.json()).success).toBe(true);
  });
});
