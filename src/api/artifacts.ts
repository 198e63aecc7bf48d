import { z } from "zod";
import { listAnnounced } from "../artifact/announce.ts";
import { deleteArtifact, deleteVersion } from "../artifact/delete.ts";
import { getArtifactByName, getVersion, resolveVersion } from "../artifact/find.ts";
import { listArtifacts, listRunArtifacts, listVersions } from "../artifact/list.ts";
import { logArtifact } from "../artifact/log.ts";
import {
  Artifact,
  ArtifactPage,
  ArtifactVersion,
  LogArtifact,
  LoggedArtifact,
  QueryArtifacts,
  QueryVersions,
  RunArtifacts,
  SetVersion,
  UseArtifact,
  VersionPage,
} from "../artifact/schema.ts";
import { setVersion } from "../artifact/set.ts";
import { useArtifact } from "../artifact/use.ts";
import { CollectorError } from "../error.ts";
import { idIn, numbersOf, pageOf, VersionParams, versionIn } from "./artifact-params.ts";
import { readBody } from "./body.ts";
import { createRoutes, json, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["artifacts"];
const ArtifactParams = VersionParams.pick({ id: true });
const Delete = z.object({ force: z.enum(["true", "false"]).default("false") });
const Deleted = z.object({ deleted: z.string() });

export function artifactRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/artifacts",
      summary: "Log a model or an artifact as a run's: a new version, or the newest if it has the same files",
      tags,
      params: RunParams,
      body: LogArtifact,
      responses: {
        200: json(LoggedArtifact, "The version that has these files already"),
        201: json(LoggedArtifact, "The new version"),
      },
    },
    async (c) => {
      const run = readRunId(c);
      const logged = await logArtifact(collector, run, await readBody(c.req.raw, LogArtifact));
      return c.json(logged, logged.is_new ? 201 : 200);
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/artifacts",
      summary: "Log a model or an artifact that no run made",
      tags,
      body: LogArtifact,
      responses: {
        200: json(LoggedArtifact, "The version that has these files already"),
        201: json(LoggedArtifact, "The new version"),
      },
    },
    async (c) => {
      const logged = await logArtifact(collector, null, await readBody(c.req.raw, LogArtifact));
      return c.json(logged, logged.is_new ? 201 : 200);
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/inputs",
      summary: "Note that a run uses a version; its token may then read that version",
      tags,
      params: RunParams,
      body: UseArtifact,
      responses: { 200: json(ArtifactVersion, "The version") },
    },
    async (c) => {
      const run = readRunId(c);
      const { kind, name, version, source } = await readBody(c.req.raw, UseArtifact);
      const { id } = await getArtifactByName(collector, kind, name, source);
      return c.json(await useArtifact(collector, run, id, await resolveVersion(collector, id, version)));
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/artifacts",
      summary: "The versions that a run logged, those it used, and those whose bytes are missing",
      tags,
      params: RunParams,
      responses: { 200: json(RunArtifacts, "Both, in the order in which it did so") },
    },
    async (c) => {
      const run = readRunId(c);
      const all = (await listRunArtifacts(collector, run)).map(({ role, time, origin, version }) => ({
        role,
        shown: { ...version, time, origin },
      }));
      const with_ = (role: "output" | "input") =>
        all.filter((each) => each.role === role).map(({ shown }) => shown);
      const announced = listAnnounced(collector, run);
      return c.json({ run, outputs: with_("output"), inputs: with_("input"), announced });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts",
      summary: "Models and artifacts with their newest version, the last updated first",
      tags,
      query: QueryArtifacts,
      responses: { 200: json(ArtifactPage, "A page of them") },
    },
    async (c) => {
      const query = readQuery(c, QueryArtifacts);
      const found = await listArtifacts(collector, { ...query, limit: query.limit + 1 });
      const { page, last } = pageOf(found, query.limit);
      return c.json({ artifacts: page, next: last?.id ?? null });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}",
      summary: "One model or artifact with its newest version",
      tags,
      params: ArtifactParams,
      responses: { 200: json(Artifact, "It") },
    },
    async (c) => {
      const [found] = await listArtifacts(collector, { id: idIn(c) });
      if (found) return c.json(found);
      throw new CollectorError("not-found", "There is no such model or artifact.", {
        hint: "It may have been deleted.",
      });
    },
  );

  route(
    app,
    {
      method: "delete",
      path: "/artifacts/{id}",
      summary: "Delete a name with all its versions; with force=true where an alias or a run refers to one",
      tags,
      params: ArtifactParams,
      query: Delete,
      responses: { 200: json(Deleted, "It is gone; bytes that nothing else refers to follow") },
    },
    async (c) => {
      const id = idIn(c);
      const { force } = readQuery(c, Delete);
      await deleteArtifact(collector, id, { force: force === "true" });
      return c.json({ deleted: String(id) });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions",
      summary: "Its versions, the newest first, or the one that an alias leads to",
      tags,
      params: ArtifactParams,
      query: QueryVersions,
      responses: { 200: json(VersionPage, "A page of them") },
    },
    async (c) => {
      const id = idIn(c);
      const { alias, limit, after } = readQuery(c, QueryVersions);
      if (alias !== undefined) {
        const version = await getVersion(collector, id, await resolveVersion(collector, id, alias));
        return c.json({ versions: [version], next: null });
      }
      const before = after === undefined ? undefined : Number(after.slice(1));
      const found = await listVersions(collector, id, { limit: limit + 1, ...(before && { before }) });
      const { page, last } = pageOf(found, limit);
      return c.json({ versions: page, next: last?.version ?? null });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/artifacts/{id}/versions/{v}",
      summary: "One version",
      tags,
      params: VersionParams,
      responses: { 200: json(ArtifactVersion, "The version") },
    },
    async (c) => c.json(await versionIn(collector, c)),
  );

  route(
    app,
    {
      method: "patch",
      path: "/artifacts/{id}/versions/{v}",
      summary: "Change its description, metadata or aliases; an alias moves here from where it was",
      tags,
      params: VersionParams,
      body: SetVersion,
      responses: { 200: json(ArtifactVersion, "The version as it is now") },
    },
    async (c) => {
      const change = await readBody(c.req.raw, SetVersion);
      const { id, number } = numbersOf(await versionIn(collector, c));
      return c.json(await setVersion(collector, id, number, change));
    },
  );

  route(
    app,
    {
      method: "delete",
      path: "/artifacts/{id}/versions/{v}",
      summary: "Delete a version; with force=true one that has an alias or is used, too",
      tags,
      params: VersionParams,
      query: Delete,
      responses: { 200: json(Deleted, "It is gone, and its number stays taken") },
    },
    async (c) => {
      const { force } = readQuery(c, Delete);
      const version = await versionIn(collector, c);
      const { id, number } = numbersOf(version);
      await deleteVersion(collector, id, number, { force: force === "true" });
      return c.json({ deleted: version.version });
    },
  );

  return app;
}
