/**
 * What a platform takes, as plain rules: who is the source that it was, what is new of a batch or of history, and where a run's records
 * go. Whoever applies them writes the state they give back in the transaction that stores the entries.
 */
import {
  LEASE_MS,
  MAX_OPENINGS,
  type Batch,
  type Frame,
  type Hello,
  type HistoryBatch,
  type Opening,
  type RefusalType,
  type Session,
} from "../relay/contract.ts";
import { digestOf } from "../relay/digest.ts";

/** What is durable of a source. */
export interface SourceState {
  epoch: number;
  acked: number;
  /** Something of entries up to here is stored, as history has brought it: what it shows the source must still have written. */
  reach: number;
  /** Of the entry at `reach`; null where that is not known. */
  digest: string | null;
  nonce: string;
  turn: number;
  /** Earlier nonces, the newest first. */
  openings: KnownOpening[];
  /** Entries up to here may be known by their content. */
  doubt: number;
  /** When something of it was last accepted, ms by our clock. */
  heard: number;
}

/** An opening of a source's database: up to `last` it brought what is here. */
export interface KnownOpening extends Opening {
  /** Of the entry at `last`; null where that is not known. */
  digest: string | null;
}

export interface Refused {
  refused: RefusalType;
  detail: string;
  hint: string;
  details: Record<string, unknown>;
}

export interface Context {
  /** The platform's own installation. */
  own: string;
  /** ms by its clock. */
  now: number;
}

export interface Greeted {
  state: SourceState;
  /**
   * What was stored of entries above this is of a life that the source has left: nobody knows any more how far the runs have come that
   * it touched. Where history brought it, nobody can compare it with entries either: such a run goes on as another one. undefined:
   * the source went on where it was.
   */
  cut: number | undefined;
}

const refuse = (
  refused: RefusalType,
  detail: string,
  hint: string,
  details: Record<string, unknown> = {},
): Refused => ({ refused, detail, hint, details });

export function greet(
  known: SourceState | undefined,
  hello: Hello,
  { own, now }: Context,
): Greeted | Refused {
  if (hello.path.includes(own)) return circle();
  const { epoch, nonce, turn } = hello;
  if (!known)
    return {
      state: { epoch, acked: 0, reach: 0, digest: null, nonce, turn, openings: [], doubt: 0, heard: now },
      cut: undefined,
    };
  const isSame = nonce === known.nonce;
  if (isSame && turn < known.turn) return late(known, { turn: known.turn });
  const isOther = !isSame && !hello.openings.some((opening) => opening.nonce === known.nonce);
  if (isOther && isAlive(known, now)) return inUse(known, now);
  const common = commonOf(known, hello);
  const both = common?.last ?? 0;
  // It has left the life that was greeted last. Where nothing shows that both have the same last entry, only what it is sure of is so.
  const isUnseen = isOther && common?.digest === null && hello.sure < known.reach;
  const isBack = hello.is_other || both < known.reach || isUnseen;
  const reach = isBack ? Math.min(both, hello.sure) : known.reach;
  if (epoch < known.epoch || (epoch === known.epoch && isBack))
    return refuse(
      "epoch",
      "The source has gone back to before what is here of it.",
      "It begins a new epoch.",
      {
        epoch: known.epoch,
        common: common?.last ?? null,
      },
    );
  return {
    state: {
      epoch,
      acked: Math.min(known.acked, reach),
      reach,
      digest: common?.last === reach ? common.digest : null,
      nonce,
      turn,
      openings: openingsOf(known)
        .filter((opening) => opening.nonce !== nonce)
        .slice(0, MAX_OPENINGS)
        .map((opening) => (opening.last <= reach ? opening : { ...opening, last: reach, digest: null })),
      doubt: isBack ? Math.max(known.doubt, known.reach) : known.doubt,
      heard: now,
    },
    cut: isBack ? reach : undefined,
  };
}

/** A clock that was set back says nothing of who is alive. */
const isAlive = ({ heard }: SourceState, now: number) => now >= heard && now - heard < LEASE_MS;

const openingsOf = ({ nonce, reach, digest, openings }: SourceState): KnownOpening[] => [
  { nonce, last: reach, digest },
  ...openings,
];

/**
 * Each opening that both know vouches for as much as both have of it. A machine that went back to a snapshot, memory and all, has
 * other entries under the same nonce: the digest shows it. undefined: there is none.
 */
function commonOf(known: SourceState, hello: Hello): Omit<KnownOpening, "nonce"> | undefined {
  const theirs = new Map(hello.openings.map(({ nonce, last }) => [nonce, last]));
  theirs.set(hello.nonce, hello.last);
  let common: Omit<KnownOpening, "nonce"> | undefined;
  for (const { nonce, last, digest } of openingsOf(known)) {
    const their = theirs.get(nonce);
    if (their === undefined) continue;
    const both = Math.min(last, their);
    if (!common || both > common.last) common = { last: both, digest: both === last ? digest : null };
  }
  return common;
}

const circle = () =>
  refuse(
    "circle",
    "This platform is itself on the way that the data takes.",
    "Remove one of the relays that make the circle.",
  );

