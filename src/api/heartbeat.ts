import { z } from "zod";
import { CollectorError } from "../error.ts";
import { getOwnRow } from "../run/find.ts";
import { ClientId, isLive, type StopRun } from "../run/schema.ts";
import { noteContact } from "./contact.ts";
import { createRoutes, readQuery, readRunId, route, RunParams, type App, type Edge } from "./route.ts";
import { createSocketTable } from "./socket.ts";
import { eventText, streamEvents, streamHead, type EventStream } from "./stream.ts";

/** Each is a file descriptor; the store needs some too. */
const MAX_HEARTBEATS = 5000;

const Heartbeat = z.object({ client: ClientId });

/** A writer's one open connection: pings one way, a request to stop at some time, and its end is the sign of the writer's end. */
export function heartbeatRoutes({ collector, ending }: Edge): App {
  const app = createRoutes();
  const sockets = createSocketTable();
  let held = 0;

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
      const head = streamHead(c);
      if (head) return head;
      if (held >= MAX_HEARTBEATS)
        throw new CollectorError("busy", `${MAX_HEARTBEATS} heartbeats are held already.`, {
          hint: "The writer goes on without; its batches show that it lives.",
        });
      await noteContact(collector, run, client);
      // Now: once the answer has begun the server no longer tells.
      const { remote, remotePort } = c.env ?? {};
      const { status, reason } = await getOwnRow(collector, run);
      let stream: EventStream | undefined;
      const stop = (request: StopRun) => void stream?.send(eventText("stop", request));
      const disconnect = isLive(status) ? collector.presence.connect(run, client, { stop }) : () => {};
      return streamEvents(c, {
        ending,
        pingEvery: 5000,
        onPing: () => {
          if (isAnswering(sockets, remote, remotePort)) collector.presence.contact(run, client);
        },
        open(opened) {
          stream = opened;
          // Stopped while this writer could not hear it.
          if (status === "STOPPING" || status === "KILLED")
            stop({ force: false, ...(reason !== null && { reason }) });
          held++;
          return () => {
            held--;
            disconnect();
          };
        },
      });
    },
  );

  return app;
}

/** The ping before was acknowledged, or we can't know. */
function isAnswering(
  sockets: ReturnType<typeof createSocketTable>,
  remote: string | undefined,
  port: number | undefined,
): boolean {
  if (remote === undefined || port === undefined) return true;
  return (sockets.unacknowledged(remote, port) ?? 0) === 0;
}
