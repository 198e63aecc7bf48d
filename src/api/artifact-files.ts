import { z } from "zod";
import { getFile, getFiles, listFiles } from "../artifact/find.ts";
import { markPending } from "../artifact/pending.ts";
import { previewFile } from "../artifact/preview.ts";
import { FilePage, QueryFile, QueryFiles, QueryPack } from "../artifact/schema.ts";
import { exportVersion } from "../archive/export-version.ts";
import { PACK_TYPE } from "../blob/schema.ts";
import { CollectorError } from "../error.ts";
import { numbersOf, pageOf, VersionParams, versionIn } from "./artifact-params.ts";
import { readBody } from "./body.ts";
import { attachment, download, downloadPack } from "../blob/download.ts";
import { bytes, createRoutes, json, readQuery, route, type App, type Edge } from "./route.ts";

const tags = ["artifacts"];
const ZIP_TYPE = "application/zip";

/** The files of versions: their list, and their bytes. */
export function artifactFileRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions/{v}/files",
      summary: "The files of a version, by path",
      tags,
      params: VersionParams,
      query: QueryFiles,
      responses: { 200: json(FilePage, "A page of them") },
    },
    async (c) => {
      const { id, number } = numbersOf(await versionIn(collector, c));
      const { limit, after } = readQuery(c, QueryFiles);
      const found = await listFiles(collector, id, number, { limit: limit + 1, ...(after && { after }) });
      const { page, last } = pageOf(found, limit);
      return c.json({ files: markPending(collector, page), next: last?.path ?? null });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions/{v}/file",
      summary: "Download a file; Range, If-Range and If-None-Match are understood, the tag is its digest",
      tags,
      params: VersionParams,
      query: QueryFile,
      responses: {
        200: bytes("application/octet-stream", "Its bytes"),
        206: bytes("application/octet-stream", "A part of them"),
        304: { description: "They are what the tag says" },
        416: { description: "They end before that range" },
      },
    },
    async (c) => {
      const { id, number } = numbersOf(await versionIn(collector, c));
      const { path } = readQuery(c, QueryFile);
      return download(c.req.raw, collector.blobs, await getFile(collector, id, number, path));
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/artifacts/{id}/versions/{v}/pack",
      summary:
        "Download many small files at once: each as digest (32 bytes), length (32 bits, little endian), bytes",
      tags,
      params: VersionParams,
      body: QueryPack,
      responses: { 200: bytes(PACK_TYPE, "The files, in the order of their paths in the request") },
    },
    async (c) => {
      const { id, number } = numbersOf(await versionIn(collector, c));
      const { paths } = await readBody(c.req.raw, QueryPack);
      return downloadPack(collector.blobs, getFiles(collector, id, number, paths));
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions/{v}/zip",
      summary: "Download all files of a version as one zip, in a folder of its name",
      tags,
      params: VersionParams,
      responses: { 200: bytes(ZIP_TYPE, "The zip; it ends early where something fails on the way") },
    },
    async (c) => {
      const version = await versionIn(collector, c);
      c.env?.keepOpen?.(c.req.raw);
      const body = c.req.method === "HEAD" ? null : exportVersion(collector, version);
      return new Response(body, {
        headers: {
          "content-type": ZIP_TYPE,
          "content-disposition": attachment(`${version.name}-${version.version}.zip`),
        },
      });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions/{v}/preview",
      summary:
        "The beginning of a text, the list of files in a zip, or a picture; of all else nothing is shown",
      tags,
      params: VersionParams,
      query: QueryFile,
      responses: {
        200: {
          description:
            "Text as text/plain, at most 256 KiB, with how much follows in Binnacle-Cut; pictures whole",
          content: Object.fromEntries(
            ["text/plain", "image/png", "image/jpeg", "image/gif", "image/webp"].map((type) => [
              type,
              { schema: z.string() },
            ]),
          ),
        },
      },
    },
    async (c) => {
      const { id, number } = numbersOf(await versionIn(collector, c));
      const { path } = readQuery(c, QueryFile);
      const preview = await previewFile(collector, id, number, path);
      if (preview.kind === "none")
        throw new CollectorError(
          "unsupported",
          "This file is neither text nor a picture that can be shown.",
          {
            hint: "Download it.",
          },
        );
      if (preview.kind === "image")
        return c.body(preview.body, 200, {
          "content-type": preview.type,
          "content-length": String(preview.size),
        });
      return c.body(preview.text, 200, {
        "content-type": "text/plain; charset=utf-8",
        ...(!preview.isWhole && { "binnacle-cut": String(preview.size) }),
      });
    },
  );

  return app;
}