const inUse = (known: SourceState, now: number) =>
  refuse(
    "source-in-use",
    "Another installation with this id is alive.",
    "A copy of a database becomes a source of its own in some minutes, by itself.",
    { lease_ms: Math.max(0, Math.min(LEASE_MS, known.heard + LEASE_MS - now)) },
  );

const late = ({ acked }: SourceState, details: Record<string, unknown> = {}) =>
  refuse("sequence-gap", "This comes late: its sender has gone on meanwhile.", "Greet again.", {
    expected: acked + 1,
    ...details,
  });

/** Whether a request is of the opening, epoch and turn that were greeted last. */
export function checkSession(
  state: SourceState | undefined,
  { epoch, nonce, turn, path }: Session,
  { own, now }: Context,
): Refused | undefined {
  if (path.includes(own)) return circle();
  if (!state)
    return refuse("sequence-gap", "This source is not known here.", "Greet again.", { expected: 1 });
  if (nonce !== state.nonce) return inUse(state, now);
  if (epoch !== state.epoch)
    return refuse("epoch", `This source is in epoch ${state.epoch} here.`, "Greet again.", {
      epoch: state.epoch,
    });
  return turn === state.turn ? undefined : late(state);
}

/** What is new of a batch, and the state once it is stored. */
export function acceptBatch(
  state: SourceState | undefined,
  batch: Batch,
  context: Context,
): { frames: Frame[]; state: SourceState } | Refused {
  const refused = checkSession(state, batch, context);
  if (refused || !state) return refused!;
  const { prev, last, frames } = batch;
  const disorder = disorderOf(batch);
  if (disorder !== undefined) return disorder;
  const { acked, reach, digest } = state;
  if (prev > acked)
    return refuse("sequence-gap", `Entry ${acked + 1} is missing.`, "Send from there on.", {
      expected: acked + 1,
    });
  const again = frames.find(({ seq }) => seq === reach);
  if (again && digest !== null && digestOf(again) !== digest)
    return refuse("epoch", `Entry ${reach} is another one here.`, "Greet again.", { epoch: state.epoch });
  const heard = context.now;
  if (last <= acked) return { frames: [], state: { ...state, heard } };
  const end = frames.at(-1);
  return {
    frames: frames.filter(({ seq }) => seq > acked),
    state: {
      ...state,
      heard,
      acked: last,
      ...(last >= reach && { reach: last, digest: end?.seq === last ? digestOf(end) : batch.digest }),
    },
  };
}

function disorderOf({ prev, last, frames }: Batch): Refused | undefined {
  const wrong = (detail: string, seq?: number) =>
    refuse("invalid", detail, "", seq === undefined ? {} : { seq });
  if (prev > last) return wrong(`A batch from ${prev + 1} to ${last} is none.`);
  let before = prev;
  for (const { seq } of frames) {
    if (seq <= before || seq > last) return wrong(`Entry ${seq} is out of its order.`, seq);
    before = seq;
  }
  return undefined;
}

/** Whether a piece of history is to be applied, and the state once it is. `position`: where the part stands here. */
export function acceptHistory(
  state: SourceState | undefined,
  batch: HistoryBatch,
  position: number,
  context: Context,
): { apply: boolean; state: SourceState } | Refused {
  const refused = checkSession(state, batch, context);
  if (refused || !state) return refused!;
  const { part, from, to, acked, upto } = batch;
  // The cursor has moved: what was true of a run then may be so no more.
  if (acked !== state.acked) return late(state);
  const grows = part.of === "metrics" || part.of === "logs";
  if (from > to) return refuse("invalid", `A piece from ${from} to ${to} is none.`, "");
  if (grows && from > position)
    return refuse("sequence-gap", `What is here ends at ${position}.`, "Send from there on.", {
      expected: position,
    });
  return {
    apply: !grows || to > position,
    state: {
      ...state,
      heard: context.now,
      doubt: Math.max(state.doubt, upto),
      ...(upto > state.reach && { reach: upto, digest: batch.digest }),
    },
  };
}

/** How far a run's records, or lines, have come, as their source counts them. */
export interface Numbering {
  /** null: not known, as an earlier life of the source went on with them. */
  next: number | null;
  /** What is added to a number of theirs to make one of ours. */
  shift: number;
}

export interface Place {
  /** So many of the first are here already. */
  skip: number;
  /** Our number for the first of the others. */
  at: number;
  numbering: Numbering;
}

/**
 * Where `count` records from `ordinal` on go. `isKnown`: this batch of its client was taken before, in whatever life of the source.
 * `localNext`: the next free number here.
 */
export function place(
  { next, shift }: Numbering,
  { ordinal, count }: { ordinal: number; count: number },
  isKnown: boolean,
  localNext: number,
): Place {
  const end = ordinal + count;
  const before = next === null ? 0 : Math.min(Math.max(next - ordinal, 0), count);
  const skip = isKnown ? count : before;
  if (skip === count) return { skip, at: localNext, numbering: { next: Math.max(next ?? end, end), shift } };
  const first = ordinal + skip;
  // Taken by a record of another life: ours go behind it.
  const shifted = first + shift < localNext ? localNext - first : shift;
  return { skip, at: first + shifted, numbering: { next: end, shift: shifted } };
}
