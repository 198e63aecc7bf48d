import { z } from "zod";
import { VERSION } from "../version.ts";
import { createRoutes, json, route, type App } from "./route.ts";

const Health = z.object({ status: z.literal("ok"), version: z.string() });

export function healthRoutes(): App {
  const app = createRoutes();
  route(
    app,
    {
      method: "get",
      path: "/healthz",
      summary: "Answers while the collector works; needs no token",
      tags: ["collector"],
      responses: { 200: json(Health, "It works") },
    },
    (c) => c.json({ status: "ok", version: VERSION }),
  );
  return app;
}
