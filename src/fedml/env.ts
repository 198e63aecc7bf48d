import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Any will do: where a client says which device it is, it says so itself. */
const EDGE = "1";

/**
 * What lets FedML's unmodified client take the collector at `origin` for its platform. It puts the host as it is behind http://, so a
 * path may follow it; with port 443 behind https://.
 */
export function fedmlEnv(run: string, secret: string, origin: string): Record<string, string> {
  const { host, protocol } = new URL(origin);
  return {
    FEDML_ENV_VERSION: "local",
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST: `${host}/fedml/${secret}`,
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: protocol === "https:" ? "443" : "80",
    FEDML_CURRENT_RUN_ID: run,
    FEDML_CURRENT_EDGE_ID: EDGE,
    FEDML_CURRENT_VERSION: "local",
    FEDML_USING_MLOPS: "true",
  };
}

type Env = Record<string, string | undefined>;

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
  const version = env["FEDML_ENV_VERSION"] ?? "";
  const host = env["FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST"] ?? "";
  return (version !== "" && version !== "local") || (host !== "" && !host.includes("/fedml/"));
}
