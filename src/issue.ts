import type { z } from "zod";

type Issue = z.core.$ZodIssue;

/**
 * What is wrong with a field, to be read behind its name: "must have at most 250 characters". A schema's own words stay; zod's
 * speak of its types, and not to people.
 */
export function sayIssue(issue: Issue): string {
  return isZods(issue.message) ? (say(issue) ?? "must be something else") : issue.message;
}

/** Ours go on behind a name, and so begin small. */
const isZods = (message: string) => /^(Invalid|Too|Unrecognized|Number) /.test(message);

function say(issue: Issue): string | undefined {
  switch (issue.code) {
    case "too_big":
      return bound(issue.origin, "at most", Number(issue.maximum), issue.inclusive ?? true);
    case "too_small":
      return bound(issue.origin, "at least", Number(issue.minimum), issue.inclusive ?? true);
    case "invalid_type":
      return wrongKind(issue);
    case "invalid_value":
      return `must be ${oneOf(issue.values.map((value) => JSON.stringify(value)))}`;
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "invalid_format":
      return formats[issue.format] ?? "must be written in another way";
    case "unrecognized_keys":
      return `must not have ${issue.keys.slice(0, 3).map(named).join(", ")}`;
    case "invalid_key":
    case "invalid_element":
      return (
        issue.issues[0] &&
        `has a ${issue.code === "invalid_key" ? "name" : "value"} that ${sayIssue(issue.issues[0])}`
      );
    case "invalid_union":
      return anyOf(issue.errors);
    default:
      return undefined;
  }
}

const counted: Record<string, string> = {
  string: "character",
  array: "entry",
  set: "entry",
  map: "entry",
  file: "byte",
};

function bound(origin: string, word: "at most" | "at least", limit: number, inclusive: boolean): string {
  const unit = counted[origin];
  const shown = limit.toLocaleString("en-US");
  if (unit === undefined)
    return `must be ${inclusive ? word : word === "at most" ? "less than" : "more than"} ${shown}`;
  if (word === "at least" && limit === 1) return "must not be empty";
  if (limit === 1) return `must have ${word} one ${unit}`;
  return `must have ${word} ${shown} ${unit === "entry" ? "entries" : `${unit}s`}`;
}

const kinds: Record<string, string> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  bigint: "a whole number",
  boolean: "true or false",
  null: "null",
  array: "a list",
  tuple: "a list",
  object: "an object",
  record: "an object",
  map: "an object",
  date: "a time",
  json: "JSON",
};

function wrongKind(issue: Issue & { code: "invalid_type" }): string {
  const got = /received (\w+)/.exec(issue.message)?.[1];
  if (got === "undefined") return "is missing";
  const wanted = `must be ${kinds[issue.expected] ?? "something else"}`;
  const found = got === undefined || got === issue.expected ? undefined : (kinds[got] ?? got);
  return found === undefined ? wanted : `${wanted}, not ${found}`;
}

const formats: Record<string, string> = {
  datetime: "must be a time such as 2026-01-31T12:00:00Z",
  url: "must be a URL",
  email: "must be an e-mail address",
  uuid: "must be a UUID",
};

const oneOf = (words: string[]) =>
  words.length < 2
    ? words.join("")
    : `one of ${words.slice(0, 20).join(", ")}${words.length > 20 ? ", …" : ""}`;

const named = (name: string) => JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);

/** What each way to read it wants; of many, such as those of JSON, nobody would read the list. */
function anyOf(ways: Issue[][]): string | undefined {
  const words = ways.map(([issue]) => issue && sayIssue(issue).replace(/, not .*$/, ""));
  const wanted = [...new Set(words)].filter((text) => text !== undefined);
  if (wanted.length === 0 || wanted.length > 3) return "must be JSON";
  return wanted.map((text, index) => (index === 0 ? text : text.replace(/^must be /, ""))).join(" or ");
}
