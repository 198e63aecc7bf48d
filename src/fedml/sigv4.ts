import { SignatureV4 } from "@smithy/signature-v4";
import { NodeSha256 } from "../sigv4-digest.ts";
import { isEqual } from "../token.ts";
import type { FedmlKeys, FedmlScope } from "./keys.ts";
import { StorageError } from "./storage-error.ts";

/** What a signature says of the body: its digest, or that it says nothing of it. */
export type SignedBody =
  | { kind: "digest"; sha256: string }
  | { kind: "unsigned" }
  /** In chunks, with checksums behind them. */
  | { kind: "chunked" };

export interface Signed {
  scope: FedmlScope;
  body: SignedBody;
}

/** How far a client's clock may be from ours. */
const MAX_SKEW_MS = 15 * 60 * 1000;
const MAX_EXPIRES_S = 7 * 24 * 3600;
const ALGORITHM = "AWS4-HMAC-SHA256";

interface Claim {
  accessKeyId: string;
  day: string;
  region: string;
  service: string;
  signedHeaders: string[];
  signature: string;
  date: Date;
  /** Seconds; of a link that is good for a while. */
  expires: number | undefined;
}

/** Whose key signed this request: signed anew by the same rules, it has to come out the same. */
export async function verifySignature(request: Request, keys: FedmlKeys, now: number): Promise<Signed> {
  const { path, query } = partsOf(request.url);
  const { headers } = request;
  const claim = query["X-Amz-Algorithm"] === undefined ? claimOfHeader(headers) : claimOfQuery(query);
  checkTime(claim, now);
  const key = keys.s3SecretOf(claim.accessKeyId);
  if (!key) throw new StorageError(403, "InvalidAccessKeyId", "That access key is none of ours.");
  const signed = headersOf(claim, headers);
  const signer = new SignatureV4({
    service: claim.service,
    region: claim.region,
    credentials: { accessKeyId: claim.accessKeyId, secretAccessKey: key.secretAccessKey },
    sha256: NodeSha256,
    // S3's own rule: a path is encoded once.
    uriEscapePath: false,
    applyChecksum: false,
  });
  const again = {
    method: request.method,
    protocol: "http:",
    hostname: "",
    path,
    query,
    headers: signed,
  };
  const expected =
    claim.expires === undefined ? await signAgain(signer, again, claim) : await presign(signer, again, claim);
  if (!isEqual(expected, claim.signature))
    throw new StorageError(
      403,
      "SignatureDoesNotMatch",
      "The signature does not fit the request: the key is another one, or something changed on the way.",
    );
  return {
    scope: key.scope,
    body: claim.expires === undefined ? bodyOf(headers) : { kind: "unsigned" },
  };
}

type Unsigned = Parameters<SignatureV4["sign"]>[0] & {
  query: Record<string, string | string[]>;
  headers: Record<string, string>;
};

async function signAgain(
  signer: SignatureV4,
  request: object,
  { date, signedHeaders }: Claim,
): Promise<string> {
  const { headers } = await signer.sign(request as Unsigned & { method: string }, {
    signingDate: date,
    signableHeaders: new Set(signedHeaders),
  });
  const [, signature] = /Signature=([0-9a-f]{64})$/.exec(headers["authorization"] ?? "") ?? [];
  // (An empty one would fit an empty one.)
  if (signature === undefined) throw new Error("The signature could not be computed.");
  return signature;
}

const SIGNING_PARAMETERS = new Set([
  "X-Amz-Algorithm",
  "X-Amz-Credential",
  "X-Amz-Date",
  "X-Amz-Expires",
  "X-Amz-SignedHeaders",
  "X-Amz-Signature",
]);

async function presign(
  signer: SignatureV4,
  request: { query: Query },
  { date, expires, signedHeaders }: Claim,
): Promise<string> {
  const query = Object.fromEntries(
    Object.entries(request.query).filter(([name]) => !SIGNING_PARAMETERS.has(name)),
  );
  // A body that is no text and no bytes is one whose digest is not signed.
  const presigned = await signer.presign({ ...request, query, body: {} } as never, {
    signingDate: date,
    expiresIn: expires!,
    signableHeaders: new Set(signedHeaders),
    unhoistableHeaders: new Set(signedHeaders),
  });
  return String(presigned.query?.["X-Amz-Signature"]);
}

const unsigned = (message: string) => new StorageError(403, "AccessDenied", message);
const malformed = (message: string) => new StorageError(400, "AuthorizationHeaderMalformed", message);

