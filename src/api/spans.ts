import { Appended } from "../metric/schema.ts";
import { listSpans } from "../span/list.ts";
import { recordSpans } from "../span/record.ts";
import { QuerySpans, RecordSpans, SpanPage } from "../span/schema.ts";
import { readBody } from "./body.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, json, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["spans"];

export function spanRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/spans",
      summary: "Record named stretches of time, whole or by one end; answered once they are durable",
      tags,
      params: RunParams,
      body: RecordSpans,
      responses: { 200: json(Appended, "Stored, now or before") },
    },
    async (c) => {
      const run = readRunId(c);
      const input = await readBody(c.req.raw, RecordSpans);
      const appended = await recordSpans(collector, run, input);
      await noteContact(collector, run, input.client);
      return c.json(appended);
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/spans",
      summary: "The spans of a run, by the time of their beginning",
      tags,
      params: RunParams,
      query: QuerySpans,
      responses: { 200: json(SpanPage, "A page of spans") },
    },
    (c) => c.json(listSpans(collector, readRunId(c), readQuery(c, QuerySpans))),
  );

  return app;
}
