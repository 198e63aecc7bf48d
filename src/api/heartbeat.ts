import { z } from "zod";
import { getRow } from "../run/find.ts";
import { ClientId, isLive, type StopRun } from "../run/schema.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";

const PING_EVERY = 5000;
const Heartbeat = z.object({ client: ClientId });

/** A writer's one open connection: pings one way, a request to stop at some time, and its end is the sign of the writer's end. */
export function heartbeatRoutes({ collector, ending }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/heartbeat",
      summary: "A writer's heartbeat: held open while it lives; event `stop` asks it to stop",
      tags: ["runs"],
      params: RunParams,
      query: Heartbeat,
      responses: {
        200: { description: "Events", content: { "text/event-stream": { schema: z.string() } } },
      },
    },
    async (c) => {
      const run = readRunId(c);
      const { client } = readQuery(c, Heartbeat);
      await noteContact(collector, run, client);
      const row = await getRow(collector, run);
      c.env?.keepOpen?.(c.req.raw);
      const encoder = new TextEncoder();
      let end = () => {};
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          const send = (text: string) => {
            // The browser end may have gone between the event and this call.
            try {
              controller.enqueue(encoder.encode(text));
            } catch {
              end();
            }
          };
          const stop = (request: StopRun) => send(`event: stop\ndata: ${JSON.stringify(request)}\n\n`);
          const disconnect = isLive(row.status)
            ? collector.presence.connect(run, client, { stop })
            : () => {};
          const timer = setInterval(() => send(": \n\n"), PING_EVERY);
          end = () => {
            clearInterval(timer);
            disconnect();
          };
          send(": \n\n");
          if (row.status === "STOPPING") stop({ force: false, reason: row.reason ?? undefined });
        },
        cancel: () => end(),
      });
      c.req.raw.signal.addEventListener("abort", () => end());
      return new Response(body, {
        headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
      });
    },
  );

  return app;
}
