import { gzipSync } from "node:zlib";
import { z } from "zod";
import { createOverlay, QueryOverlay } from "../metric/overlay.ts";
import { zstdCompress } from "../runtime.ts";
import { fromZod } from "./error.ts";
import { createRoutes, route, type App, type Edge } from "./route.ts";

const BINARY = "application/vnd.binnacle.overlay";

export function overlayRoutes({ collector }: Edge): App {
  const app = createRoutes();
  const overlay = createOverlay(collector);

  route(
    app,
    {
      method: "get",
      path: "/overlay",
      summary: "Many runs and metrics at once, as 16-bit columns behind a JSON header",
      tags: ["metrics"],
      query: QueryOverlay,
      responses: {
        200: {
          description: "Header and columns",
          content: { [BINARY]: { schema: z.string().meta({ format: "binary" }) } },
        },
      },
    },
    async (c) => {
      const { run, key, ...once } = c.req.queries();
      const query = QueryOverlay.safeParse({ run, key, x: once.x?.[0], points: once.points?.[0] });
      if (!query.success) throw fromZod(query.error);
      const bytes = await overlay(query.data);
      return compressed(bytes, c.req.header("accept-encoding") ?? "");
    },
  );

  return app;
}

function compressed(bytes: Uint8Array, accepted: string): Response {
  const [encoding, body] = /\bzstd\b/.test(accepted)
    ? ["zstd", zstdCompress(bytes)]
    : /\bgzip\b/.test(accepted)
      ? ["gzip", gzipSync(bytes, { level: 1 })]
      : [undefined, bytes];
  return new Response(body as Uint8Array<ArrayBuffer>, {
    headers: {
      "content-type": BINARY,
      vary: "Accept-Encoding",
      ...(encoding && { "content-encoding": encoding }),
    },
  });
}
