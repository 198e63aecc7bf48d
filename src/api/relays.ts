import { z } from "zod";
import { CollectorError } from "../error.ts";
import type { Relays } from "../relay/relay.ts";
import {
  AddRelay,
  DeadLetterPage,
  QueryDeadLetters,
  Relay,
  RelayList,
  RelayName,
  RemovedRelay,
  SettleDeadLetters,
  SettledDeadLetters,
} from "../relay/schema.ts";
import { readBody } from "./body.ts";
import { createRoutes, json, readQuery, route, type App, type AppContext, type Edge } from "./route.ts";

const tags = ["relays"];
const RelayParams = z.object({ name: RelayName });
const RemoveRelay = z.object({ discard: z.enum(["true", "false"]).default("false") });

/** Where what is recorded goes on to. Tokens go in here, and never out. */
export function relayRoutes({ collector, relays }: Edge): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "get",
      path: "/relays",
      summary: "Destinations, how they fare, and what will never reach them",
      tags,
      responses: { 200: json(RelayList, "By name") },
    },
    (c) => c.json(relays ? relays.status() : nowhere()),
  );

  const nowhere = (): RelayList => {
    const { id, epoch } = collector.installation;
    return { installation: { id, epoch }, relays: [], drops: [] };
  };

  route(
    app,
    {
      method: "post",
      path: "/relays",
      summary: "Add a destination; one that is there under this address gets the new token",
      tags,
      body: AddRelay,
      responses: { 200: json(Relay, "It was there"), 201: json(Relay, "The new destination") },
    },
    async (c) => {
      const { created, relay } = await required(relays).add(await readBody(c.req.raw, AddRelay));
      return c.json(relay, created ? 201 : 200);
    },
  );

  route(
    app,
    {
      method: "delete",
      path: "/relays/{name}",
      summary: "Remove a destination; with discard=true one that has not got everything, too",
      tags,
      params: RelayParams,
      query: RemoveRelay,
      responses: { 200: json(RemovedRelay, "It is gone") },
    },
    async (c) => {
      const name = readName(c);
      const discard = readQuery(c, RemoveRelay).discard === "true";
      return c.json({ removed: name, history: await required(relays).remove(name, { discard }) });
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/relays/{name}/retry",
      summary: "Try now what it waits to try",
      tags,
      params: RelayParams,
      responses: { 200: json(Relay, "The destination") },
    },
    (c) => c.json(required(relays).retry(readName(c))),
  );

  route(
    app,
    {
      method: "get",
      path: "/relays/{name}/dead-letters",
      summary: "Entries that the destination refused for good, the oldest first",
      tags,
      params: RelayParams,
      query: QueryDeadLetters,
      responses: { 200: json(DeadLetterPage, "A page of them") },
    },
    (c) => c.json(required(relays).deadLetters(readName(c), readQuery(c, QueryDeadLetters))),
  );

  route(
    app,
    {
      method: "post",
      path: "/relays/{name}/dead-letters",
      summary: "Send refused entries again, or give them up",
      tags,
      params: RelayParams,
      body: SettleDeadLetters,
      responses: { 200: json(SettledDeadLetters, "How many") },
    },
    async (c) => {
      const input = await readBody(c.req.raw, SettleDeadLetters);
      return c.json({ settled: await required(relays).settle(readName(c), input) });
    },
  );

  return app;
}

function required(relays: Relays | undefined): Relays {
  if (relays) return relays;
  throw new CollectorError("not-found", "This collector relays nothing.", {
    hint: "Destinations belong to a collector that `binnacle start` has started.",
  });
}

function readName(c: AppContext): string {
  const parsed = RelayName.safeParse(c.req.param("name"));
  if (parsed.success) return parsed.data;
  throw new CollectorError("not-found", "There is no such destination: that is no name of one.", {
    hint: "See `binnacle relay status` for those there are.",
  });
}
