import { z } from "zod";
import { VERSION } from "../version.ts";
import { needOf } from "./auth.ts";
import { createRoutes, descriptionOf, type App, type Documented } from "./route.ts";

type JsonSchema = Record<string, unknown>;
type Components = Record<string, JsonSchema>;

/** The OpenAPI document of everything mounted so far, made when first asked for. */
export function documentRoutes(documented: App): App {
  let document: object | undefined;
  const app = createRoutes();
  app.get("/api/v1/openapi.json", (c) => c.json((document ??= describe(documented))));
  return app;
}

/** By zod's own conversion: OpenAPI 3.1 takes JSON Schema as it is. */
function describe(app: App): object {
  const schemas: Components = {};
  const paths: Record<string, Record<string, object>> = {};
  for (const { method, path, handler } of app.routes) {
    const description = descriptionOf(handler);
    if (!description) continue;
    const template = path.replaceAll(/:(\w+)/g, "{$1}");
    (paths[template] ??= {})[method.toLowerCase()] = operation(method, template, description, schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "binnacle",
      version: VERSION,
      description: "Times are ms since the epoch where they are numbers, RFC 3339 UTC where they are text.",
    },
    servers: [{ url: "/" }],
    paths,
    components: { schemas, securitySchemes: { token: { type: "http", scheme: "bearer" } } },
  };
}

function operation(
  method: string,
  path: string,
  { summary, tags, params, query, body, binary, responses }: Documented,
  schemas: Components,
): object {
  // The scope comes from where it is enforced, so that the two cannot differ.
  const { scope } = needOf(method, path.replaceAll(/\{\w+\}/g, "x"));
  return {
    operationId: operationId(method, path),
    summary,
    tags,
    security: scope === "none" ? [] : [{ token: [scope] }],
    parameters: [...parameters("path", params, schemas), ...parameters("query", query, schemas)],
    ...(body && {
      requestBody: {
        required: true,
        content: { "application/json": { schema: convert(body, "input", schemas) } },
      },
    }),
    ...(binary !== undefined && {
      requestBody: {
        required: true,
        content: { [binary]: { schema: { type: "string", format: "binary" } } },
      },
    }),
    responses: Object.fromEntries(
      Object.entries(responses).map(([status, { description, content = {} }]) => [
        status,
        {
          description,
          content: Object.fromEntries(
            Object.entries(content).map(([type, { schema }]) => [
              type,
              { schema: convert(schema, "output", schemas) },
            ]),
          ),
        },
      ]),
    ),
  };
}

/** "GET /runs/{id}/logs" → "getRunsIdLogs". */
const operationId = (method: string, path: string) =>
  method.toLowerCase() +
  path
    .replace(/^\/api\/v1/, "")
    .split(/[^A-Za-z]+/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");

function parameters(place: "path" | "query", object: z.ZodObject | undefined, schemas: Components): object[] {
  if (!object) return [];
  const { properties, required = [] } = convert(object, "input", schemas) as {
    properties: Record<string, JsonSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: place,
    required: required.includes(name),
    schema,
  }));
}

/** As JSON Schema; parts with a name of their own go to the document's components. */
function convert(schema: z.ZodType, io: "input" | "output", schemas: Components): JsonSchema {
  const converted = z.toJSONSchema(schema, { io, override: simplify }) as JsonSchema;
  const { $defs = {}, ...own } = JSON.parse(
    JSON.stringify(converted).replaceAll('"#/$defs/', '"#/components/schemas/'),
  ) as JsonSchema & { $defs?: Components };
  // The dialect is OpenAPI's own.
  delete own["$schema"];
  for (const [name, part] of Object.entries($defs)) {
    // Made by zod for what recurs inside "any JSON", which is said in words instead.
    if (name.startsWith("__")) continue;
    if (schemas[name] && JSON.stringify(schemas[name]) !== JSON.stringify(part))
      throw new Error(`${name} is one thing in requests and another in answers: name them apart.`);
    schemas[name] = part;
  }
  return own;
}

function simplify({ zodSchema, jsonSchema }: { zodSchema: unknown; jsonSchema: JsonSchema }): void {
  // Readers are to ignore members they don't know.
  if (jsonSchema["additionalProperties"] === false) delete jsonSchema["additionalProperties"];
  if ((zodSchema as z.ZodType).meta?.()?.id !== "Json") return;
  for (const key of Object.keys(jsonSchema)) delete jsonSchema[key];
  jsonSchema["description"] = "Any JSON";
}
