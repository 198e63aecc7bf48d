import type { MiddlewareHandler } from "hono";
import type { AppEnv } from "./route.ts";
import type { Trust } from "./auth.ts";

/** For pages: everything from us, nothing from elsewhere, nothing inline. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "font-src 'self'",
  "manifest-src 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'self'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

/** Before every route, known or not, whatever the method: who asks, from where, and for what. */
export function guard(
  trust: Trust,
  refuse: (error: unknown, request: Request) => Promise<Response>,
): MiddlewareHandler<AppEnv> {
  return async function guard(c, next) {
    try {
      c.set("access", trust.admit(c.req.raw));
    } catch (error) {
      return refuse(error, c.req.raw);
    }
    await next();
    secure(c.res);
  };
}

/** What every answer carries. */
export function secure(response: Response): Response {
  const { headers } = response;
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "same-origin");
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
  // A policy for whatever a browser might take for a page: what is none may do nothing at all.
  const isPage = headers.get("content-type")?.startsWith("text/html") ?? false;
  headers.set("content-security-policy", isPage ? CONTENT_SECURITY_POLICY : "default-src 'none'; sandbox");
  headers.set("x-frame-options", "DENY");
  headers.set("cross-origin-resource-policy", "same-origin");
  return response;
}
