/**
 * Reads OTLP by the field numbers that opentelemetry-proto publishes (metrics/v1, logs/v1, common/v1, resource/v1), and knows nothing of
 * how it is written here.
 */
import { gunzipSync } from "node:zlib";

/** What a field holds: a message of these fields, or a plain value. */
type Kind = "string" | "bytes" | "varint" | "double" | "fixed64" | "fixed32" | Schema;
interface Schema {
  [field: number]: [name: string, kind: Kind | (() => Schema), repeated?: "*"];
}

const anyValue: Schema = {
  1: ["stringValue", "string"],
  2: ["boolValue", "varint"],
  3: ["intValue", "varint"],
  4: ["doubleValue", "double"],
};
const keyValue: Schema = { 1: ["key", "string"], 2: ["value", anyValue] };
const resource: Schema = { 1: ["attributes", keyValue, "*"] };
const scope: Schema = { 1: ["name", "string"], 2: ["version", "string"] };
const point: Schema = {
  7: ["attributes", keyValue, "*"],
  2: ["start", "fixed64"],
  3: ["time", "fixed64"],
  4: ["asDouble", "double"],
  6: ["asInt", "fixed64"],
  8: ["flags", "varint"],
};
const metric: Schema = {
  1: ["name", "string"],
  2: ["description", "string"],
  3: ["unit", "string"],
  5: ["gauge", { 1: ["points", point, "*"] }],
  7: ["sum", { 1: ["points", point, "*"], 2: ["temporality", "varint"], 3: ["monotonic", "varint"] }],
};
const record: Schema = {
  1: ["time", "fixed64"],
  11: ["observed", "fixed64"],
  2: ["severity", "varint"],
  3: ["severityText", "string"],
  5: ["body", anyValue],
  6: ["attributes", keyValue, "*"],
  12: ["event", "string"],
};
const request = (items: string, item: Schema): Schema => ({
  1: [
    "groups",
    {
      1: ["resource", resource],
      2: ["scopes", { 1: ["scope", scope], 2: [items, item, "*"] }, "*"],
    },
    "*",
  ],
});

// eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
type Message = any;

/** Throws at a field that the schema lacks, and where the bytes are no message. */
function read(bytes: Uint8Array, schema: Schema): Message {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const message: Message = {};
  for (const [name, , repeated] of Object.values(schema)) if (repeated) message[name] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const found = schema[tag >> 3];
    if (!found) throw new Error(`There is no field ${tag >> 3}.`);
    const [name, given, repeated] = found;
    const kind = typeof given === "function" ? given() : given;
    const wire = { varint: 0, double: 1, fixed64: 1, fixed32: 5 }[kind as "varint"] ?? 2;
    if ((tag & 7) !== wire) throw new Error(`${name} has wire type ${tag & 7}.`);
    let value: unknown;
    if (kind === "varint") value = Number(varint());
    else if (kind === "double") value = view.getFloat64(at, true);
    else if (kind === "fixed64") value = view.getBigUint64(at, true);
    if (wire === 1) at += 8;
    if (wire === 2) {
      const size = Number(varint());
      if (at + size > bytes.length) throw new Error(`${name} ends beyond its message.`);
      const part = bytes.subarray(at, (at += size));
      value =
        kind === "string"
          ? new TextDecoder("utf-8", { fatal: true }).decode(part)
          : kind === "bytes"
            ? part
            : read(part, kind as Schema);
    }
    if (repeated) message[name].push(value);
    else message[name] = value;
  }
  return message;
}

export type Attributes = Record<string, string | number>;
export interface OtlpPoint {
  resource: Attributes;
  name: string;
  unit: string | undefined;
  kind: "gauge" | "sum";
  attributes: Attributes;
  time: bigint;
  value: number;
}
export interface OtlpRecord {
  resource: Attributes;
  time: bigint;
  severity: number | undefined;
  severityText: string | undefined;
  body: string;
  event: string | undefined;
  attributes: Attributes;
}

const attributesOf = (list: Message[]): Attributes =>
  Object.fromEntries(list.map(({ key, value }) => [key, Object.values(value)[0] as string | number]));

export function readMetrics(bytes: Uint8Array): OtlpPoint[] {
  const { groups } = read(bytes, request("metrics", metric));
  return groups.flatMap(({ resource, scopes }: Message) =>
    scopes.flatMap(({ metrics }: Message) =>
      metrics.flatMap(({ name, unit, gauge, sum }: Message) =>
        (gauge ?? sum).points.map(({ attributes, time, asDouble }: Message) => ({
          resource: attributesOf(resource.attributes),
          name,
          unit,
          kind: gauge ? "gauge" : "sum",
          attributes: attributesOf(attributes),
          time,
          value: asDouble,
        })),
      ),
    ),
  );
}

export function readLogs(bytes: Uint8Array): OtlpRecord[] {
  const { groups } = read(bytes, request("records", record));
  return groups.flatMap(({ resource, scopes }: Message) =>
    scopes.flatMap(({ records }: Message) =>
      records.map(({ attributes, body, time, severity, severityText, event }: Message) => ({
        resource: attributesOf(resource.attributes),
        time,
        severity,
        severityText,
        body: body.stringValue ?? "",
        event,
        attributes: attributesOf(attributes),
      })),
    ),
  );
}

export interface OtlpRequest {
  path: string;
  headers: Headers;
  points: OtlpPoint[];
  records: OtlpRecord[];
}

export interface TestBackend {
  url: string;
  /** Every request, taken or not. */
  requests: OtlpRequest[];
  /** What was answered with 2xx. */
  points: OtlpPoint[];
  records: OtlpRecord[];
  /** Answered in the place of 200, where it returns something. */
  answer: ((request: OtlpRequest) => Response | undefined | Promise<Response | undefined>) | undefined;
  stop(): Promise<void>;
}

/** A backend that takes OTLP/HTTP, and fails as it is told. */
export function startBackend(port = 0): TestBackend {
  const backend: TestBackend = {
    url: "",
    requests: [],
    points: [],
    records: [],
    answer: undefined,
    stop: () => server.stop(true),
  };
  const server = Bun.serve({
    port,
    hostname: "127.0.0.1",
    reusePort: false,
    async fetch(raw) {
      const sent = await raw.bytes();
      const bytes = raw.headers.get("content-encoding") === "gzip" ? gunzipSync(sent) : sent;
      const path = new URL(raw.url).pathname;
      const request: OtlpRequest = {
        path,
        headers: raw.headers,
        points: path.endsWith("/v1/metrics") ? readMetrics(bytes) : [],
        records: path.endsWith("/v1/logs") ? readLogs(bytes) : [],
      };
      backend.requests.push(request);
      const answer = await backend.answer?.(request);
      if (!answer || answer.ok) {
        backend.points.push(...request.points);
        backend.records.push(...request.records);
      }
      return answer ?? new Response("", { headers: { "content-type": "application/x-protobuf" } });
    },
  });
  backend.url = `http://127.0.0.1:${server.port}`;
  return backend;
}
