import { z } from "zod";
import { CollectorError } from "../error.ts";
import { rotateToken } from "../token.ts";
import { createRoutes, json, route, type App, type Edge } from "./route.ts";

const SignInCode = z.object({ url: z.string(), code: z.string() });
const NewToken = z.object({ token: z.string() });
const SignIn = z.object({ code: z.string().max(200).default("") });

/** Under /api/v1: what the holder of the admin token may do about signing in. */
export function tokenRoutes({ collector, trust }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/sign-in-codes",
      summary: "A link that signs a browser in, once, within 10 minutes",
      tags: ["collector"],
      responses: { 200: json(SignInCode, "The link") },
    },
    (c) => {
      const code = trust.createCode();
      const { origin } = new URL(c.req.url);
      return c.json({ url: `${origin}/sign-in?code=${code}`, code });
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/token/rotate",
      summary: "Replace the admin token; every token derived from it and every cookie ends",
      tags: ["collector"],
      responses: { 200: json(NewToken, "The new admin token") },
    },
    (c) => {
      const token = rotateToken(collector.dataDir);
      trust.rotate(token);
      return c.json({ token });
    },
  );

  return app;
}

/** Exchanges a code for a cookie and takes the code out of the address bar. */
export function signInRoutes({ trust }: Edge): App {
  const app = createRoutes();
  route(
    app,
    {
      method: "get",
      path: "/sign-in",
      summary: "Exchange a code for the dashboard's cookie",
      tags: ["collector"],
      query: SignIn,
      responses: { 303: { description: "Signed in: on to the dashboard" } },
    },
    (c) => {
      const cookie = trust.redeemCode(c.req.query("code") ?? "", c.req.raw);
      if (cookie === undefined)
        throw new CollectorError("unauthorized", "This link was used already, or is older than 10 minutes.", {
          hint: "Run `binnacle open` for a new one.",
        });
      return new Response(null, { status: 303, headers: { location: "/", "set-cookie": cookie } });
    },
  );
  return app;
}
