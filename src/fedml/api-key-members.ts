/** Also written otherwise, and with a word before it: apiKey, userApiKey, FEDML_RUN_API_KEY. */
const NAME = /api[-_ ]?key$/i;
/** A text in which one may stand; letters can be written as escapes. */
const MAY_HOLD = /api[-_ ]?key"|\\u/i;

/** Whether `withoutApiKeys` has anything to look for in what this JSON says. */
export const mayHoldApiKeys = (json: string): boolean => MAY_HOLD.test(json);

/** Clients put their user's API key into all sorts of messages: none of them is kept, on whatever level it stands. */
export function withoutApiKeys(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(withoutApiKeys);
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]) =>
      NAME.test(name) ? [] : [[name, withoutApiKeys(inner)] as const],
    ),
  );
}
