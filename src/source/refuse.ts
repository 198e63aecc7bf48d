import { CollectorError } from "../error.ts";

/** What is wrong with an entry is wrong for good: its sender keeps it and goes on with the next one. */
export const bad = (detail: string, cause?: unknown): CollectorError =>
  new CollectorError("invalid", detail, {
    hint: "It is refused for good; what it holds stays where it came from.",
    cause,
  });

/** What reading a hostile payload throws is the payload's fault. */
export function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw bad(`Its ${what} can't be read: ${(error as Error).message.slice(0, 200)}`, error);
  }
}
