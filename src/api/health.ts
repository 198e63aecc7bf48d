import { z } from "zod";
import type { Collector } from "../collector.ts";
import { VERSION } from "../version.ts";
import { createRoutes, json, route, type App } from "./route.ts";

export const Health = z.object({
  status: z
    .enum(["ok", "disk-full"])
    .describe("disk-full: it works, but refuses records and logs until there is room"),
  version: z.string(),
});

export function healthRoutes({ quota }: Collector): App {
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
    (c) => c.json({ status: quota.status().refusing === null ? "ok" : "disk-full", version: VERSION }),
  );
  return app;
}
