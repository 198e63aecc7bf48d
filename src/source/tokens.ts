import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { prepared } from "../store/prepared.ts";
import type { Access } from "../token.ts";
import type { SourceToken } from "./schema.ts";

/** Begins every one of them: what nobody takes for another kind of token, and scanners of secrets find. */
export const SOURCE_TOKEN = "bnc_source_";

/** What a source is called: part of its runs' ids where those are taken. */
export const SourceName = z
  .string()
  .min(1, "must not be empty")
  .max(64)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "use letters, digits, '.', '_' and '-'");

/** Older ones of a name go when there are so many. */
const MAX_TOKENS = 1000;
/** When it was last used is written so often. */
const USED_EVERY_MS = 60_000;

const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");

interface Row {
  hash: string;
  name: string;
  created: number;
  expires: number | null;
  revoked: number | null;
  used: number | null;
}

/** A token for a name, besides those that it has: so that one takes the place of another without a gap. It is nowhere but in the answer. */
export function addSourceToken(
  { connection, now }: Collector,
  name: string,
  expires: number | null,
): { token: string; row: SourceToken } {
  const token = `${SOURCE_TOKEN}${randomBytes(32).toString("hex")}`;
  const { count, last } = prepared(
    connection,
    "SELECT count(*) AS count, max(created) AS last FROM source_token WHERE name = ?",
  ).get(name) as { count: number; last: number | null };
  if (count >= MAX_TOKENS)
    throw new CollectorError("conflict", `${name} has ${count} tokens.`, {
      hint: `Use another name, or revoke them: binnacle source revoke ${name}`,
    });
  // One of them is the newest, also where two are made at once.
  const created = Math.max(now(), (last ?? 0) + 1);
  const row: Row = { hash: hashOf(token), name, created, expires, revoked: null, used: null };
  prepared(connection, "INSERT INTO source_token (hash, name, created, expires) VALUES (?, ?, ?, ?)").run(
    row.hash,
    name,
    row.created,
    expires,
  );
  return { token, row: toToken(row) };
}

/** By name, the oldest first. */
export const listSourceTokens = ({ connection }: Collector): SourceToken[] =>
  (prepared(connection, "SELECT * FROM source_token ORDER BY name, created, hash").all() as Row[]).map(
    toToken,
  );

/** All of a name, or all but its newest, at once and for good; returns how many were still good. */
export function revokeSourceTokens(
  { connection, now }: Collector,
  name: string,
  { others = false }: { others?: boolean } = {},
): number {
  const { changes } = prepared(
    connection,
    `UPDATE source_token SET revoked = ?1 WHERE name = ?2 AND revoked IS NULL AND coalesce(expires, ?1 + 1) > ?1
      AND (?3 = 0 OR hash <> (SELECT hash FROM source_token WHERE name = ?2 ORDER BY created DESC LIMIT 1))`,
  ).run(now(), name, others ? 1 : 0);
  if (changes > 0 || others) return changes;
  const known = prepared(connection, "SELECT 1 FROM source_token WHERE name = ?").get(name);
  throw new CollectorError(
    known === undefined ? "not-found" : "conflict",
    known === undefined ? `No token was made for ${name}.` : `All tokens of ${name} have ended already.`,
    { hint: "See `binnacle source list` for those there are." },
  );
}

/** Whose token this is; undefined where it is nobody's, was revoked or has expired. */
export function verifySourceToken({ connection, now }: Collector, token: string): Access | undefined {
  const hash = hashOf(token);
  const row = prepared(connection, "SELECT * FROM source_token WHERE hash = ?").get(hash) as Row | undefined;
  const time = now();
  if (!row || row.revoked !== null || (row.expires !== null && row.expires <= time)) return undefined;
  if (time - (row.used ?? -Infinity) >= USED_EVERY_MS) noteUse(connection, hash, time);
  return { scope: "source", name: row.name };
}

function noteUse(connection: Collector["connection"], hash: string, time: number): void {
  try {
    prepared(connection, "UPDATE source_token SET used = ? WHERE hash = ?").run(time, hash);
  } catch (error) {
    // A full disk is no reason to keep somebody out.
    if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
  }
}

const rfc3339 = (time: number | null) => (time === null ? null : new Date(time).toISOString());

const toToken = ({ name, created, expires, revoked, used }: Row): SourceToken => ({
  name,
  created: new Date(created).toISOString(),
  expires: rfc3339(expires),
  revoked: rfc3339(revoked),
  used: rfc3339(used),
});
