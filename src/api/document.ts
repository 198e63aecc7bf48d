import { VERSION } from "../version.ts";
import { needOf } from "./auth.ts";
import { createRoutes, type App } from "./route.ts";

type Document = ReturnType<App["getOpenAPI31Document"]>;

/** The OpenAPI document of everything mounted so far, made when first asked for. */
export function documentRoutes(documented: App): App {
  let document: Document | undefined;
  const app = createRoutes();
  app.get("/api/v1/openapi.json", (c) => c.json((document ??= describe(documented))));
  return app;
}

function describe(app: App): Document {
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "binnacle",
      version: VERSION,
      description: "Times are ms since the epoch where they are numbers, RFC 3339 UTC where they are text.",
    },
    servers: [{ url: "/" }],
  });
  // The scope a route needs comes from where it is enforced, so that the two cannot differ.
  for (const [path, operations] of Object.entries(document.paths ?? {}))
    for (const [method, operation] of Object.entries(operations as Record<string, { security?: unknown }>)) {
      const { scope } = needOf(method.toUpperCase(), path.replaceAll(/\{\w+\}/g, "x"));
      operation.security = scope === "none" ? [] : [{ token: [scope] }];
    }
  return document;
}
