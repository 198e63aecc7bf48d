/** Where a destination may be: data and a token go there, so not everywhere. */
import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { isLoopbackHost } from "../config.ts";
import { CollectorError } from "../error.ts";

/** The address as it is kept: without a slash at its end. Throws where nothing may be sent to it. */
export function checkAddress(text: string, { insecureHttp }: { insecureHttp: boolean }): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol))
    throw new CollectorError("invalid", "A destination wants an http or https address.", {
      hint: "Give one such as https://platform.example.org:7070.",
    });
  if (url.username !== "" || url.password !== "")
    throw new CollectorError(
      "invalid",
      "The address has a user or a password in it, which would be shown and logged.",
      {
        hint: "Give the token with --token-file F or $BINNACLE_RELAY_TOKEN.",
      },
    );
  if (url.search !== "" || url.hash !== "" || text.includes("?") || text.includes("#"))
    throw new CollectorError("invalid", "The address has a query or a fragment.", {
      hint: "Give where the platform is, such as https://platform.example.org:7070.",
    });
  if (url.protocol === "http:" && !isLoopbackHost(url.hostname) && !insecureHttp)
    throw new CollectorError(
      "invalid",
      `Relaying to ${url.host} without TLS would show data and token to the network.`,
      {
        hint: "Use https, or --insecure-http if the network is trusted.",
      },
    );
  const literal = url.hostname.replace(/^\[|\]$/g, "");
  if (isIP(literal) > 0) requireReachable(literal, literal);
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/** Addresses at which a machine finds itself, its neighbours, or what a cloud tells of its keys: no platform. */
const refused = new BlockList();
for (const [address, prefix] of [
  ["0.0.0.0", 8],
  ["169.254.0.0", 16],
  ["100.100.100.200", 32],
  ["168.63.129.16", 32],
  ["192.0.0.192", 32],
  ["224.0.0.0", 4],
  ["255.255.255.255", 32],
] as const)
  refused.addSubnet(address, prefix, "ipv4");
for (const [address, prefix] of [
  ["::", 128],
  ["fe80::", 10],
  ["fd00:ec2::254", 128],
  ["fd20:ce::254", 128],
  ["ff00::", 8],
] as const)
  refused.addSubnet(address, prefix, "ipv6");

export const isRefused = (address: string): boolean => {
  const [plain = ""] = address.split("%");
  return isIP(plain) === 0 || refused.check(plain, isIP(plain) === 4 ? "ipv4" : "ipv6");
};

function requireReachable(host: string, address: string): void {
  if (!isRefused(address)) return;
  const what = host === address ? host : `${host} is ${address}, which`;
  throw new CollectorError(
    "forbidden",
    `${what} is an address of this machine's own network or cloud, and no platform's.`,
    {
      hint: "Give the platform's address.",
    },
  );
}

/** A name may mean another address tomorrow. */
const RESOLVED_MS = 30_000;

export type Resolve = (host: string) => Promise<string[]>;

const resolveName: Resolve = async (host) =>
  (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address);

/** Looks, at most every so often, what the name of an address means now; rejects where that is no place for a platform. */
export function createResolver(address: string, resolve: Resolve = resolveName): () => Promise<void> {
  const { hostname } = new URL(address);
  const host = hostname.replace(/^\[|\]$/g, "");
  let checked = -Infinity;
  return async () => {
    if (isIP(host) > 0) return requireReachable(host, host);
    if (performance.now() - checked < RESOLVED_MS) return;
    for (const found of await resolve(host)) requireReachable(host, found);
    checked = performance.now();
  };
}
