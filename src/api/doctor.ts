import { CollectorError } from "../error.ts";
import { examine, type Fault } from "../doctor/examine.ts";
import { Examine, type ExaminationLine, type ExaminationProgress } from "../doctor/schema.ts";
import { readBody } from "./body.ts";
import { bytes, createRoutes, route, type App, type Edge } from "./route.ts";

const TYPE = "application/x-ndjson";
/** Also where nothing has moved: who asks knows by it that we are there. */
const LINE_MS = 500;

/** POST, as it makes the disk work hard: for the admin alone. */
export function doctorRoutes(
  { collector, ending, command, onUnforeseen }: Edge,
  fedml?: () => readonly Fault[],
): App {
  const app = createRoutes();
  let isExamining = false;

  route(
    app,
    {
      method: "post",
      path: "/doctor",
      summary:
        "Look for what is wrong: reads every file and the whole database, and tells how far it has come",
      tags: ["collector"],
      body: Examine,
      responses: {
        200: bytes(TYPE, "Lines {progress: {of, done, total}}, the last one {examination} (or {problem})"),
      },
    },
    async (c) => {
      const { quick } = await readBody(c.req.raw, Examine);
      if (isExamining)
        throw new CollectorError("busy", "It is being looked through already.", { hint: "Try again later." });
      isExamining = true;
      c.env?.keepOpen?.(c.req.raw);
      const cancelled = new AbortController();
      const signal = AbortSignal.any([ending, c.req.raw.signal, cancelled.signal]);
      let progress: ExaminationProgress | undefined;
      const encoder = new TextEncoder();
      const body = new ReadableStream<Uint8Array>({
        async start(controller) {
          const send = (line: ExaminationLine) =>
            controller.enqueue(encoder.encode(`${JSON.stringify(line)}\n`));
          const timer = setInterval(() => void (progress && send({ progress })), LINE_MS);
          try {
            const options = {
              quick,
              command,
              signal,
              fedml,
              onProgress: (now: ExaminationProgress) => (progress = now),
            };
            send({ examination: await examine(collector, options) });
          } catch (error) {
            if (!signal.aborted) {
              if (!(error instanceof CollectorError)) onUnforeseen(error);
              send({ problem: problemOf(error) });
            }
          } finally {
            isExamining = false;
            clearInterval(timer);
            if (!cancelled.signal.aborted) controller.close();
          }
        },
        cancel: () => cancelled.abort(),
      });
      return new Response(body, { headers: { "content-type": `${TYPE}; charset=utf-8` } });
    },
  );

  return app;
}

/** Errors nobody foresaw may hold what only the diagnostics should. */
const problemOf = (error: unknown) =>
  error instanceof CollectorError
    ? { code: error.code, message: error.message }
    : { code: "internal", message: "The collector failed; its diagnostics say why." };
