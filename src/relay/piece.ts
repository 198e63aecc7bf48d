import type { Frame } from "./contract.ts";

/** Takes a part from one position to another. */
export interface HistoryPiece {
  from: number;
  to: number;
  frames: Frame[];
}

/** What frames of history have in common: they are nobody's batches, and no entries. */
export const blankFrame = {
  seq: 0,
  client: null,
  clientSeq: null,
  ordinal: null,
  nextStep: null,
} as const;
