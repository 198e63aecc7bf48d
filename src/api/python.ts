import { z } from "zod";
import { buildWheel, wheelName } from "../client/wheel.ts";
import { CollectorError } from "../error.ts";
import { createRoutes, route, type App } from "./route.ts";

const file = (description: string, type: string, schema: z.ZodType) => ({
  200: { description, content: { [type]: { schema } } },
});

/** The Python module as a wheel, for machines without a network: no token, as pip has none. */
export function pythonRoutes(): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/python/",
      summary: "A page of links for pip (--find-links); needs no token",
      tags: ["python"],
      responses: file("The page", "text/html", z.string()),
    },
    (c) =>
      c.html(
        `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>binnacle for Python</title></head>` +
          `<body><h1>binnacle for Python</h1><p><code>pip install ${new URL(wheelName, c.req.url).href}</code></p>` +
          `<p><a href="${wheelName}">${wheelName}</a></p></body></html>\n`,
      ),
  );

  route(
    app,
    {
      method: "get",
      path: "/python/{file}",
      summary: "The module binnacle as a wheel; needs no token",
      tags: ["python"],
      params: z.object({ file: z.string() }),
      responses: file("The wheel", "application/zip", z.string().meta({ format: "binary" })),
    },
    (c) => {
      if (c.req.param("file") !== wheelName)
        throw new CollectorError("not-found", "There is no such file for Python.", {
          hint: `This collector has ${wheelName}; see /python/.`,
        });
      return c.body(buildWheel(), 200, { "content-type": "application/zip", "cache-control": "no-cache" });
    },
  );

  return app;
}
