/** @jsxImportSource hono/jsx */
import { getCookie } from "hono/cookie";
import { Hono, type Context } from "hono";
import { page } from "./pages/layout.tsx";
import { ProblemPage } from "./pages/problem.tsx";
import { SignInPage } from "./pages/sign-in.tsx";
import { parseTheme, THEME_COOKIE } from "./theme.ts";

interface Problem {
  title: string;
  status: number;
  detail: string;
  hint?: string;
}

/** Whoever asked for a page gets an error as a page; everybody else the problem document, as it came. */
export async function presentProblem(request: Request, response: Response): Promise<Response> {
  const path = new URL(request.url).pathname;
  const wantsPage = request.method === "GET" && request.headers.get("accept")?.includes("text/html");
  if (!wantsPage || path.startsWith("/api/") || path.startsWith("/assets/")) return response;
  const problem = (await response.clone().json()) as Problem;
  const page = await pages.request(request.url, { headers: request.headers }, { problem });
  const headers = new Headers(response.headers);
  headers.set("content-type", "text/html; charset=utf-8");
  return new Response(page.body, { status: response.status, headers });
}

// A small app of its own: rendering wants a context, and errors may come before there is one.
const pages = new Hono<{ Bindings: { problem: Problem } }>();

pages.all("*", (c: Context<{ Bindings: { problem: Problem } }>) => {
  const { problem } = c.env;
  const theme = parseTheme(getCookie(c, THEME_COOKIE));
  if (problem.status === 401)
    return page(
      c,
      <SignInPage theme={theme} expired={c.req.path === "/sign-in" && c.req.query("code") !== undefined} />,
    );
  // What helps whoever calls the API is no help here.
  const hint = problem.hint?.includes("/api/") ? undefined : problem.hint;
  return page(c, <ProblemPage theme={theme} title={problem.title} detail={problem.detail} hint={hint} />);
});
