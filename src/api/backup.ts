import { backUp } from "../backup/write.ts";
import { bytes, createRoutes, route, type App, type Edge } from "./route.ts";

const TYPE = "application/zip";

/** POST, as a GET is open to whoever may read: this has everything, and keeps the disk at work. */
export function backupRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/backup",
      summary: "Everything the collector keeps, as of one moment, as one zip; tokens are not in it",
      tags: ["collector"],
      responses: { 200: bytes(TYPE, "The backup; it ends early where something fails on the way") },
    },
    async (c) => {
      const backup = await backUp(collector);
      c.env?.keepOpen?.(c.req.raw);
      return new Response(backup, { headers: { "content-type": TYPE } });
    },
  );

  return app;
}
