import { CollectorError } from "../error.ts";
import type { Access, Tokens } from "../token.ts";

/** What FedML calls an API key is a token of ours, with the rights it has anywhere. */
export type Readers = Exclude<Access, { scope: "source" }>;

/** Who may read with this key; a source's token says what happens elsewhere, and reads nothing. */
export function readerOf(tokens: Tokens, key: unknown): Readers | undefined {
  const access = typeof key === "string" && key.length <= 1000 ? tokens.verify(key.trim()) : undefined;
  return access === undefined || access.scope === "source" ? undefined : access;
}

export function requireReader(tokens: Tokens, key: unknown): Readers {
  const access = readerOf(tokens, key);
  if (access) return access;
  throw new CollectorError("unauthorized", "The API key is no token of this collector.", {
    hint: "Give `fedml … -k` what `binnacle token` prints.",
  });
}

/** Whether it sees this run: a run's own token no other. */
export const sees = (access: Readers, run: string): boolean => access.scope !== "run" || access.run === run;

export function requireSteering(tokens: Tokens, key: unknown): void {
  const { scope } = requireReader(tokens, key);
  if (scope === "admin") return;
  throw new CollectorError("forbidden", `A ${scope} token may not stop a run.`, {
    hint: "Use the admin's: `binnacle token` prints it.",
  });
}
