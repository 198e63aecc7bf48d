import { MAX_OPENINGS, type Opening } from "./contract.ts";

/** As a source keeps them for each destination. */
export interface KeptOpening extends Opening {
  /** The platform has answered a greeting under this nonce. */
  answered: boolean;
}

/** Those that were never answered to: the platform may know one, as an answer can be lost, and nothing was sent under it. */
const MAX_UNANSWERED = 16;

/** With one that has just ended, the newest first: a thousand starts without a network must not push out what both sides know. */
export function withOpening(openings: readonly KeptOpening[], ended: KeptOpening): KeptOpening[] {
  let unanswered = 0;
  let answered = 0;
  return [ended, ...openings].filter((opening) =>
    opening.answered ? ++answered <= MAX_OPENINGS - MAX_UNANSWERED : ++unanswered <= MAX_UNANSWERED,
  );
}
