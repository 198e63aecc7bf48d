import { CollectorError } from "../error.ts";
import type { Frame } from "./contract.ts";
import { takePage } from "./lane.ts";
import type { createLetterBox } from "./letters.ts";
import { Refusal } from "./ports.ts";

const PAGE_ENTRIES = 100;

export interface RequeueOptions {
  letters: ReturnType<typeof createLetterBox>;
  /** undefined: all. */
  ids: readonly number[] | undefined;
  name: string;
  /** Why not; undefined: it has arrived, or is sure to. */
  sendAgain: (frame: Frame) => Promise<string | undefined>;
}

/** Sends dead letters to a destination that does not know our contract; resolves with how many it took. */
export async function requeueAbroad({ letters, ids, name, sendAgain }: RequeueOptions): Promise<number> {
  let after = 0;
  let arrived = 0;
  let refused = "";
  for (;;) {
    const page = takePage(letters.frames(PAGE_ENTRIES, after, ids));
    if (page.length === 0) break;
    // One by one: each is there because it was refused.
    for (const { id, frame } of page) {
      after = id;
      const why = await sendAgain(frame).catch((error: unknown) => whyRefused(error, name));
      if (why === undefined) {
        letters.remove([id]);
        arrived++;
      } else refused = why;
    }
  }
  if (arrived === 0 && refused !== "")
    throw new CollectorError("conflict", `${name} refused them again: ${refused}`, {
      hint: "Give them up with --discard, or see what it says of them there.",
    });
  return arrived;
}

function whyRefused(error: unknown, name: string): string {
  if (error instanceof Refusal && error.status < 500 && error.status !== 429) return error.message;
  throw new CollectorError("unreachable", `${name} does not answer.`, {
    hint: "Send them again when `binnacle relay status` says that it does.",
    cause: error,
  });
}
