import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const VERSION = "FEDML_ENV_VERSION";
const HOST = "FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST";
/** All that `fedmlEnv` gives. Which edge a program is says its launcher, and the client can do without. */
const NAMES = new Set([
  VERSION,
  HOST,
  "FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT",
  "FEDML_CURRENT_RUN_ID",
  "FEDML_CURRENT_VERSION",
  "FEDML_USING_MLOPS",
]);
/** What follows the host in an address of ours. */
const PATH = "/fedml/";

/**
 * What lets FedML's unmodified client take the collector at `origin` for its platform. It puts the host as it is behind http://, so a
 * path may follow it; with port 443 behind https://.
 */
export function fedmlEnv(run: string, secret: string, origin: string): Record<string, string> {
  const { host, protocol } = new URL(origin);
  return {
    [VERSION]: "local",
    [HOST]: `${host}${PATH}${secret}`,
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: protocol === "https:" ? "443" : "80",
    FEDML_CURRENT_RUN_ID: run,
    FEDML_CURRENT_VERSION: "local",
    FEDML_USING_MLOPS: "true",
  };
}

/** The same from a collector's answer. No other variable is taken from it: LD_PRELOAD, say, would run what somebody else likes. */
export function toldEnv(answer: unknown): Record<string, string> {
  const { env } = Object(answer) as { env?: unknown };
  const told = Object.entries(Object(env) as object).filter(
    (entry): entry is [string, string] =>
      NAMES.has(entry[0]) && typeof entry[1] === "string" && !entry[1].includes("\0"),
  );
  return Object.fromEntries(told);
}

type Env = Record<string, string | undefined>;

/** Without what an outer launch told: it leads to that one's run. */
export function withoutOuter(env: Env): Env {
  if (!env[HOST]?.includes(PATH)) return env;
  const isTold = (name: string) => NAMES.has(name) && (name !== VERSION || env[name] === "local");
  return Object.fromEntries(Object.entries(env).filter(([name]) => !isTold(name)));
}

/** The file that newer clients write, and read with precedence over their environment. */
export const persistedFile = (env: Env): string =>
  join(env["HOME"] || homedir(), ".fedml", "global_services", ".env");

/** What in that file would beat `wanted`, as the client reads it; empty where nothing does. */
export function overriddenBy(file: string, wanted: Record<string, string>): string[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return [];
  }
  return text.split("\n").flatMap((line) => {
    const [, name = "", quoted = ""] = /^\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    const value = quoted.replace(/^(['"])(.*)\1$/, "$2");
    return Object.hasOwn(wanted, name) && wanted[name] !== value ? [`${name}=${value}`] : [];
  });
}

/** What a person should know, and do, before the client sends everything elsewhere. */
export function overrideWarning(wanted: Record<string, string>, env: Env): string | undefined {
  // python-dotenv, which reads it for the client, can be told not to.
  if (/^(1|true|t|yes|y)$/i.test(env["PYTHON_DOTENV_DISABLED"] ?? "")) return undefined;
  const file = persistedFile(env);
  const overridden = overriddenBy(file, wanted);
  if (overridden.length === 0) return undefined;
  return (
    `${file} says ${overridden.join(" ")}, and newer versions of fedml believe it more than their environment: ` +
    `they would go elsewhere. Remove ${overridden.length === 1 ? "that line" : "those lines"}, or set PYTHON_DOTENV_DISABLED=1.`
  );
}

/** Whether the person has already said where FedML's client is to go; an address of ours is one that an outer launch gave. */
export function isDecided(env: Env): boolean {
  const version = env[VERSION] ?? "";
  const host = env[HOST] ?? "";
  return (version !== "" && version !== "local") || (host !== "" && !host.includes(PATH));
}
