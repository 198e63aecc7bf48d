import type { Config } from "../config.ts";
import { CollectorError } from "../error.ts";
import { shownAddress } from "../relay/fedml/address.ts";
import { RelayName, type AddRelay } from "../relay/schema.ts";
import { checkDestination } from "../relay/spoken.ts";

/** The token of the one destination that has none under its own name. */
const TOKEN = "BINNACLE_RELAY_TOKEN";

/** "lab-2": BINNACLE_RELAY_TOKEN_LAB_2. */
export const tokenVariable = (name: string): string =>
  `${TOKEN}_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, "_")}`;

/** A token that the environment has for a destination; its own before the common one. */
export const tokenOfEnvironment = (
  name: string,
  env: Record<string, string | undefined> = process.env,
): string | undefined => env[tokenVariable(name)]?.trim() || env[TOKEN]?.trim() || undefined;

/** What a collector is to add at its start. */
export type RelayAtStart = Omit<AddRelay, "name"> & { name?: string };

/** Each --relay with the token that is meant for it alone: one that would go to several is nobody's. */
export function readRelays({
  relay,
  relayTokens,
  insecureHttp,
}: Pick<Config, "relay" | "relayTokens" | "insecureHttp">): RelayAtStart[] {
  const givenByUrl = new Map<string, RelayAtStart>();
  const withoutOwn: RelayAtStart[] = [];
  for (const text of relay) {
    const [, name, address = text] = /^([A-Za-z0-9][A-Za-z0-9._-]*)=(.*)$/s.exec(text) ?? [];
    const { kind, url } = checkDestination(address, { insecureHttp });
    const before = givenByUrl.get(url);
    if (before?.name === name && before) continue;
    if (before) throw twice(`${shownAddress(url)} has two names`);
    if (name !== undefined) checkName(name, givenByUrl.values());
    const own = name === undefined ? undefined : relayTokens[tokenVariable(name)];
    const given: RelayAtStart = {
      url: address,
      insecure_http: insecureHttp,
      ...(name !== undefined && { name }),
      ...(own !== undefined && { token: own }),
    };
    givenByUrl.set(url, given);
    // FedML's protocol has none, and ours are nobody else's.
    if (own === undefined && kind !== "fedml") withoutOwn.push(given);
  }
  const common = relayTokens[TOKEN];
  if (common !== undefined && withoutOwn.length > 1)
    throw new CollectorError(
      "invalid",
      `$${TOKEN} is the token of one destination, and --relay names ${withoutOwn.length} that it could be for.`,
      {
        hint: `Give them names and tokens of their own: --relay lab=${withoutOwn[0]!.url} with $${tokenVariable("lab")}. One that wants no token needs none then.`,
      },
    );
  const [only] = withoutOwn;
  if (common !== undefined && only) only.token = common;
  return [...givenByUrl.values()];
}

function checkName(name: string, others: Iterable<RelayAtStart>): void {
  if (!RelayName.safeParse(name).success)
    throw new CollectorError("invalid", "A destination's name has at most 64 characters.", {
      hint: "Give a shorter one: --relay NAME=URL.",
    });
  const variable = tokenVariable(name);
  for (const other of others)
    if (other.name !== undefined && tokenVariable(other.name) === variable)
      throw twice(
        other.name === name
          ? `${name} has two addresses`
          : `${other.name} and ${name} would both have $${variable}`,
      );
}

const twice = (what: string) =>
  new CollectorError("invalid", `--relay: ${what}.`, {
    hint: "Give each destination a name and an address of its own.",
  });
