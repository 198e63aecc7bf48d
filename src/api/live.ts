import { z } from "zod";
import { CollectorError } from "../error.ts";
import { getRow } from "../run/find.ts";
import { RunId } from "../run/schema.ts";
import { createLiveHub } from "./live-channel.ts";
import { createRoutes, readQuery, route, type App, type Edge } from "./route.ts";
import { streamEvents, streamHead } from "./stream.ts";

const MAX_READERS = 200;

const WatchLive = z.object({
  /** Absent: changes of all runs, without what they log. */
  run: RunId.optional(),
  /** Seq of the last event seen; as the header Last-Event-ID. */
  after: z.coerce.number().int().min(0).optional(),
});

export function liveRoutes({ collector, ending }: Edge): App {
  const app = createRoutes();
  const hub = createLiveHub(collector);

  route(
    app,
    {
      method: "get",
      path: "/live",
      summary:
        "Events as they happen: ready, record, log, open, artifact, run, reset; their id is the journal's seq",
      tags: ["live"],
      query: WatchLive,
      responses: { 200: { description: "Events", content: { "text/event-stream": { schema: z.string() } } } },
    },
    async (c) => {
      const query = readQuery(c, WatchLive);
      const { run } = query;
      if (run !== undefined) await getRow(collector, run);
      const head = streamHead(c);
      if (head) return head;
      if (hub.readers >= MAX_READERS)
        throw new CollectorError("busy", `${MAX_READERS} readers are connected already.`, {
          hint: "Close some dashboards.",
        });
      const lastEventId = c.req.header("last-event-id");
      const after =
        lastEventId !== undefined && /^\d{1,15}$/.test(lastEventId) ? Number(lastEventId) : query.after;
      return streamEvents(c, {
        ending,
        pingEvery: 10_000,
        open: (stream) => hub.watch(run, after, stream),
      });
    },
  );

  return app;
}