function claimOfHeader(headers: Headers): Claim {
  const header = headers.get("authorization");
  if (header === null) throw unsigned("The request is not signed.");
  const fields = new Map(
    header
      .slice(ALGORITHM.length)
      .split(",")
      .map((field) => field.trim().split("=", 2) as [string, string]),
  );
  if (!header.startsWith(`${ALGORITHM} `)) throw malformed(`Sign with ${ALGORITHM}.`);
  return {
    ...credentialOf(fields.get("Credential")),
    signedHeaders: namesOf(fields.get("SignedHeaders")),
    signature: signatureOf(fields.get("Signature")),
    date: dateOf(headers.get("x-amz-date")),
    expires: undefined,
  };
}

function claimOfQuery(query: Query): Claim {
  const text = (name: string) => (typeof query[name] === "string" ? query[name] : "");
  if (text("X-Amz-Algorithm") !== ALGORITHM) throw malformed(`Sign with ${ALGORITHM}.`);
  const expires = Number(text("X-Amz-Expires"));
  if (!(Number.isInteger(expires) && expires > 0 && expires <= MAX_EXPIRES_S))
    throw malformed("X-Amz-Expires must be between one second and seven days.");
  return {
    ...credentialOf(text("X-Amz-Credential")),
    signedHeaders: namesOf(text("X-Amz-SignedHeaders")),
    signature: signatureOf(text("X-Amz-Signature")),
    date: dateOf(text("X-Amz-Date")),
    expires,
  };
}

function credentialOf(credential = ""): Pick<Claim, "accessKeyId" | "day" | "region" | "service"> {
  const parts = credential.split("/");
  const [accessKeyId, day, region, service, end] = parts;
  if (
    parts.length !== 5 ||
    !accessKeyId ||
    !/^\d{8}$/.test(day!) ||
    service !== "s3" ||
    end !== "aws4_request"
  )
    throw malformed("The credential must be KEY/DAY/REGION/s3/aws4_request.");
  return { accessKeyId, day: day!, region: region!, service };
}

function signatureOf(signature = ""): string {
  if (!/^[0-9a-f]{64}$/.test(signature)) throw malformed("The signature must be 64 hexadecimal digits.");
  return signature;
}

function namesOf(list = ""): string[] {
  const names = list.split(";");
  if (!names.includes("host")) throw unsigned("The host must be signed.");
  return names;
}

function dateOf(text: string | null): Date {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? "");
  if (!parts) throw unsigned("The request has no date of signing.");
  const [, year, month, day, hour, minute, second] = parts;
  const date = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date.getTime())) throw unsigned("The date of signing is none.");
  return date;
}

/** What was overheard is of no use for long. */
function checkTime({ day, date, expires }: Claim, now: number): void {
  if (date.toISOString().slice(0, 10).replaceAll("-", "") !== day)
    throw malformed("The credential is of another day than the date.");
  const age = now - date.getTime();
  if (age < -MAX_SKEW_MS || (expires === undefined && age > MAX_SKEW_MS))
    throw new StorageError(
      403,
      "RequestTimeTooSkewed",
      "The clocks of client and server are more than 15 minutes apart.",
    );
  if (expires !== undefined && age > expires * 1000) throw unsigned("The link has expired.");
}

/** The signed ones, as they came. */
function headersOf({ signedHeaders, expires }: Claim, headers: Headers): Record<string, string> {
  if (expires === undefined)
    for (const [name] of headers)
      if (name.startsWith("x-amz-") && !signedHeaders.includes(name))
        throw unsigned(`The header ${name} is not signed.`);
  return Object.fromEntries(signedHeaders.map((name) => [name, headers.get(name) ?? ""]));
}

function bodyOf(headers: Headers): SignedBody {
  const said = headers.get("x-amz-content-sha256");
  if (said !== null && /^[0-9a-f]{64}$/.test(said)) return { kind: "digest", sha256: said };
  if (said === "UNSIGNED-PAYLOAD") return { kind: "unsigned" };
  if (said === "STREAMING-UNSIGNED-PAYLOAD-TRAILER") return { kind: "chunked" };
  throw new StorageError(
    501,
    "NotImplemented",
    "Sign the body by its SHA-256 in x-amz-content-sha256: signatures of chunks are not taken here.",
  );
}

type Query = Record<string, string | string[]>;

/** As they are signed: the path encoded in the one way that is agreed on, the query by name. */
export function partsOf(url: string): { path: string; query: Query } {
  const [, path = "", search = ""] = /^[a-z]+:\/\/[^/]*([^?#]*)(?:\?([^#]*))?/.exec(url) ?? [];
  const query = Object.create(null) as Query;
  for (const pair of search.split("&").filter(Boolean)) {
    const [name, value = ""] = pair.split(/=(.*)/s, 2).map(decode) as [string, string?];
    const known = query[name];
    query[name] = known === undefined ? value : [...[known].flat(), value];
  }
  return { path: path.split("/").map(decode).map(encode).join("/"), query };
}

export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new StorageError(400, "InvalidURI", "The address is not well encoded.");
  }
}

const encode = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
