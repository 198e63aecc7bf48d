import { z } from "zod";
import { listSources } from "../source/list.ts";
import { SourceList, SourceToken } from "../source/schema.ts";
import { addSourceToken, revokeSourceTokens, SourceName } from "../source/tokens.ts";
import { CollectorError } from "../error.ts";
import { readBody } from "./body.ts";
import { createRoutes, json, readQuery, route, type App, type Edge } from "./route.ts";

const tags = ["sources"];
const MAX_TIME = 253_402_300_799_999;

const AddSource = z
  .object({
    name: SourceName,
    /** When its token ends, ms since the epoch; absent: when it is revoked. */
    expires: z.number().min(0).max(MAX_TIME).optional(),
  })
  .meta({ id: "AddSource" });
const AddedSource = SourceToken.extend({
  /** Told this once: only its digest is kept. */
  token: z.string(),
}).meta({ id: "AddedSource" });
const SourceParams = z.object({ name: SourceName });
const RevokeSource = z.object({
  /** All but the newest one. */
  others: z.enum(["true", "false"]).default("false"),
});
const Revoked = z.object({ name: z.string(), revoked: z.number() });

/** Who may relay here, and who does. */
export function sourceRoutes({ collector }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/sources",
      summary: "The installations that relay here, and the tokens that were given out",
      tags,
      responses: { 200: json(SourceList, "Sources by label, tokens by name; never a token itself") },
    },
    (c) => c.json(listSources(collector)),
  );

  route(
    app,
    {
      method: "post",
      path: "/sources",
      summary: "Make a token for a source; one that has a token gets another one besides",
      tags,
      body: AddSource,
      responses: { 201: json(AddedSource, "The token, which is told this once") },
    },
    async (c) => {
      const { name, expires = null } = await readBody(c.req.raw, AddSource);
      if (expires !== null && expires <= collector.now())
        throw new CollectorError("invalid", "That time is over already.", {
          hint: "Give a time to come, in ms since 1970.",
        });
      const { token, row } = addSourceToken(collector, name, expires);
      return c.json({ ...row, token }, 201);
    },
  );

  route(
    app,
    {
      method: "delete",
      path: "/sources/{name}",
      summary: "Revoke all tokens of a name; what came with them stays",
      tags,
      params: SourceParams,
      query: RevokeSource,
      responses: { 200: json(Revoked, "They are worth nothing from now on") },
    },
    (c) => {
      const name = c.req.param("name")!;
      const others = readQuery(c, RevokeSource).others === "true";
      return c.json({ name, revoked: revokeSourceTokens(collector, name, { others }) });
    },
  );

  return app;
}
