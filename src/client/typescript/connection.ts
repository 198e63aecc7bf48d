import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export const DEFAULT_URL = "http://127.0.0.1:7070";

/** Which collector to talk to, and with what. */
export interface Connection {
  /** Without a trailing slash. */
  url: string;
  token: string | undefined;
  dataDir: string;
  spoolDir: string;
}

export interface ConnectionOptions {
  url?: string | undefined;
  data?: string | undefined;
  token?: string | undefined;
  env?: Record<string, string | undefined>;
}

/** DATA/collector.json, written by a running collector. */
export interface CollectorFile {
  pid: number;
  url: string;
  version: string;
  host: string;
  boot: string;
  started: string;
}

/**
 * Finds the collector: --url, then the one running on --data, then $BINNACLE_URL, then the one running on
 * $BINNACLE_DATA or the usual data folder, then the default address. What is said on the command line beats the environment.
 */
export function findConnection({ url, data, token, env = process.env }: ConnectionOptions = {}): Connection {
  const dataDir = findDataDir(data, env);
  const running = readCollectorFile(dataDir)?.url;
  const chosen =
    given(url) ?? (given(data) ? running : undefined) ?? given(env["BINNACLE_URL"]) ?? running ?? DEFAULT_URL;
  const normal = chosen.replace(/\/+$/, "");
  return {
    url: normal,
    token: given(token) ?? given(env["BINNACLE_TOKEN"]) ?? localToken(normal, running, dataDir),
    dataDir,
    spoolDir: given(env["BINNACLE_SPOOL"]) ?? join(dataDir, "spool"),
  };
}

export function findDataDir(
  data: string | undefined,
  env: Record<string, string | undefined> = process.env,
): string {
  const named = given(data) ?? given(env["BINNACLE_DATA"]);
  if (named) return named;
  return join(given(env["XDG_STATE_HOME"]) ?? join(homedir(), ".local/state"), "binnacle");
}

export function readCollectorFile(dataDir: string): CollectorFile | undefined {
  try {
    const file = JSON.parse(readFileSync(join(dataDir, "collector.json"), "utf8")) as CollectorFile;
    return typeof file?.url === "string" ? file : undefined;
  } catch {
    return undefined;
  }
}

/** The token of this machine's collector must not travel to another: it is the admin's. */
function localToken(url: string, running: string | undefined, dataDir: string): string | undefined {
  if (!isLoopback(url) && url !== running?.replace(/\/+$/, "")) return undefined;
  try {
    return given(readFileSync(join(dataDir, "token"), "utf8").trim());
  } catch {
    return undefined;
  }
}

export function isLoopback(url: string): boolean {
  try {
    const { hostname } = new URL(url);
    return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
  } catch {
    return false;
  }
}

const given = (text: string | undefined) => (text === "" ? undefined : text);
