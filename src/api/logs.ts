import { appendLogs } from "../log/append.ts";
import { queryLogs } from "../log/query.ts";
import { AppendLogs, LogPage, QueryLogs } from "../log/schema.ts";
import { Appended } from "../metric/schema.ts";
import { readBody } from "./body.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, json, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["logs"];

export function logRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/logs",
      summary: "Append lines of output; answered once they are durable",
      tags,
      params: RunParams,
      body: AppendLogs,
      responses: { 200: json(Appended, "Stored, now or before") },
    },
    async (c) => {
      const run = readRunId(c);
      const input = await readBody(c.req.raw, AppendLogs);
      const appended = await appendLogs(collector, run, input);
      await noteContact(collector, run, input.client);
      return c.json(appended);
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/logs",
      summary: "Read lines, filtered and paged by line number",
      tags,
      params: RunParams,
      query: QueryLogs,
      responses: { 200: json(LogPage, "Lines, ascending") },
    },
    async (c) => c.json(await queryLogs(collector, readRunId(c), readQuery(c, QueryLogs))),
  );

  return app;
}
