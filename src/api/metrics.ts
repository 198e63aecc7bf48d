import { appendRecords } from "../metric/append.ts";
import { Appended, AppendRecords } from "../metric/schema.ts";
import { readJson } from "./body.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, json, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["metrics"];

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
    async (c) => {
      const run = readRunId(c);
      const body = await readJson(c.req.raw);
      const appended = await appendRecords(collector, run, body);
      await noteContact(collector, run, (body as { client: string }).client);
      return c.json(appended);
    },
  );

  return app;
}
