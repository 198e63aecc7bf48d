import { z } from "zod";
import { CollectorError } from "../error.ts";
import {
  Accepted,
  Cursor,
  ENTRIES_TYPE,
  HistoryAccepted,
  Positions,
  Rejected,
  type Frame,
  type Session,
} from "./contract.ts";
import { digestOfHeaders } from "./digest.ts";
import { encodeFrames } from "./frame.ts";
import { contentDigest, type Http } from "./http.ts";
import type { Transport } from "./ports.ts";

export interface HttpTransport extends Transport {
  /** Entries that were refused once, out of their order. */
  requeue(source: string, batch: Session & { frames: Frame[] }, signal: AbortSignal): Promise<Requeued>;
}

/** An answer is bounded, and so is what may be asked at once. */
const PARTS_PER_REQUEST = 1000;

/** A bad one does not hold up the others. */
const Requeued = z.object({ rejected: Rejected });
export type Requeued = z.infer<typeof Requeued>;

export function createTransport(http: Http, now: () => number): HttpTransport {
  async function sendFrames(
    path: string,
    batch: Session & { frames: Frame[] },
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<unknown> {
    // Packed in itself: an encoding of the content would find nothing more.
    const body = encodeFrames(batch.frames);
    const said = { ...headersOf(batch), ...headers };
    const { json } = await http.request({
      method: "POST",
      path,
      headers: {
        "content-type": ENTRIES_TYPE,
        "content-digest": contentDigest(body),
        ...said,
        "x-relay-check": digestOfHeaders(said),
      },
      body,
      signal,
    });
    return json;
  }

  const headersOf = ({ epoch, nonce, turn, path }: Session): Record<string, string> => ({
    "x-relay-epoch": String(epoch),
    "x-relay-nonce": nonce,
    "x-relay-turn": String(turn),
    "x-relay-path": path.join(","),
    "x-relay-sent-at": String(now()),
  });

  return {
    async greet(source, hello, signal) {
      // A byte of a nonce that is another on arrival would make us a restored copy of ourselves, which begins a new epoch.
      const body = new TextEncoder().encode(JSON.stringify(hello));
      const { json } = await http.request({
        method: "POST",
        path: `/sources/${source}/cursor`,
        headers: { "content-type": "application/json", "content-digest": contentDigest(body) },
        body,
        signal,
      });
      return understand(Cursor, json, "a cursor");
    },
    async send(source, batch, signal) {
      const { epoch, prev, last, digest } = batch;
      const headers = {
        "idempotency-key": `"${epoch}/${prev + 1}-${last}"`,
        ...(digest !== null && { "x-relay-digest": digest }),
      };
      const json = await sendFrames(`/sources/${source}/batches`, batch, headers, signal);
      return understand(Accepted, json, "what it took of a batch");
    },
    async positions(source, session, parts, signal) {
      const positions: number[] = [];
      for (let at = 0; at < parts.length; at += PARTS_PER_REQUEST) {
        const asked = parts.slice(at, at + PARTS_PER_REQUEST);
        const { json } = await http.request({
          method: "POST",
          path: `/sources/${source}/positions`,
          headers: { "content-type": "application/json", ...headersOf(session) },
          body: new TextEncoder().encode(JSON.stringify({ parts: asked })),
          signal,
        });
        const told = understand(Positions, json, "positions").positions;
        if (told.length !== asked.length) throw notUnderstood("positions");
        positions.push(...told);
      }
      return positions;
    },
    async sendHistory(source, batch, signal) {
      const headers = {
        "x-relay-acked": String(batch.acked),
        "x-relay-upto": String(batch.upto),
        ...(batch.digest !== null && { "x-relay-digest": batch.digest }),
        "x-relay-part": JSON.stringify(batch.part),
        "x-relay-from": String(batch.from),
        "x-relay-to": String(batch.to),
      };
      const json = await sendFrames(`/sources/${source}/history`, batch, headers, signal);
      return understand(HistoryAccepted, json, "how far history has come");
    },
    async requeue(source, batch, signal) {
      const json = await sendFrames(`/sources/${source}/requeued`, batch, {}, signal);
      return understand(Requeued, json, "what it took of entries that it had refused");
    },
  };
}

function understand<T extends z.ZodType>(schema: T, json: unknown, what: string): z.output<T> {
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw notUnderstood(what);
  return parsed.data;
}

const notUnderstood = (what: string) =>
  new CollectorError("unreachable", `The answer is not ${what}: that is no platform, or a newer one.`, {
    hint: "Check the address, and the versions of both.",
  });
