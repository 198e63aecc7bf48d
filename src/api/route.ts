import { Hono, type Context, type Handler } from "hono";
import { z } from "zod";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { Relays } from "../relay/relay.ts";
import type { Access } from "../token.ts";
import { RunId } from "../run/schema.ts";
import type { Trust } from "./auth.ts";
import { fromZod, Problem } from "./error.ts";

/** What the server knows of a request beyond the request itself. */
export interface Connection {
  /** The caller's address. */
  remote?: string | undefined;
  remotePort?: number | undefined;
  /** Lifts the time limit of this connection, for answers that stream. */
  keepOpen?: ((request: Request) => void) | undefined;
}

export interface Edge {
  collector: Collector;
  trust: Trust;
  /** Aborted when the server is about to stop: streams end. */
  ending: AbortSignal;
  /** Ends the collector. */
  onShutdown: () => void;
  /** The command line that runs this program again. */
  command: string[] | undefined;
  /** Hears of an error that nobody waits for. */
  onUnforeseen: (error: unknown) => void;
  /** Where what is recorded goes on to. */
  relays: Relays | undefined;
}

// A type alias: an interface has no index signature, which Hono wants of its Bindings.
export type AppEnv = { Bindings: Connection; Variables: { access: Access | undefined } };
export type App = Hono<AppEnv>;
export type AppContext = Context<AppEnv>;

export const createRoutes = (): App => new Hono<AppEnv>();

export interface DocumentedResponse {
  description: string;
  content?: Record<string, { schema: z.ZodType }>;
}

export interface Documented {
  method: "get" | "post" | "put" | "patch" | "delete";
  path: string;
  summary: string;
  params?: z.ZodObject;
  query?: z.ZodObject;
  /** JSON. */
  body?: z.ZodType;
  /** Content type of a body that is not JSON. */
  binary?: string;
  responses: Record<string, DocumentedResponse>;
  tags: string[];
}

const descriptionByHandler = new WeakMap<object, Documented>();

/** What the document says of the route that this handler serves; undefined for pages. */
export const descriptionOf = (handler: object): Documented | undefined => descriptionByHandler.get(handler);

/**
 * Puts a route into the app and its description into the document. Validation is the handler's own, by `readBody` and
 * `readQuery`: a middleware would read bodies of any size, and check the hot path twice.
 */
export function route(app: App, description: Documented, handler: Handler<AppEnv>): void {
  const { method, path, responses } = description;
  // A handler of its own, so that one function may serve two routes.
  const own: Handler<AppEnv> = (c, next) => handler(c, next);
  descriptionByHandler.set(own, { ...description, responses: { ...responses, default: problem } });
  app.on(method.toUpperCase(), path.replaceAll(/\{(\w+)\}/g, ":$1"), own);
}

const problem = {
  description: "What went wrong, and what to do next",
  content: { "application/problem+json": { schema: Problem } },
};

export const json = (schema: z.ZodType, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

export const bytes = (type: string, description: string) => ({
  description,
  content: { [type]: { schema: z.string() } },
});

export const RunParams = z.object({ id: RunId });

export function readRunId(c: AppContext): string {
  const parsed = RunId.safeParse(c.req.param("id"));
  if (!parsed.success)
    throw new CollectorError("not-found", "There is no such run: that is no run id.", {
      hint: "See `binnacle run list` for the runs there are.",
    });
  return parsed.data;
}

/** An empty parameter is an absent one: a number read from it would be 0. */
export function readQuery<T extends z.ZodType>(c: AppContext, schema: T): z.output<T> {
  const given = Object.entries(c.req.query()).filter(([, value]) => value !== "");
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (!parsed.success) throw fromZod(parsed.error);
  return parsed.data;
}
