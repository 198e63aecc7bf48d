import { z } from "zod";
import { findDataDir } from "./client/typescript/connection.ts";
import { CollectorError } from "./error.ts";
import { sayIssue } from "./issue.ts";

const size = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?$/i;
const factorByUnit: Record<string, number> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** "20GB", "512m", "1000000": bytes, in powers of 1024. */
const Bytes = z
  .string()
  .regex(size, "wants a size such as 20GB or 512MB")
  .transform((text) => {
    const [, number = "", unit = ""] = size.exec(text)!;
    return Math.floor(Number(number) * factorByUnit[unit.toLowerCase()]!);
  });

const Port = z.coerce.number("wants a port number").int().min(0).max(65_535);

/** What `binnacle start` can be told. */
export const Config = z
  .strictObject({
    host: z.string().min(1, "must not be empty").default("127.0.0.1"),
    port: Port.default(7070),
    dataDir: z.string().min(1, "must not be empty"),
    /** Further names under which this collector is reached. */
    allowHosts: z.array(
      z.string().regex(/^[^\s:/?#@]+$|^\[[0-9a-f:.]+\]$/i, "wants a host name without a port"),
    ),
    insecureHttp: z.boolean(),
    tlsCert: z.string().optional(),
    tlsKey: z.string().optional(),
    keepDays: z.coerce.number("wants a number of days").positive().optional(),
    keepBytes: Bytes.optional(),
    allowNetworkFs: z.boolean(),
    /** Read the machine, its GPUs and what runs use of them. */
    hardware: z.boolean(),
    gpu: z.enum(["auto", "off"], "wants auto or off").default("auto"),
    cores: z.boolean(),
    keepSamples: z.coerce.number("wants a number of days").positive().optional(),
    /** Where everything goes, too: an address, or NAME=ADDRESS. */
    relay: z.array(z.string().min(1, "must not be empty")),
    /** By the variable that has it. */
    relayTokens: z.record(z.string(), z.string()),
    role: z.enum(["collector", "platform"], "wants collector or platform").default("collector"),
    /** Stand in for TensorOpera's platform; open: to everybody on this machine. */
    fedml: z.enum(["on", "off", "open"], "wants on, off or open").default("on"),
  })
  .superRefine(({ tlsCert, tlsKey }, context) => {
    if ((tlsCert === undefined) !== (tlsKey === undefined))
      context.addIssue({
        code: "custom",
        path: ["tlsCert"],
        message: "comes with --tls-key, and that with it",
      });
  });
export type Config = z.infer<typeof Config>;

/** Flags as the command line has them. */
export interface ConfigFlags {
  host?: string | undefined;
  port?: string | undefined;
  data?: string | undefined;
  "allow-host"?: string[] | undefined;
  "insecure-http"?: boolean | undefined;
  "tls-cert"?: string | undefined;
  "tls-key"?: string | undefined;
  "keep-days"?: string | undefined;
  "keep-bytes"?: string | undefined;
  "allow-network-fs"?: boolean | undefined;
  "no-hardware"?: boolean | undefined;
  gpu?: string | undefined;
  cores?: boolean | undefined;
  "keep-samples"?: string | undefined;
  relay?: string[] | undefined;
  role?: string | undefined;
  fedml?: string | undefined;
}

/** Flags and environment, checked in one pass. */
export function readConfig(
  flags: ConfigFlags,
  env: Record<string, string | undefined> = process.env,
): Config {
  const parsed = Config.safeParse({
    host: flags.host,
    port: flags.port,
    dataDir: findDataDir(flags.data, env),
    allowHosts: flags["allow-host"] ?? [],
    insecureHttp: flags["insecure-http"] ?? false,
    tlsCert: flags["tls-cert"],
    tlsKey: flags["tls-key"],
    keepDays: flags["keep-days"],
    keepBytes: flags["keep-bytes"],
    allowNetworkFs: flags["allow-network-fs"] ?? false,
    hardware: !(flags["no-hardware"] ?? false),
    gpu: flags.gpu,
    cores: flags.cores ?? false,
    keepSamples: flags["keep-samples"],
    relay: flags.relay ?? [],
    relayTokens: relayTokensOf(env),
    role: flags.role,
    fedml: flags.fedml,
  });
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new CollectorError("invalid", `--${flagOf(String(issue.path[0]))} ${sayIssue(issue)}.`, {
      hint: "See `binnacle start --help`.",
    });
  }
  const config = parsed.data;
  checkBind(config);
  checkOpen(config);
  return config;
}

const relayTokensOf = (env: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(env).flatMap(([name, value = ""]) =>
      /^BINNACLE_RELAY_TOKEN(_|$)/.test(name) && value.trim() !== "" ? [[name, value.trim()]] : [],
    ),
  );

const flagOf = (name: string) =>
  name === "dataDir"
    ? "data"
    : name === "allowHosts"
      ? "allow-host"
      : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Whoever can reach the port can read what passes by: another address than loopback wants TLS, or a word that says so. */
function checkBind({ host, tlsCert, insecureHttp }: Config): void {
  if (isLoopbackHost(host) || tlsCert !== undefined || insecureHttp) return;
  throw new CollectorError("invalid", `Listening on ${host} without TLS would show tokens to the network.`, {
    hint: "Add --tls-cert and --tls-key, or --insecure-http if the network is trusted; or use ssh -L 7070:localhost:7070.",
  });
}

/** Without a secret in the address only the machine itself is a border. */
function checkOpen({ fedml, host }: Config): void {
  if (fedml !== "open" || isLoopbackHost(host)) return;
  throw new CollectorError("invalid", `--fedml open would let anybody who reaches ${host} write.`, {
    hint: "Leave it out: `binnacle fedml env` gives the variables for one run, with its secret.",
  });
}

export const isLoopbackHost = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
