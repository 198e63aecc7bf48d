import { z } from "zod";
import { CollectorError } from "../error.ts";
import { isLoopbackHost } from "../config.ts";
import { createRoutes, json, route, type App, type Edge } from "./route.ts";

const Stopping = z.object({ status: z.literal("stopping") });

export function shutdownRoutes({ onShutdown }: Edge): App {
  const app = createRoutes();
  route(
    app,
    {
      method: "post",
      path: "/shutdown",
      summary: "End the collector; only from this machine",
      tags: ["collector"],
      responses: { 200: json(Stopping, "It drains and ends") },
    },
    (c) => {
      const remote = c.env?.remote?.replace(/^::ffff:/, "");
      if (remote === undefined || !isLoopbackHost(remote))
        throw new CollectorError("forbidden", "The collector is only ended from its own machine.", {
          hint: "Run `binnacle stop` there.",
        });
      // After this answer is on its way.
      setTimeout(onShutdown, 10);
      return c.json({ status: "stopping" });
    },
  );
  return app;
}
