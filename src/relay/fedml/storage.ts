import { hash } from "node:crypto";
import type { Http, HttpRequest, Answer } from "../http.ts";
import { Refusal } from "../ports.ts";
import type { StorageConfig } from "./configs.ts";
import { sign } from "./sign.ts";

export interface Storage {
  /** Puts these bytes there, which are the same whenever they are asked for: it goes on where it was. Resolves with the address. */
  put(
    key: string,
    object: { bytes: () => AsyncIterable<Uint8Array>; size: number },
    signal: AbortSignal,
  ): Promise<string>;
  /** Nobody asks for it again: takes back the parts that are there of it. */
  giveUp(key: string, signal: AbortSignal): Promise<void>;
}

/** What comes to no more than this goes at once. */
const MIN_PART = 8 * 1024 * 1024;
/** Of an object S3 takes 10,000 parts. */
const MAX_PARTS = 9000;
/** A part lies in memory while it is sent. */
const MAX_PART = 64 * 1024 * 1024;
export const MAX_OBJECT = MAX_PARTS * MAX_PART;
/** Putting the parts together takes a storage a while. */
const COMPLETE_MS = 10 * 60_000;

/** Everybody who has the address may read it, as with the client: the platform itself does so. */
const PUBLIC = { "x-amz-acl": "public-read" };

/** An object of which some parts are there. */
interface Ongoing {
  key: string;
  id: string;
  partSize: number;
  etags: string[];
}

export interface StorageOptions {
  config: StorageConfig;
  http: Http;
  now: () => number;
}

/** A storage that speaks S3's protocol. */
export function createStorage({ config, http, now }: StorageOptions): Storage {
  let ongoing: Ongoing | undefined;

  async function request(
    method: HttpRequest["method"],
    key: string,
    query: string,
    { body, headers = {}, signal, timeoutMs }: Pick<HttpRequest, "body" | "headers" | "signal" | "timeoutMs">,
  ): Promise<Answer> {
    const path = `/${pathOf(key)}${query}`;
    const signed = await sign(config, {
      method,
      url: new URL(config.url + path),
      headers,
      sha256: hash("sha256", body ?? new Uint8Array(), "hex"),
      at: new Date(now()),
    });
    return http.request({ method, path, headers: signed, body, signal, timeoutMs });
  }

  async function put(
    key: string,
    { bytes, size }: { bytes: () => AsyncIterable<Uint8Array>; size: number },
    signal: AbortSignal,
  ): Promise<string> {
    const partSize = Math.max(MIN_PART, Math.ceil(size / MAX_PARTS));
    let number = 0;
    for await (const { part, isLast } of partsOf(bytes(), partSize)) {
      if (isLast && number === 0) {
        await request("PUT", key, "", { body: part, headers: PUBLIC, signal });
        return addressOf(key);
      }
      number++;
      if (ongoing?.key !== key || ongoing.partSize !== partSize) {
        if (number > 1) throw new Error(`The upload of ${key} was mixed up with another one.`);
        await abandon(signal);
        ongoing = { key, id: await begin(key, signal), partSize, etags: [] };
      }
      // It was there before the attempt broke off.
      if (number <= ongoing.etags.length) continue;
      ongoing.etags.push(await sendPart(ongoing, number, part, signal));
    }
    await complete(ongoing!, signal);
    ongoing = undefined;
    return addressOf(key);
  }

  async function begin(key: string, signal: AbortSignal): Promise<string> {
    const { bytes } = await request("POST", key, "?uploads=", { headers: PUBLIC, signal });
    const id = elementOf(bytes, "UploadId");
    if (id === undefined) throw new Refusal(502, "502", "The storage named no upload.");
    return id;
  }

  async function sendPart(
    { key, id }: Ongoing,
    number: number,
    body: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<string> {
    const query = `?partNumber=${number}&uploadId=${encodeURIComponent(id)}`;
    const { headers } = await request("PUT", key, query, { body, signal }).catch((error: unknown) =>
      begunAnew(error, signal),
    );
    const etag = headers.get("etag");
    if (!etag) throw new Refusal(502, "502", "The storage said no ETag of a part.");
    return etag;
  }

  async function complete({ key, id, etags }: Ongoing, signal: AbortSignal): Promise<void> {
    const parts = etags.map(
      (etag, at) => `<Part><PartNumber>${at + 1}</PartNumber><ETag>${escape(etag)}</ETag></Part>`,
    );
    const body = new TextEncoder().encode(
      `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join("")}</CompleteMultipartUpload>`,
    );
    const query = `?uploadId=${encodeURIComponent(id)}`;
    const { bytes } = await request("POST", key, query, { body, signal, timeoutMs: COMPLETE_MS }).catch(
      (error: unknown) => begunAnew(error, signal),
    );
    // Said when the answer had begun already.
    const code = elementOf(bytes, "Code");
    if (code !== undefined) throw new Refusal(500, code, `The storage could not put it together: ${code}.`);
  }

  /** The upload is not known there any more, or can't be gone on with. */
  async function begunAnew(error: unknown, signal: AbortSignal): Promise<never> {
    if (error instanceof Refusal && [400, 404].includes(error.status)) await abandon(signal);
    if (error instanceof Refusal && error.status === 404)
      throw new Refusal(503, error.type, error.message, { details: error.details });
    throw error;
  }

  /** What is left there all the same costs whoever pays for it, and a rule of the bucket can end it. */
  async function abandon(signal: AbortSignal): Promise<void> {
    if (!ongoing) return;
    const { key, id } = ongoing;
    ongoing = undefined;
    await request("DELETE", key, `?uploadId=${encodeURIComponent(id)}`, { signal }).catch(() => {});
  }

  const addressOf = (key: string) => `${config.url}/${pathOf(key)}`;

  return {
    put,
    async giveUp(key, signal) {
      if (ongoing?.key === key) await abandon(signal);
    },
  };
}

async function* partsOf(
  bytes: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<{ part: Uint8Array<ArrayBuffer>; isLast: boolean }> {
  const buffer = new Uint8Array(size);
  let length = 0;
  for await (let chunk of bytes)
    while (chunk.length > 0) {
      // Only what more follows is not the last.
      if (length === size) {
        yield { part: buffer, isLast: false };
        length = 0;
      }
      const taken = chunk.subarray(0, size - length);
      buffer.set(taken, length);
      length += taken.length;
      chunk = chunk.subarray(taken.length);
    }
  yield { part: buffer.subarray(0, length), isLast: true };
}

/** As S3 signs it: all but letters, digits and -_.~ by their bytes. */
const pathOf = (key: string) =>
  key
    .split("/")
    .map((piece) =>
      encodeURIComponent(piece).replace(
        /[!'()*]/g,
        (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
      ),
    )
    .join("/");

const elementOf = (bytes: Uint8Array, name: string): string | undefined =>
  new RegExp(`<${name}>([^<]{1,2000})</${name}>`).exec(
    new TextDecoder().decode(bytes.subarray(0, 20_000)),
  )?.[1];

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** What a storage says of a refusal: its code and its words, and nothing of the keys that may stand beside. */
export function readStorageRefusal(_type: string, bytes: Uint8Array): string | undefined {
  const code = elementOf(bytes, "Code");
  if (code === undefined) return undefined;
  const message = elementOf(bytes, "Message");
  return message === undefined ? code : `${code}: ${message}`;
}
