import { exportRun } from "../archive/export.ts";
import { importRun } from "../archive/import.ts";
import { ImportedRun, ImportRun } from "../archive/schema.ts";
import { CollectorError } from "../error.ts";
import {
  bytes,
  createRoutes,
  json,
  readQuery,
  readRunId,
  route,
  RunParams,
  type App,
  type Edge,
} from "./route.ts";

const tags = ["runs"];
const ARCHIVE_TYPE = "application/zip";

export function archiveRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/export",
      summary: "Everything of a run as one zip: metrics, logs, samples, models, artifacts, config",
      tags,
      params: RunParams,
      responses: { 200: bytes(ARCHIVE_TYPE, "The archive; it ends early where something fails on the way") },
    },
    async (c) => {
      const id = readRunId(c);
      const archive = await exportRun(collector, id);
      if (c.req.method === "HEAD") await archive.cancel();
      c.env?.keepOpen?.(c.req.raw);
      return new Response(c.req.method === "HEAD" ? null : archive, {
        headers: {
          "content-type": ARCHIVE_TYPE,
          "content-disposition": `attachment; filename="run-${id}.zip"`,
        },
      });
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/runs/import",
      summary:
        "Bring in an exported run under its id, or with new_id=true under another; whole or not at all",
      tags,
      query: ImportRun,
      binary: ARCHIVE_TYPE,
      responses: { 201: json(ImportedRun, "The run is there, and this is what it has") },
    },
    async (c) => {
      const { new_id } = readQuery(c, ImportRun);
      const request = c.req.raw;
      const type = request.headers.get("content-type")?.split(";")[0]!.trim().toLowerCase();
      if (type !== ARCHIVE_TYPE || request.headers.has("content-encoding"))
        throw new CollectorError("unsupported", `Only a zip is taken here, as ${ARCHIVE_TYPE}.`, {
          hint: `Send what was exported with Content-Type: ${ARCHIVE_TYPE}, without Content-Encoding.`,
        });
      if (!request.body)
        throw new CollectorError("invalid", "There is no archive in this request.", {
          hint: "Send the zip as the body.",
        });
      c.env?.keepOpen?.(request);
      return c.json(await importRun(collector, request.body, { newId: new_id === "true" }), 201);
    },
  );

  return app;
}
