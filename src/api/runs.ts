import { z } from "zod";
import { CollectorError } from "../error.ts";
import { createRun } from "../run/create.ts";
import { toRun } from "../run/change.ts";
import { deleteRun } from "../run/delete.ts";
import { findRun, getRow, getRunDetail } from "../run/find.ts";
import { finishRun } from "../run/finish.ts";
import { listRuns } from "../run/list.ts";
import {
  CreatedRun,
  CreateRun,
  FinishRun,
  ListRuns,
  Run,
  RunDetail,
  RunPage,
  SetRun,
  StopRun,
} from "../run/schema.ts";
import { setRun } from "../run/set.ts";
import { stopRun } from "../run/stop.ts";
import { readBody } from "./body.ts";
import { createRoutes, json, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const tags = ["runs"];
const flag = z.enum(["true", "false"]).default("false");
const DeleteRun = z.object({
  force: flag,
  /** On the platforms that it was relayed to, too. */
  upstream: flag,
});
const Deleted = z.object({ deleted: z.string() });

export function runRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/runs",
      summary: "Create a run, join a live one, or resume one that has ended",
      tags,
      body: CreateRun,
      responses: {
        200: json(CreatedRun, "The run that was there: joined or resumed"),
        201: json(CreatedRun, "The new run"),
      },
    },
    async (c) => {
      const input = await readBody(c.req.raw, CreateRun);
      const access = c.var.access;
      if (access?.scope === "run" && access.run !== input.id)
        throw new CollectorError("forbidden", `This token is for run ${access.run} alone.`, {
          hint: "Give that run's id, or use another token.",
        });
      const { created, run } = await createRun(collector, input);
      return c.json(run, created ? 201 : 200);
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/runs",
      summary: "List runs, newest first",
      tags,
      query: ListRuns,
      responses: { 200: json(RunPage, "A page of runs") },
    },
    async (c) => c.json(await listRuns(collector, readQuery(c, ListRuns))),
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}",
      summary: "One run; a unique beginning of its id will do",
      tags,
      params: RunParams,
      responses: { 200: json(RunDetail, "The run") },
    },
    async (c) => {
      // What a token for one run names is that run, not one whose id begins so.
      const find = c.var.access?.scope === "run" ? getRow : findRun;
      const row = await find(collector, readRunId(c));
      return c.json(await getRunDetail(collector, row));
    },
  );

  route(
    app,
    {
      method: "patch",
      path: "/runs/{id}",
      summary: "Change name, project, config, tags or notes",
      tags,
      params: RunParams,
      body: SetRun,
      responses: { 200: json(RunDetail, "The run as it is now") },
    },
    async (c) => {
      const input = await readBody(c.req.raw, SetRun);
      return c.json(await getRunDetail(collector, await setRun(collector, readRunId(c), input)));
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/finish",
      summary: "Say that a writer, or the whole run, is done",
      tags,
      params: RunParams,
      body: FinishRun,
      responses: { 200: json(Run, "The run as it is now: live while other writers go on") },
    },
    async (c) => {
      const input = await readBody(c.req.raw, FinishRun);
      return c.json(toRun(collector, await finishRun(collector, readRunId(c), input)));
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/runs/{id}/stop",
      summary: "Ask a run's writers to stop; where none listens the run is KILLED at once",
      tags,
      params: RunParams,
      body: StopRun,
      responses: { 200: json(Run, "STOPPING, or the status it ended with") },
    },
    async (c) => {
      const input = await readBody(c.req.raw, StopRun);
      return c.json(toRun(collector, await stopRun(collector, readRunId(c), input)));
    },
  );

  route(
    app,
    {
      method: "delete",
      path: "/runs/{id}",
      summary:
        "Delete a run that has ended; with force=true a live one too, with upstream=true on platforms, too",
      tags,
      params: RunParams,
      query: DeleteRun,
      responses: { 200: json(Deleted, "It is gone, and its id stays taken") },
    },
    async (c) => {
      const id = readRunId(c);
      const { force, upstream } = readQuery(c, DeleteRun);
      await deleteRun(collector, id, force === "true", upstream === "true");
      return c.json({ deleted: id });
    },
  );

  return app;
}
