import { afterAll, beforeAll, expect, test } from "bun:test";
import { z } from "zod";
import { sayIssue } from "../src/issue.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

let at: TestCollector;
beforeAll(async () => {
  at = createTestCollector();
  await at.json("/api/v1/runs", { body: { id: "1" } });
});
afterAll(() => at.close());

test.each<[z.ZodType, unknown, string]>([
  [z.string().max(250), "x".repeat(251), "must have at most 250 characters"],
  [z.string().max(100_000), "x".repeat(100_001), "must have at most 100,000 characters"],
  [z.string().min(1), "", "must not be empty"],
  [z.string().min(3), "a", "must have at least 3 characters"],
  [z.array(z.string()).max(1), ["a", "b"], "must have at most one entry"],
  [z.array(z.string()).min(1), [], "must not be empty"],
  [z.array(z.string()).max(100), Array.from({ length: 101 }, () => ""), "must have at most 100 entries"],
  [z.int().min(0), -1, "must be at least 0"],
  [z.number().lt(1), 1, "must be less than 1"],
  [z.int().max(5), 6, "must be at most 5"],
  [z.string(), undefined, "is missing"],
  [z.string(), 7, "must be text, not a number"],
  [z.number(), "7", "must be a number, not text"],
  [z.number(), Number.NaN, "must be a number, not NaN"],
  [z.int(), 1.5, "must be a whole number, not a number"],
  [z.boolean(), null, "must be true or false, not null"],
  [z.object({}), [], "must be an object, not a list"],
  [z.record(z.string(), z.string()), "x", "must be an object, not text"],
  [z.array(z.string()), {}, "must be a list, not an object"],
  [z.enum(["model", "artifact"]), "x", 'must be one of "model", "artifact"'],
  [z.literal(1), 2, "must be 1"],
  [z.strictObject({}), { a: 1 }, 'must not have "a"'],
  [z.union([z.string(), z.array(z.string())]), 7, "must be text or a list"],
  [z.json(), () => {}, "must be JSON"],
  [z.record(z.string().max(3), z.int()), { long: 1 }, "has a name that must have at most 3 characters"],
  [z.string().regex(/^a$/, "must be a"), "b", "must be a"],
  [z.string().refine(() => false, "names a path twice"), "b", "names a path twice"],
])("%#: what is wrong with a value is said as people speak", (schema, value, words) => {
  expect(sayIssue(schema.safeParse(value).error!.issues[0]!)).toBe(words);
});

test("no route answers in the words of its library", async () => {
  const ZODS = /Too (big|small)|Invalid |expected|received|Unrecognized/;
  const { paths } = await at.json("/api/v1/openapi.json");
  const values: unknown[] = [{}, [], "text", 7, null, { name: 7 }];
  const wrong = [7, "", "x".repeat(200_000), -1, 1e300, {}, [7], null, true, ["x".repeat(2000)]];
  let said = 0;
  for (const [path, methods] of Object.entries<Record<string, any>>(paths))
    for (const [method, { requestBody, parameters = [] }] of Object.entries(methods)) {
      const schema = requestBody?.content?.["application/json"]?.schema;
      const where = path.replace("{id}", "1").replaceAll(/\{\w+\}/g, "1");
      const bodies: unknown[] = schema ? [...values] : [undefined];
      const name = schema?.$ref?.split("/").at(-1);
      const fields = name ? await fieldsOf(name) : Object.keys(schema?.properties ?? {});
      for (const field of fields) for (const value of wrong) bodies.push({ [field]: value });
      const queries = [
        "",
        ...parameters.filter((p: any) => p.in === "query").map((p: any) => `?${p.name}=-%00x`),
      ];
      for (const body of bodies)
        for (const query of body === undefined ? queries : [""]) {
          if (path.endsWith("/shutdown") || path.endsWith("/doctor") || path.includes("live")) continue;
          const response = await at.request(where + query, {
            method: method.toUpperCase(),
            ...(body !== undefined && { body: JSON.stringify(body) }),
          });
          if (response.status !== 400) {
            await response.body?.cancel();
            continue;
          }
          const { detail } = (await response.json()) as { detail: string };
          said++;
          expect(detail, `${method} ${where}${query} ${JSON.stringify(body)?.slice(0, 100)}`).not.toMatch(
            ZODS,
          );
          expect(detail.length).toBeLessThan(2000);
        }
    }
  expect(said).toBeGreaterThan(300);
});

async function fieldsOf(name: string): Promise<string[]> {
  const { components } = await at.json("/api/v1/openapi.json");
  return Object.keys(components.schemas[name]?.properties ?? {});
}
