import { CONTROL_OR_BIDI } from "../artifact/schema.ts";
import type { ObjectPlace } from "../blob/objects.ts";
import type { FedmlKeys, FedmlScope } from "./keys.ts";
import { decode } from "./sigv4.ts";
import { StorageError } from "./storage-error.ts";

/** S3's own bound. */
const MAX_KEY_BYTES = 1024;

/** A bucket by its piece of an address. */
export function bucketOf(piece: string): string {
  const name = decode(piece);
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return name;
  throw new StorageError(400, "InvalidBucketName", "That is no name of a bucket.");
}

/**
 * A key by what stands behind the bucket. It never becomes a path here; but it becomes a file's name where it is downloaded to, and
 * is a name only as long as nobody can take it for another one.
 */
export function keyOf(pieces: string): string {
  const key = decode(pieces);
  if (Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw new StorageError(400, "KeyTooLongError", `A key has at most ${MAX_KEY_BYTES} bytes.`);
  if (CONTROL_OR_BIDI.test(key) || key.includes("\\") || !key.isWellFormed())
    throw invalid("must not contain control characters, marks of direction or backslashes");
  if (key.split("/").some((part) => part === "" || part === "." || part === ".."))
    throw invalid("must be relative, without empty parts, '.' or '..'");
  return key;
}

const invalid = (why: string) => new StorageError(400, "InvalidArgument", `A key ${why}.`);

export type Address = { place: ObjectPlace } | "elsewhere" | "foreign";

/**
 * The object that an address in a message means. "foreign": it is of our storage, and another scope's; "elsewhere": it is not ours,
 * or nothing that we can read.
 */
export function placeOfUrl(keys: FedmlKeys, scope: FedmlScope, url: string): Address {
  // The query is a signature that somebody cut off, or forgot to.
  const [, secret, bucket, key] =
    /^https?:\/\/[^/?#]*\/fedml\/([^/?#]+)\/s3\/([^/?#]+)\/([^?#]+)/.exec(url) ?? [];
  if (secret === undefined) return "elsewhere";
  const found = keys.scopeOf(secret);
  if (!found) return "elsewhere";
  if (found.run !== scope.run) return "foreign";
  try {
    return { place: { scope: found.run ?? "", bucket: bucketOf(bucket!), key: keyOf(key!) } };
  } catch {
    return "elsewhere";
  }
}
