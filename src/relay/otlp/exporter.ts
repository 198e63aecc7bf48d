import { gzip } from "node:zlib";
import { CollectorError } from "../../error.ts";
import type { Taken } from "../foreign.ts";
import { printable, type Http } from "../http.ts";
import { Refusal } from "../ports.ts";
import type { Body } from "./encode.ts";
import type { Signal } from "./prepare.ts";
import { readProtobuf } from "./protobuf.ts";

export interface Exporter {
  /** Rejects with a Refusal, or with anything else where there was no answer. */
  send(signal: Signal, body: Body, signalToEnd: AbortSignal): Promise<Taken>;
}

export const PROTOBUF = "application/x-protobuf";
/** So much a backend may say (opentelemetry-proto, "OTLP/HTTP Response"). */
export const MAX_EXPORT_ANSWER_BYTES = 4 * 1024 * 1024;
const MIN_COMPRESSED = 512;

/** OTLP/HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp. */
export function createExporter(http: Http): Exporter {
  /** Until a backend says that it reads no gzip. */
  let isCompressing = true;

  return {
    async send(signal, { bytes, items }, ending) {
      const isPacked = isCompressing && bytes.length >= MIN_COMPRESSED;
      const body = isPacked ? await pack(bytes) : bytes;
      try {
        const { headers, bytes: answer } = await http.request({
          method: "POST",
          path: `/v1/${signal}`,
          headers: { "content-type": PROTOBUF, ...(isPacked && { "content-encoding": "gzip" }) },
          body,
          signal: ending,
        });
        return readAnswer(headers.get("content-type") ?? "", answer, items);
      } catch (error) {
        if (!isPacked || !(error instanceof Refusal) || error.status !== 415) throw error;
        isCompressing = false;
        return this.send(signal, { bytes, items }, ending);
      }
    },
  };
}

const pack = (bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> =>
  new Promise((resolve, reject) => {
    // The fastest level makes it hardly larger, and the machine has other work.
    gzip(bytes, { level: 1 }, (error, packed) =>
      error ? reject(error) : resolve(packed as Uint8Array<ArrayBuffer>),
    );
  });

/** ExportMetricsServiceResponse and ExportLogsServiceResponse {partial_success = 1 {rejected = 1, message = 2}} */
function readAnswer(type: string, bytes: Uint8Array, items: number): Taken {
  // A proxy's page of welcome has taken nothing.
  if (/^text\/html\b/i.test(type))
    throw new CollectorError("unreachable", "The answer is a page, and no backend's.", {
      hint: "Check the address, and what stands between.",
    });
  try {
    if (/^application\/json\b/i.test(type)) return readJson(bytes, items);
    if (!/^application\/(x-)?protobuf\b/i.test(type)) return TAKEN;
    const partial = readProtobuf(bytes).get(1);
    if (!(partial instanceof Uint8Array)) return TAKEN;
    const fields = readProtobuf(partial);
    const message = fields.get(2);
    return exported(fields.get(1), message instanceof Uint8Array ? text(message) : "", items);
  } catch {
    // It said 200, and that is what counts.
    return TAKEN;
  }
}

const TAKEN: Taken = { rejected: 0, message: "" };

function readJson(bytes: Uint8Array, items: number): Taken {
  const { partialSuccess: partial } = JSON.parse(text(bytes)) as {
    partialSuccess?: { rejectedDataPoints?: unknown; rejectedLogRecords?: unknown; errorMessage?: unknown };
  };
  if (!partial) return TAKEN;
  const { rejectedDataPoints, rejectedLogRecords, errorMessage } = partial;
  const rejected = Number(rejectedDataPoints ?? rejectedLogRecords ?? 0);
  return exported(rejected, typeof errorMessage === "string" ? errorMessage : "", items);
}

/** No more than there were. */
const exported = (rejected: unknown, message: string, items: number): Taken => ({
  rejected: typeof rejected === "number" && rejected > 0 ? Math.min(rejected, items) : 0,
  message: printable(message, 500),
});

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** What a refusal says: google.rpc.Status {message = 2}, or plain text. */
export function readRefusal(type: string, bytes: Uint8Array): string | undefined {
  if (/^text\/plain\b/i.test(type)) return text(bytes.subarray(0, 2000)).trim();
  try {
    if (/^application\/json\b/i.test(type)) {
      const { message } = JSON.parse(text(bytes)) as { message?: unknown };
      return typeof message === "string" ? message : undefined;
    }
    const message = /^application\/(x-)?protobuf\b/i.test(type) ? readProtobuf(bytes).get(2) : undefined;
    return message instanceof Uint8Array ? text(message) : undefined;
  } catch {
    return undefined;
  }
}

const PATH_HINT =
  "Is the path right? /v1/metrics and /v1/logs are looked for below the address. One that takes no logs is added with ?logs=false.";

/** Said of any body: the token, the path or the protocol is wrong. */
export const HINTS: Record<number, string> = {
  401: "Give its token with --token-file when you add it again.",
  403: "Give a token that may write when you add it again, with --token-file.",
  404: PATH_HINT,
  405: PATH_HINT,
  415: "It takes no OTLP as protobuf: give the address of one that does, such as an OpenTelemetry Collector.",
};
