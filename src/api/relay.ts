import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { CollectorError } from "../error.ts";
import {
  Accepted,
  Cursor,
  Digest,
  ENTRIES_TYPE,
  Hello,
  HistoryAccepted,
  HistoryPart,
  MAX_BODY_BYTES,
  MAX_EPOCH,
  Nonce,
  Part,
  Positions,
  Rejected,
  SourceId,
  type Frame,
  type Session,
} from "../relay/contract.ts";
import { digestOfHeaders } from "../relay/digest.ts";
import { decodeFrames } from "../relay/frame.ts";
import { findOwnSource, getCursor, greetSource } from "../source/greet.ts";
import { positionsOf, receiveAgain, receiveBatch, receiveHistory, type Sender } from "../source/receive.ts";
import { decompressWithin } from "../store/zstd.ts";
import { checkDigest, encodingOf, withBytes, withinMemory } from "../body.ts";
import { readBody } from "./body.ts";
import { blobRoutes } from "./blobs.ts";
import { fromZod } from "./error.ts";
import { createRoutes, json, route, type App, type AppContext, type Edge } from "./route.ts";

const tags = ["relay"];
const SourceParams = z.object({ source: SourceId });
const QueryPositions = z.object({ parts: z.array(Part).max(10_000) }).meta({ id: "QueryPositions" });
const Requeued = z.object({ rejected: Rejected }).meta({ id: "Requeued" });

const seq = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** What each request says of whom it comes from. */
const SessionHeaders = z.object({
  "x-relay-epoch": z.coerce.number().int().min(1).max(MAX_EPOCH),
  "x-relay-nonce": Nonce,
  "x-relay-turn": seq,
  "x-relay-path": z
    .string()
    .transform((text) => text.split(",").map((id) => id.trim()))
    .pipe(z.array(SourceId).min(1).max(64)),
  "x-relay-sent-at": z.coerce.number().optional(),
});
const BatchHeaders = SessionHeaders.extend({
  /** "{epoch}/{first}-{last}", with the quotes. */
  "idempotency-key": z
    .string()
    .regex(/^"\d{1,10}\/\d{1,16}-\d{1,16}"$/, 'wants "{epoch}/{first}-{last}", with the quotes'),
  "x-relay-digest": Digest.nullable().default(null),
});
const HistoryHeaders = SessionHeaders.extend({
  "x-relay-acked": seq,
  "x-relay-upto": seq,
  "x-relay-digest": Digest.nullable().default(null),
  "x-relay-part": z
    .string()
    .max(4000)
    .transform((text, context) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        context.addIssue({ code: "custom", message: "wants JSON" });
        return z.NEVER;
      }
    })
    .pipe(HistoryPart),
  "x-relay-from": z.coerce.number(),
  "x-relay-to": z.coerce.number(),
});

/** Where other installations bring what they have. Only mounted where this is a platform. */
export function receivingRoutes({ collector }: Pick<Edge, "collector">): App {
  const app = createRoutes();

  route(
    app,
    {
      method: "post",
      path: "/sources/{source}/cursor",
      summary: "Say who relays, and hear how far what is here has come",
      tags,
      params: SourceParams,
      body: Hello,
      responses: { 200: json(Cursor, "The cursor") },
    },
    async (c) => {
      const { id, name } = senderOf(c);
      return c.json(await greetSource(collector, name, id, await readBody(c.req.raw, Hello)));
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/sources/{source}/cursor",
      summary: "How far what is here of a source has come",
      tags,
      params: SourceParams,
      responses: { 200: json(Cursor, "The cursor") },
    },
    (c) => {
      const { id, name } = senderOf(c);
      return c.json(getCursor(collector, name, id));
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/sources/{source}/batches",
      summary: "Entries of a source's journal, in their order: all are stored, or none",
      tags,
      params: SourceParams,
      binary: ENTRIES_TYPE,
      responses: { 200: json(Accepted, "Durable up to here") },
    },
    async (c) => {
      const sender = senderOf(c);
      const headers = headersOf(c, BatchHeaders);
      const [prev, last] = rangeOf(headers["idempotency-key"], headers["x-relay-epoch"]);
      return withFrames(c, async (frames) =>
        c.json(
          await receiveBatch(collector, withClock(sender, headers), {
            ...sessionOf(headers),
            prev,
            last,
            digest: headers["x-relay-digest"],
            frames,
          }),
        ),
      );
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/sources/{source}/positions",
      summary: "How far parts of what a source keeps have come",
      tags,
      params: SourceParams,
      body: QueryPositions,
      responses: { 200: json(Positions, "In the order in which they were asked for") },
    },
    async (c) => {
      const sender = senderOf(c);
      const headers = headersOf(c, SessionHeaders);
      const { parts } = await readBody(c.req.raw, QueryPositions);
      const positions = await positionsOf(collector, withClock(sender, headers), sessionOf(headers), parts);
      return c.json({ positions });
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/sources/{source}/history",
      summary: "A piece of what a source keeps of before: by content, as often as it likes",
      tags,
      params: SourceParams,
      binary: ENTRIES_TYPE,
      responses: { 200: json(HistoryAccepted, "Where the part stands now") },
    },
    async (c) => {
      const sender = senderOf(c);
      const headers = headersOf(c, HistoryHeaders);
      return withFrames(c, async (frames) =>
        c.json(
          await receiveHistory(collector, withClock(sender, headers), {
            ...sessionOf(headers),
            acked: headers["x-relay-acked"],
            upto: headers["x-relay-upto"],
            digest: headers["x-relay-digest"],
            part: headers["x-relay-part"],
            from: headers["x-relay-from"],
            to: headers["x-relay-to"],
            frames,
          }),
        ),
      );
    },
  );

  route(
    app,
    {
      method: "post",
      path: "/sources/{source}/requeued",
      summary: "Entries that were refused once, sent again by their owner: each is taken once",
      tags,
      params: SourceParams,
      binary: ENTRIES_TYPE,
      responses: { 200: json(Requeued, "What is still refused") },
    },
    async (c) => {
      const sender = senderOf(c);
      const headers = headersOf(c, SessionHeaders);
      return withFrames(c, async (frames) =>
        c.json(await receiveAgain(collector, withClock(sender, headers), { ...sessionOf(headers), frames })),
      );
    },
  );

  // What artifact.logged names, beside the entries and by its digest: each file once, whoever else has it.
  app.use("/sources/:source/content/*", async (c, next) => {
    const { id, name } = senderOf(c);
    if (!findOwnSource(collector, name, id))
      throw new CollectorError("not-found", "This source is not known here.", { hint: "Greet first." });
    await next();
  });
  const content = "/sources/{source}/content";
  app.route(
    "/",
    blobRoutes({ collector }, { all: content, one: `${content}/blobs`, params: SourceParams.shape, tags }),
  );

  return app;
}

