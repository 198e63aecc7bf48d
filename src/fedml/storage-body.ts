import type { IntakeOptions, Received } from "../blob/intake.ts";
import { StorageError } from "./storage-error.ts";
import type { SignedBody } from "./sigv4.ts";

/** What else a client says of the bytes it sends. */
export interface SentBody {
  pieces: AsyncIterable<Uint8Array>;
  options: IntakeOptions;
}

const CHECKSUM = "x-amz-checksum-";
/** A chunk's length in hexadecimal digits, an extension, the end of the line. */
const MAX_LINE = 1024;

/** The bytes that are meant, and what is checked of them when all of them are here. */
export function bodyOf(headers: Headers, body: SignedBody, raw: AsyncIterable<Uint8Array>): SentBody {
  const length = headers.get(body.kind === "chunked" ? "x-amz-decoded-content-length" : "content-length");
  const expected = length === null ? undefined : Number(length);
  if (expected !== undefined && !(Number.isSafeInteger(expected) && expected >= 0))
    throw new StorageError(400, "InvalidArgument", "The length is no number of bytes.");
  const checksums = new Map<string, string>();
  for (const [name, value] of headers)
    if (name.startsWith(CHECKSUM) && name !== "x-amz-checksum-algorithm" && name !== "x-amz-checksum-type")
      checksums.set(name.slice(CHECKSUM.length), value);
  const check = (received: Received) => {
    if (expected !== undefined && received.size !== expected)
      throw new StorageError(
        400,
        "IncompleteBody",
        `${received.size} bytes came, and ${expected} were said.`,
      );
    if (body.kind === "digest" && received.sha256 !== body.sha256)
      throw new StorageError(
        400,
        "XAmzContentSHA256Mismatch",
        "The bytes are not those of x-amz-content-sha256: they changed on their way.",
      );
    for (const [name, value] of checksums) checkSum(name, value, received, body.kind === "digest");
  };
  return {
    pieces: body.kind === "chunked" ? unchunk(raw, checksums) : raw,
    options: { expected, check },
  };
}

/** Others than these are passed over only where the signature speaks for the bytes. */
function checkSum(name: string, value: string, { crc32, sha256 }: Received, isSigned: boolean): void {
  const big = Buffer.alloc(4);
  big.writeUInt32BE(crc32);
  const found =
    name === "crc32"
      ? big.toString("base64")
      : name === "sha256"
        ? Buffer.from(sha256, "hex").toString("base64")
        : undefined;
  if (found === undefined && !isSigned)
    throw new StorageError(501, "NotImplemented", `Send a checksum by CRC32 or SHA256, not ${name}.`);
  if (found !== undefined && found !== value)
    throw new StorageError(400, "BadDigest", `The bytes do not fit their ${name} checksum.`);
}

const broken = () =>
  new StorageError(400, "IncompleteBody", "The chunks of the body are not of aws-chunked's form.");

/** aws-chunked: "LENGTH\r\n", so many bytes, "\r\n", …, "0\r\n", and what is said of them as "name:value\r\n" lines. */
async function* unchunk(
  raw: AsyncIterable<Uint8Array>,
  checksums: Map<string, string>,
): AsyncGenerator<Uint8Array> {
  let state: "length" | "bytes" | "end" | "trailer" = "length";
  let left = 0;
  let line = "";
  for await (const piece of raw) {
    for (let at = 0; at < piece.length;) {
      if (state === "bytes") {
        const bytes = piece.subarray(at, at + left);
        at += bytes.length;
        left -= bytes.length;
        yield bytes;
        if (left === 0) state = "end";
        continue;
      }
      const end = piece.indexOf(10, at);
      const until = end === -1 ? piece.length : end + 1;
      // (A Buffer of shared memory can't be decoded in place.)
      line += String.fromCharCode(...piece.slice(at, Math.min(until, at + MAX_LINE + 1)));
      if (line.length > MAX_LINE) throw broken();
      at = until;
      if (end === -1) continue;
      const text = line.trim();
      line = "";
      if (state === "length") {
        const [, digits] = /^([0-9a-fA-F]{1,12})(?:;.*)?$/.exec(text) ?? [];
        if (digits === undefined) throw broken();
        left = Number.parseInt(digits, 16);
        state = left === 0 ? "trailer" : "bytes";
      } else if (state === "end") {
        if (text !== "") throw broken();
        state = "length";
      } else if (text.toLowerCase().startsWith(CHECKSUM)) {
        const [name, value = ""] = text.split(/:(.*)/s);
        checksums.set(name!.toLowerCase().slice(CHECKSUM.length), value.trim());
      }
    }
  }
  if (state !== "trailer") throw broken();
}
