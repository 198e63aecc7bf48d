import { createHash, createHmac, randomBytes } from "node:crypto";
import { connect as openSocket } from "node:net";
import { crc32 } from "node:zlib";
import { DISCONNECT, RawMqtt } from "./mqtt.ts";

/** What test/fedml-client/record.mjs writes. */
export interface Recorded {
  client: string;
  recordings: { name: string; exchanges: Exchange[] }[];
}

export interface Exchange {
  /** HTTP: "POST {prefix}/…". */
  request?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Of an object's bytes only the number was kept. */
  bytes?: number;
  /** MQTT: a client's id. */
  connect?: string;
  keepalive?: number;
  publish?: string;
  flags?: number;
  payload?: string;
  client?: string;
  disconnect?: string;
}

export interface Answer {
  request: string;
  status: number;
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  json: any;
}

export interface Replay {
  answers: Answer[];
  /** SHA-256 of what was put, by the last piece of its address. */
  objects: Map<string, string>;
}

/** Sends what was recorded, in its order, byte by byte where that is possible, with the words in braces filled in. */
export async function replay(
  exchanges: Exchange[],
  { url, words }: { url: string; words: Record<string, string> },
): Promise<Replay> {
  const { host, hostname, port } = new URL(url);
  const fill = (text: string) =>
    text.replaceAll(/\{(\w+)\}/g, (whole, word: string) => ({ ...words, host })[word] ?? whole);
  const answers: Answer[] = [];
  const parts = new Map<string, Buffer>();
  const objects = new Map<string, string>();
  const etags = new Map<string, string>();
  const connections = new Map<string, RawMqtt>();
  let config: Config | undefined;
  let id = 0;

  async function request(exchange: Exchange): Promise<void> {
    const [method = "", path = ""] = fill(exchange.request!).split(" ");
    const number = /partNumber=(\d+)/.exec(path)?.[1];
    let body: Buffer = Buffer.from(fill(exchange.body ?? ""));
    if (exchange.bytes !== undefined) {
      body = randomBytes(exchange.bytes);
      parts.set(number ?? "1", body);
    }
    if (path.includes("uploadId") && method === "POST")
      body = Buffer.from(
        exchange.body!.replaceAll(
          /"\{etag\}"(<\/ETag><PartNumber>)(\d+)/g,
          (_, between: string, part: string) => `${etags.get(part)}${between}${part}`,
        ),
      );
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(exchange.headers!)) headers[name] = fill(value);
    headers["Content-Length"] = String(body.length);
    if (headers["x-amz-checksum-crc32"] !== undefined)
      headers["x-amz-checksum-crc32"] = Buffer.from(
        crc32(body).toString(16).padStart(8, "0"),
        "hex",
      ).toString("base64");
    if (headers["Authorization"] !== undefined) sign(method, path, headers, body, config!);
    const { status, text, etag } = await send(hostname, Number(port), method, path, headers, body);
    if (etag !== undefined) etags.set(number ?? "1", etag);
    const json = text.startsWith("{") ? JSON.parse(text) : undefined;
    if (path.endsWith("/configs/fetch")) config = json.data;
    const upload = /<UploadId>(.+?)<\/UploadId>/.exec(text)?.[1];
    if (upload !== undefined) words["upload"] = encodeURIComponent(upload);
    answers.push({ request: exchange.request!, status, json });
    const isLast = method === "POST" ? path.includes("uploadId") : number === undefined && method === "PUT";
    if (!isLast) return;
    const hash = createHash("sha256");
    for (const [, bytes] of [...parts].sort(([a], [b]) => Number(a) - Number(b))) hash.update(bytes);
    const name = decodeURIComponent(path.split("?")[0]!.split("/").at(-1)!);
    objects.set(name, hash.digest("hex"));
    parts.clear();
  }

  function publish({ client, publish: topic, payload, flags }: Exchange): Promise<void> {
    const retain = (flags! & 1) === 1;
    return connections.get(client!)!.publish(fill(topic!), fill(payload!), { id: ++id, retain });
  }

  for (const exchange of exchanges) {
    if (exchange.request !== undefined) await request(exchange);
    else if (exchange.connect !== undefined) {
      const { BROKER_PORT, MQTT_USER: user, MQTT_PWD: password } = config!.mqtt_config;
      const { connect: client, keepalive: keepAlive = 0 } = exchange;
      connections.set(client, await RawMqtt.connect(BROKER_PORT, { client, user, password, keepAlive }));
    } else if (exchange.publish !== undefined) await publish(exchange);
    else if (exchange.disconnect !== undefined) connections.get(exchange.disconnect)!.send(DISCONNECT);
  }
  for (const connection of connections.values()) await connection.vanish();
  return { answers, objects };
}

interface Config {
  mqtt_config: { BROKER_PORT: number; MQTT_USER: string; MQTT_PWD: string };
  s3_config: { CN_S3_AKI: string; CN_S3_SAK: string };
}

/** Signature V4 of the headers that the client signed, with the keys it was given here. */
function sign(
  method: string,
  path: string,
  headers: Record<string, string>,
  body: Buffer,
  config: Config,
): void {
  const { CN_S3_AKI: key, CN_S3_SAK: secret } = config.s3_config;
  const date = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const day = date.slice(0, 8);
  headers["X-Amz-Date"] = date;
  headers["X-Amz-Content-SHA256"] = createHash("sha256").update(body).digest("hex");
  const given = headers["Authorization"]!;
  const signed = /SignedHeaders=([^,]+)/.exec(given)![1]!;
  const values = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value.trim()]));
  const [resource = "", query = ""] = path.split("?");
  const canonicalQuery = query
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => (pair.includes("=") ? pair : `${pair}=`))
    .sort()
    .join("&");
  const canonicalHeaders = signed
    .split(";")
    .map((name) => `${name}:${values.get(name)}\n`)
    .join("");
  const digest = headers["X-Amz-Content-SHA256"];
  const canonical = [method, resource, canonicalQuery, canonicalHeaders, signed, digest].join("\n");
  const scope = `${day}/us-east-1/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", date, scope, createHash("sha256").update(canonical).digest("hex")].join(
    "\n",
  );
  const hmac = (by: string | Buffer, what: string) => createHmac("sha256", by).update(what).digest();
  const signing = [day, "us-east-1", "s3", "aws4_request"].reduce<string | Buffer>(hmac, `AWS4${secret}`);
  const signature = createHmac("sha256", signing).update(text).digest("hex");
  headers["Authorization"] =
    `AWS4-HMAC-SHA256 Credential=${key}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
}

interface Sent {
  status: number;
  text: string;
  etag: string | undefined;
}

/** HTTP by hand: headers go as they were recorded, and a body that asks whether it may come waits for the answer. */
function send(
  host: string,
  port: number,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: Buffer,
): Promise<Sent> {
  const socket = openSocket({ host, port });
  const lines = Object.entries({ ...headers, Connection: "close" }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  let received = Buffer.alloc(0);
  let isAsking = headers["Expect"] !== undefined;
  if (!isAsking) socket.write(body);
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (!isAsking || !received.includes("\r\n\r\n")) return;
      isAsking = false;
      if (!received.toString("latin1").startsWith("HTTP/1.1 100")) return;
      received = received.subarray(received.indexOf("\r\n\r\n") + 4);
      socket.write(body);
    });
    socket.on("close", () => {
      const end = received.indexOf("\r\n\r\n");
      const head = received.subarray(0, end).toString("latin1");
      resolve({
        status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
        text: received.subarray(end + 4).toString(),
        etag: /^etag: (.+)$/im.exec(head)?.[1]?.trim(),
      });
    });
  });
}