/** The guard has let sources in alone. */
export function senderOf(c: AppContext): Sender {
  const access = c.var.access;
  if (access?.scope !== "source")
    throw new CollectorError("unauthorized", "This needs the token of a source.", {
      hint: "The platform's admin makes it with `binnacle source add NAME`.",
    });
  const id = SourceId.safeParse(c.req.param("source"));
  if (!id.success)
    throw new CollectorError("invalid", "That is no source's id.", { hint: "It has 32 hexadecimal digits." });
  return { id: id.data, name: access.name };
}

function headersOf<T extends z.ZodObject>(c: AppContext, schema: T): z.output<T> {
  const given: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    const value = c.req.header(name);
    if (value !== undefined) given[name] = value;
  }
  const check = c.req.header("x-relay-check");
  if (check !== undefined && check !== digestOfHeaders(given))
    throw new CollectorError("busy", "The headers are not those that were sent.", { hint: "Send it again." });
  const parsed = schema.safeParse(given);
  if (!parsed.success) throw fromZod(parsed.error);
  return parsed.data;
}

type Headers = z.output<typeof SessionHeaders>;

const sessionOf = (headers: Headers): Session => ({
  epoch: headers["x-relay-epoch"],
  nonce: headers["x-relay-nonce"],
  turn: headers["x-relay-turn"],
  path: headers["x-relay-path"],
});

const withClock = (sender: Sender, headers: Headers): Sender => ({
  ...sender,
  sentAt: headers["x-relay-sent-at"],
});

function rangeOf(key: string, epoch: number): [prev: number, last: number] {
  const [, of, first, last] = /^"(\d+)\/(\d+)-(\d+)"$/.exec(key)!.map(Number) as [
    number,
    number,
    number,
    number,
  ];
  if (of !== epoch || first < 1 || !Number.isSafeInteger(last))
    throw new CollectorError("invalid", `Idempotency-Key ${key} is of another epoch, or counts from 0.`, {
      hint: 'It is "{epoch}/{first}-{last}".',
    });
  return [first - 1, last];
}

/** Bounded as it comes and as it unpacks, and what a proxy in between has changed is refused. */
function withFrames(c: AppContext, use: (frames: Frame[]) => Promise<Response>): Promise<Response> {
  const request = c.req.raw;
  const options = { type: ENTRIES_TYPE, max: MAX_BODY_BYTES, encodings: ["zstd", "gzip"] };
  return withBytes(request, options, async (bytes) => {
    // It may wait for those before it, and for room.
    c.env?.keepOpen?.(request);
    if (!checkDigest(request.headers, bytes))
      throw new CollectorError("invalid", "The body has no Content-Digest.", {
        hint: "Send Content-Digest: sha-256=:…:, of the body as it is sent.",
      });
    const unpacked = unpack(encodingOf(request.headers), bytes);
    return withinMemory(unpacked.length, async () => use(decodeFrames(unpacked)));
  });
}

function unpack(encoding: string, bytes: Uint8Array): Uint8Array {
  if (encoding === "identity") return bytes;
  try {
    return encoding === "zstd"
      ? decompressWithin(bytes, MAX_BODY_BYTES)
      : gunzipSync(bytes, { maxOutputLength: MAX_BODY_BYTES });
  } catch (error) {
    const isLarge =
      error instanceof RangeError || (error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE";
    throw new CollectorError(
      isLarge ? "too-large" : "invalid",
      isLarge
        ? `The body unpacks to more than ${MAX_BODY_BYTES / 1024 / 1024} MiB.`
        : `The body is not valid ${encoding}.`,
      { hint: isLarge ? "Send smaller batches." : "Send it again.", cause: error },
    );
  }
}
