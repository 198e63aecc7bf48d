import { z } from "zod";
import { CollectorError } from "../error.ts";
import { RunId } from "../run/schema.ts";
import { createRoutes, json, readRunId, route, RunParams, type App } from "./route.ts";

export const FedmlEnvironment = z
  .object({ run: RunId, env: z.record(z.string(), z.string()) })
  .meta({ id: "FedmlEnvironment" });

/** The variables for a client that reaches us at this origin; undefined: FedML's clients are not served. */
export type FedmlEnv = ((run: string, origin: string) => Record<string, string>) | undefined;

/** The variables hold a secret that writes: a run's own token gets that run's, and nobody else's. */
export function fedmlRoutes(env: FedmlEnv): App {
  const app = createRoutes();
  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/fedml",
      summary:
        "What lets FedML's unmodified client track this run here: variables for its environment, with a secret",
      tags: ["runs"],
      params: RunParams,
      responses: { 200: json(FedmlEnvironment, "The variables; the run need not exist yet") },
    },
    (c) => {
      const run = readRunId(c);
      if (!env)
        throw new CollectorError("not-found", "This collector does not serve FedML's clients.", {
          hint: "It was started with --fedml off.",
        });
      const { protocol, host } = new URL(c.req.url);
      return c.json({ run, env: env(run, `${protocol}//${c.req.header("host") ?? host}`) });
    },
  );
  return app;
}
