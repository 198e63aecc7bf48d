import { gzipSync } from "node:zlib";
import { z } from "zod";
import { CollectorError } from "../error.ts";
import { compress } from "../store/zstd.ts";
import { Accepted, Cursor, ENTRIES_TYPE, Positions, type Batch, type Frame } from "./contract.ts";
import { encodeFrames } from "./frame.ts";
import { contentDigest, type Http } from "./http.ts";
import { Refusal, type Transport } from "./ports.ts";

export interface HttpTransport extends Transport {
  /** Entries that were refused once, out of their order. */
  requeue(source: string, batch: Omit<Batch, "prev" | "last">, signal: AbortSignal): Promise<Accepted>;
}

/** What a body may be packed with, the best first. */
const ENCODINGS = ["zstd", "gzip", "identity"] as const;
/** An answer is bounded, and so is what may be asked at once. */
const PARTS_PER_REQUEST = 1000;

const HistoryAccepted = z.object({ position: z.number() });

export function createTransport(http: Http, now: () => number): HttpTransport {
  /** Index into ENCODINGS: what the platform does not take is not tried again. */
  let encoding = 0;

  async function sendFrames(
    path: string,
    { epoch, nonce, path: way, frames }: { epoch: number; nonce: string; path: string[]; frames: Frame[] },
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<unknown> {
    const plain = encodeFrames(frames);
    for (;;) {
      const used = ENCODINGS[encoding]!;
      const body = pack(plain, used);
      try {
        const { json } = await http.request({
          method: "POST",
          path,
          headers: {
            "content-type": ENTRIES_TYPE,
            ...(used !== "identity" && { "content-encoding": used }),
            "content-digest": contentDigest(body),
            "x-relay-epoch": String(epoch),
            "x-relay-nonce": nonce,
            "x-relay-path": way.join(","),
            "x-relay-sent-at": String(now()),
            ...headers,
          },
          body,
          signal,
        });
        return json;
      } catch (error) {
        if (!(error instanceof Refusal) || error.status !== 415 || used === "identity") throw error;
        encoding = Math.max(encoding, ENCODINGS.indexOf(used) + 1);
      }
    }
  }

  return {
    async greet(source, hello, signal) {
      const { json } = await http.postJson(`/sources/${source}/cursor`, hello, signal);
      return understand(Cursor, json, "a cursor");
    },
    async send(source, batch, signal) {
      const key = `"${batch.epoch}/${batch.prev + 1}-${batch.last}"`;
      const json = await sendFrames(`/sources/${source}/batches`, batch, { "idempotency-key": key }, signal);
      return understand(Accepted, json, "what it took of a batch");
    },
    async positions(source, nonce, parts, signal) {
      const positions: number[] = [];
      for (let at = 0; at < parts.length; at += PARTS_PER_REQUEST) {
        const asked = parts.slice(at, at + PARTS_PER_REQUEST);
        const { json } = await http.request({
          method: "POST",
          path: `/sources/${source}/positions`,
          headers: { "content-type": "application/json", "x-relay-nonce": nonce },
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
        "x-relay-part": JSON.stringify(batch.part),
        "x-relay-from": String(batch.from),
        "x-relay-to": String(batch.to),
      };
      const json = await sendFrames(`/sources/${source}/history`, batch, headers, signal);
      return understand(HistoryAccepted, json, "how far history has come");
    },
    async requeue(source, batch, signal) {
      return understand(
        Accepted,
        await sendFrames(`/sources/${source}/requeued`, batch, {}, signal),
        "what it took of a batch",
      );
    },
  };
}

function pack(plain: Uint8Array<ArrayBuffer>, encoding: (typeof ENCODINGS)[number]): Uint8Array<ArrayBuffer> {
  if (encoding === "zstd") return compress(plain) as Uint8Array<ArrayBuffer>;
  return encoding === "gzip" ? (gzipSync(plain, { level: 1 }) as Uint8Array<ArrayBuffer>) : plain;
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
