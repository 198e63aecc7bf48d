import { download } from "../blob/download.ts";
import type { Part } from "../blob/intake.ts";
import type { ObjectPlace, Objects, StoredObject } from "../blob/objects.ts";
import { MAX_FILE_BYTES } from "../blob/schema.ts";
import { drain, withBytes, withPieces } from "../body.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { FedmlCounts } from "./counts.ts";
import type { FedmlKeys, FedmlScope } from "./keys.ts";
import { bucketOf, keyOf } from "./object-key.ts";
import { placeRun } from "./place.ts";
import type { FedmlCall, FedmlHandler } from "./request.ts";
import { partsOf, verifySignature, type Signed } from "./sigv4.ts";
import { bodyOf } from "./storage-body.ts";
import { StorageError, toStorageError, toXml, xml } from "./storage-error.ts";

export interface StorageContext {
  collector: Collector;
  keys: FedmlKeys;
  counts: FedmlCounts;
  objects: Objects;
  /** What was announced under this name can be logged. */
  onObject: (place: ObjectPlace) => Promise<void>;
}

/** What of the S3 protocol FedML's clients speak: objects whole and in parts, by path, for those whose path has the secret. */
export function storageHandler(context: StorageContext): FedmlHandler {
  return async (call) => {
    call.keepOpen();
    try {
      return await serve(context, call);
    } catch (error) {
      const known = toStorageError(error);
      // What nobody foresaw is the app's to report.
      if (!known) throw error;
      const { body } = call.request;
      if (body && !body.locked) await drain(body.getReader());
      return toXml(known, call.path.replace(/^\/s3/, ""));
    }
  };
}

async function serve(context: StorageContext, { request, scope, path }: FedmlCall): Promise<Response> {
  const place = placeOf(context, scope, path);
  const { query } = partsOf(request.url);
  const { method } = request;
  if (method === "GET" || method === "HEAD") return read(context, place, query, request);
  const signed = await verify(context, scope, request);
  if (place.key === "") throw notImplemented("Buckets are as they are");
  const handler = handlerOf(method, query);
  // A run that was deleted takes nothing more.
  if (scope.run !== undefined) await placeRun(context.collector, scope, undefined);
  return handler({ ...context, place, query, request, signed });
}

function placeOf({ counts }: StorageContext, { run = "" }: FedmlScope, path: string): ObjectPlace {
  const [, bucket = "", key = ""] = /^\/s3\/([^/]*)\/?(.*)$/s.exec(path) ?? [];
  try {
    return { scope: run, bucket: bucketOf(bucket), key: key === "" ? "" : keyOf(key) };
  } catch (error) {
    counts.add("bad-object");
    throw error;
  }
}

type Query = ReturnType<typeof partsOf>["query"];

/** Whoever may write here signs with the same run's key as the address is of. */
async function verify(
  { keys, counts, collector }: StorageContext,
  scope: FedmlScope,
  request: Request,
): Promise<Signed> {
  try {
    const signed = await verifySignature(request, keys, collector.now());
    if (signed.scope.run === scope.run) return signed;
    throw new StorageError(403, "AccessDenied", "That access key is another run's.");
  } catch (error) {
    counts.add("unsigned");
    throw error;
  }
}

interface Call extends StorageContext {
  place: ObjectPlace;
  query: Query;
  request: Request;
  signed: Signed;
}

function handlerOf(method: string, query: Query): (call: Call) => Promise<Response> {
  const isPart = query["uploadId"] !== undefined;
  if (method === "PUT") return isPart ? putPart : putObject;
  if (method === "DELETE") return isPart ? abort : removeObject;
  if (method === "POST" && query["uploads"] !== undefined) return begin;
  if (method === "POST" && isPart) return complete;
  throw notImplemented(`${method} of that kind`);
}

const notImplemented = (what: string) =>
  new StorageError(501, "NotImplemented", `${what}: only objects are kept here, put whole or in parts.`);

const etagOf = (sha256: string) => `"${sha256}"`;

function read({ objects, collector }: StorageContext, place: ObjectPlace, query: Query, request: Request) {
  if (place.key === "") {
    if (request.method === "HEAD") return new Response(null);
    throw notImplemented("Listing");
  }
  if (query["uploadId"] !== undefined) throw notImplemented("Listing parts");
  const object = objects.find(place);
  if (!object) throw new StorageError(404, "NoSuchKey", "There is no object under that name.");
  const response = download(request, collector.blobs, { path: place.key, ...object });
  response.headers.set("last-modified", new Date(object.time).toUTCString());
  return response;
}

async function putObject(call: Call): Promise<Response> {
  const { collector, objects, place, onObject } = call;
  const received = await receive(call, (pieces, options) => collector.blobs.intake.put(pieces, options));
  // It may have been deleted while the bytes came.
  if (place.scope !== "") collector.counters.own(place.scope);
  objects.put(place, received);
  await onObject(place);
  return new Response(null, { headers: { etag: etagOf(received.sha256) } });
}

async function receive<T>(
  { request, signed, counts }: Call,
  take: (...sent: Parameters<Collector["blobs"]["intake"]["put"]>) => Promise<T>,
): Promise<T> {
  if (request.headers.has("x-amz-copy-source")) throw notImplemented("Copying");
  try {
    return await withPieces(request, { max: MAX_FILE_BYTES }, (raw) => {
      const { pieces, options } = bodyOf(request.headers, signed.body, raw);
      return take(pieces, options);
    });
  } catch (error) {
    if (error instanceof CollectorError && error.code === "invalid") counts.add("broken-off");
    throw error;
  }
}

