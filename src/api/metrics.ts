import { z } from "zod";
import type { Collector } from "../collector.ts";
import { appendRecords } from "../metric/append.ts";
import { listMetrics, queryBuckets, streamPoints } from "../metric/query.ts";
import { Appended, AppendRecords, Buckets, MetricSummary, Points, QueryPoints } from "../metric/schema.ts";
import { readJson } from "./body.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, json, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["metrics"];
const MetricList = z.object({ run: z.string(), metrics: z.array(MetricSummary) });

export function metricRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/records",
      summary: "Append records; answered once they are durable",
      tags,
      params: RunParams,
      body: AppendRecords,
      responses: { 200: json(Appended, "Stored, now or before") },
    },
    (c) => takeRecords(collector, readRunId(c), c.req.raw),
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/metrics",
      summary: "The metrics of a run, in the order of their first appearance",
      tags,
      params: RunParams,
      responses: { 200: json(MetricList, "Its metrics") },
    },
    async (c) => c.json(await listMetrics(collector, readRunId(c))),
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/points",
      summary: "Every point of a metric, or buckets for a chart where `points` bounds them",
      tags,
      params: RunParams,
      query: QueryPoints,
      responses: { 200: json(z.union([Points, Buckets]), "Points without `points`, else buckets") },
    },
    async (c) => {
      const run = readRunId(c);
      const { points, ...query } = readQuery(c, QueryPoints);
      if (points !== undefined) return c.json(await queryBuckets(collector, run, { ...query, points }));
      const body = streamPoints(collector, run, query);
      return c.body(body, 200, { "content-type": "application/json" });
    },
  );

  return app;
}

/** What is asked thousands of times a second; app.ts leads it here past the router. */
export async function takeRecords(collector: Collector, run: string, request: Request): Promise<Response> {
  const body = await readJson(request);
  const { acked } = await appendRecords(collector, run, body);
  await noteContact(collector, run, (body as { client: string }).client);
  return new Response(`{"acked":${acked}}`, { headers: { "content-type": "application/json" } });
}
