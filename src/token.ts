import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";

/** What its holder may do. `run`: write, and read, that run alone; `dashboard`: read, and steer runs. */
export type Access =
  | { scope: "admin" | "write" | "read" | "dashboard" }
  | { scope: "run"; run: string }
  /** An installation that relays here: it may say what happens there, and see nothing. `name`: of its token. */
  | { scope: "source"; name: string };

/** The tokens of one collector. All but the admin's are derived from it, so nothing else is stored and one rotation revokes all. */
export interface Tokens {
  readonly admin: string;
  readonly read: string;
  readonly write: string;
  ofRun(run: string): string;
  verify(token: string): Access | undefined;
  /** Keyed digest for what else must end with the token, such as cookies. */
  sign(text: string): string;
}

/** Runs whose token is remembered: every batch of a training brings it. */
const MAX_REMEMBERED = 1000;

export function createTokens(admin: string): Tokens {
  const sign = (text: string) => createHmac("sha256", admin).update(text).digest("hex");
  const read = `bnc_read_${sign("read")}`;
  const write = `bnc_write_${sign("write")}`;
  const tokenByRun = new Map<string, string>();

  function ofRun(run: string): string {
    let token = tokenByRun.get(run);
    if (token === undefined) {
      token = `bnc_run_${run}_${sign(`run ${run}`)}`;
      if (tokenByRun.size >= MAX_REMEMBERED) tokenByRun.clear();
      tokenByRun.set(run, token);
    }
    return token;
  }

  return {
    admin,
    read,
    write,
    ofRun,
    sign,
    verify(token) {
      if (token.startsWith("bnc_run_")) {
        const run = token.slice("bnc_run_".length, token.lastIndexOf("_"));
        return run.length <= 128 && isEqual(token, ofRun(run)) ? { scope: "run", run } : undefined;
      }
      if (isEqual(token, admin)) return { scope: "admin" };
      if (isEqual(token, write)) return { scope: "write" };
      return isEqual(token, read) ? { scope: "read" } : undefined;
    },
  };
}

/** In constant time; lengths are no secret. */
export function isEqual(left: string, right: string): boolean {
  if (left.length !== right.length) return false;
  const a = Buffer.from(left);
  const b = Buffer.from(right);
  return a.length === b.length && timingSafeEqual(a, b);
}

const newToken = () => `bnc_admin_${randomBytes(32).toString("hex")}`;

/** The token of this data folder, made at the first start. */
export function loadToken(dataDir: string): string {
  try {
    const token = readFileSync(join(dataDir, "token"), "utf8").trim();
    if (/^bnc_admin_[0-9a-f]{64}$/.test(token)) return token;
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
  return rotateToken(dataDir);
}

/** A new token in the place of the old one, which is worth nothing from the moment the collector takes the new one up. */
export function rotateToken(dataDir: string): string {
  const token = newToken();
  writePrivateFile(join(dataDir, "token"), `${token}\n`);
  return token;
}

/** Temp, fsync, rename: readers find the old text or the new one. Mode 0600 from the start. */
export function writePrivateFile(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