async function removeObject({ objects, place }: Call): Promise<Response> {
  objects.remove(place);
  return new Response(null, { status: 204 });
}

async function begin({ objects, place }: Call): Promise<Response> {
  const { bucket, key } = place;
  const members = { Bucket: bucket, Key: key, UploadId: objects.begin(place) };
  return answer(xml("InitiateMultipartUploadResult", members));
}

const MAX_PARTS = 10_000;

async function putPart(call: Call): Promise<Response> {
  const { collector, objects, place, query } = call;
  const upload = String(query["uploadId"]);
  const number = Number(query["partNumber"]);
  if (!(Number.isInteger(number) && number >= 1 && number <= MAX_PARTS))
    throw new StorageError(400, "InvalidArgument", `Parts are numbered from 1 to ${MAX_PARTS}.`);
  if (!objects.isOpen(place, upload)) throw noSuchUpload();
  const part = await receive(call, (pieces, options) => collector.blobs.intake.putPart(pieces, options));
  await objects.putPart(place, upload, number, part).catch(asUpload);
  return new Response(null, { headers: { etag: etagOf(part.sha256) } });
}

const noSuchUpload = () =>
  new StorageError(
    404,
    "NoSuchUpload",
    "There is no such upload: it was completed, aborted or given up. Begin it anew.",
  );

function asUpload(error: unknown): never {
  throw error instanceof CollectorError && error.code === "not-found" ? noSuchUpload() : error;
}

/** Of the list of 10,000 parts, with room. */
const MAX_LIST_BYTES = 4 * 1024 * 1024;

async function complete(call: Call): Promise<Response> {
  const { collector, objects, place, query, request, signed, onObject } = call;
  const upload = String(query["uploadId"]);
  if (!objects.completed(place, upload) && !objects.isOpen(place, upload)) throw noSuchUpload();
  const asked = await withBytes(request, { max: MAX_LIST_BYTES }, async (bytes) => {
    const text = new TextDecoder().decode(bytes);
    if (signed.body.kind === "digest") await checkDigest(bytes, signed.body.sha256);
    return partsIn(text);
  });
  // Another may have asked the same meanwhile.
  const known = objects.completed(place, upload);
  if (known) return completed(request, place, await known);
  const parts = choose(asked, objects.partsOf(upload));
  const object = await objects.complete(place, upload, parts).catch(asUpload);
  if (place.scope !== "") collector.counters.own(place.scope);
  await onObject(place);
  return completed(request, place, object);
}

async function checkDigest(bytes: Uint8Array, sha256: string): Promise<void> {
  const found = Buffer.from(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  if (found.toString("hex") !== sha256)
    throw new StorageError(400, "XAmzContentSHA256Mismatch", "The list of parts changed on its way.");
}

interface NamedPart {
  number: number;
  etag: string;
}

/** The XML is machines' and flat: what is looked for in it can't stand inside of something else. */
function partsIn(text: string): NamedPart[] {
  const parts: NamedPart[] = [];
  // (A pattern over the whole looks from each <Part> to the end, which takes half a minute for 256 KiB of them.)
  for (let at = text.indexOf("<Part>"); at !== -1; at = text.indexOf("<Part>", at)) {
    const end = text.indexOf("</Part>", at);
    if (end === -1 || parts.length === MAX_PARTS) throw noList();
    parts.push(partIn(text.slice(at, end)));
    at = end;
  }
  if (parts.length === 0) throw noList();
  return parts;
}

function partIn(text: string): NamedPart {
  const [, number] = /<PartNumber>\s*(\d{1,5})\s*<\/PartNumber>/.exec(text) ?? [];
  if (number === undefined) throw noList();
  const [, etag = ""] = /<ETag>([^<]{0,200})<\/ETag>/.exec(text) ?? [];
  return { number: Number(number), etag: etag.trim().replaceAll(/&quot;|&#34;|"/g, "") };
}

const noList = () => new StorageError(400, "MalformedXML", "The body is no list of parts.");

function choose(asked: readonly NamedPart[], known: Map<number, Part>): Part[] {
  return asked.map(({ number, etag }, index) => {
    if (index > 0 && number <= asked[index - 1]!.number)
      throw new StorageError(400, "InvalidPartOrder", "The parts must be named in their order.");
    const part = known.get(number);
    if (part?.sha256 !== etag)
      throw new StorageError(400, "InvalidPart", `Part ${number} is not here, or is another one.`);
    return part;
  });
}

function completed({ url }: Request, { bucket, key }: ObjectPlace, { sha256 }: StoredObject): Response {
  const location = url.replace(/\?.*$/s, "");
  return answer(
    xml("CompleteMultipartUploadResult", {
      Location: location,
      Bucket: bucket,
      Key: key,
      ETag: etagOf(sha256),
    }),
  );
}

async function abort({ objects, place, query }: Call): Promise<Response> {
  await objects.abort(place, String(query["uploadId"])).catch(asUpload);
  return new Response(null, { status: 204 });
}

const answer = (text: string) => new Response(text, { headers: { "content-type": "application/xml" } });
