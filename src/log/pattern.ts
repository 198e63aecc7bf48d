import { RE2JS } from "re2js";
import { CollectorError } from "../error.ts";
import { withoutAnsi } from "./level.ts";

/**
 * A search in lines, by an engine whose time is linear in the text: with JavaScript's own, `(a+)+$` against one
 * long line holds the collector for ever. Colours are not part of what is searched.
 */
export function compilePattern(source: string): (text: string) => boolean {
  let pattern: { test(text: string): boolean };
  try {
    pattern = RE2JS.compile(source);
  } catch (error) {
    const reason =
      error instanceof Error ? error.message.replace(/^error parsing regexp: /, "") : String(error);
    throw new CollectorError(
      "invalid",
      `The pattern ${JSON.stringify(source)} cannot be searched: ${reason}.`,
      {
        hint: "Patterns are RE2's: no lookaround, no back-references; put \\ before a character that is meant as itself.",
      },
    );
  }
  return (text) => pattern.test(withoutAnsi(text));
}
