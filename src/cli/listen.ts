import { readFileSync } from "node:fs";
import type { Config } from "../config.ts";
import { CollectorError } from "../error.ts";
import { serve, type ServeOptions, type Server } from "../runtime.ts";

/** Takes the port that was asked for, or says why not. */
export async function listen(config: Config, fetch: ServeOptions["fetch"]): Promise<Server> {
  const { host, port, tlsCert, tlsKey } = config;
  const tls =
    tlsCert !== undefined && tlsKey !== undefined
      ? { cert: readPem(tlsCert, "--tls-cert"), key: readPem(tlsKey, "--tls-key") }
      : undefined;
  try {
    return serve({
      hostname: host.replace(/^\[|\]$/g, ""),
      port,
      tls,
      fetch,
    });
  } catch (cause) {
    const code = (cause as { code?: string }).code;
    if (code === "EADDRINUSE" || code === "AddrInUse" || /in use/i.test(messageOf(cause)))
      throw new CollectorError("conflict", `Port ${port} on ${host} is taken.`, {
        hint: "Choose another with --port, or --port 0 for any free one.",
        cause,
      });
    throw new CollectorError("invalid", `Can't listen on ${host}, port ${port}: ${messageOf(cause)}.`, {
      hint: "Check --host, --port and the TLS files.",
      cause,
    });
  }
}

function readPem(path: string, flag: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new CollectorError(
      "invalid",
      `The file of ${flag}, ${path}, ${code === "ENOENT" ? "does not exist" : `can't be read (${code ?? messageOf(cause)})`}.`,
      { hint: `Give ${flag} the path of a PEM file that this user may read.`, cause },
    );
  }
}

const isAnyAddress = (host: string) => host === "0.0.0.0" || host === "::" || host === "[::]";

/** The name of the address we listen on, as a Host header gives it. "Any" is no name: a browser takes 0.0.0.0 for this machine. */
export function nameOfBind(host: string): string[] {
  if (isAnyAddress(host)) return [];
  return [host.includes(":") && !host.startsWith("[") ? `[${host}]` : host];
}

export function urlOf({ host, tlsCert }: Config, port: number): string {
  const name = isAnyAddress(host) ? "127.0.0.1" : nameOfBind(host)[0]!;
  return `${tlsCert === undefined ? "http" : "https"}://${name}:${port}`;
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
