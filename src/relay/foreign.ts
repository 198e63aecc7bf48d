import { CollectorError } from "../error.ts";
import { createBackOff } from "./back-off.ts";
import type { Frame, Part } from "./contract.ts";
import type { DeliveryStatus } from "./line.ts";
import { Refusal, type Clock, type DeadLetter, type Outbox, type Piece, type Random } from "./ports.ts";
import { Stuck, toTrouble, type Trouble } from "./trouble.ts";

/** What a destination took of what it was sent. */
export interface Taken {
  /** Points or lines that it will not have; not to be sent again. */
  rejected: number;
  /** Its words; "": none. */
  message: string;
}

/** Entries of one signal, which are sent together. */
export interface Share<Signal, Prepared> {
  signal: Signal;
  prepared: Prepared[];
}

/** About the one at this place among those that were encoded together; those before it have arrived. */
export class RefusedOne extends Refusal {
  readonly at: number;
  /** Nobody said so: it is believed once another one was taken. */
  readonly guess: { hasTaken: boolean } | undefined;

  constructor(
    at: number,
    { status, type, message, details, retryAfterMs }: Refusal,
    guess?: { hasTaken: boolean },
  ) {
    super(status, type, message, { details, ...(retryAfterMs !== undefined && { retryAfterMs }) });
    this.at = at;
    this.guess = guess;
  }
}

/** How far parts of history have come; of facts the seq up to which they stand in. */
export interface Positions {
  of(part: Part): number;
  set(part: Part, position: number): void;
  /** All has arrived. */
  clear(): void;
}

/** What is kept of before, for who gets that, too. */
export interface ForeignHistory {
  positions: Positions;
  /** Whether the part goes there. */
  takes: (part: Part) => boolean;
  /** Of the facts what is said when all else has been. */
  endings: (frames: readonly Frame[]) => Frame[];
}

/** A destination that knows nothing of our contract: what it is told, and how. */
export interface ForeignOptions<Signal extends string, Prepared extends { frame: Frame }, Body> {
  outbox: Pick<Outbox, "read" | "wait" | "state" | "save" | "parts" | "history">;
  /** The journal's first entry: what was before it is nowhere but in the store. */
  first: () => number;
  /** Entries from `after + 1` on that are there no more, though they had not arrived. In the transaction that moves the cursor. */
  onCut: (after: number, first: number) => void;
  /** Refused by the destination, while it took the rest. */
  onRejected: (frames: readonly Frame[], records: number, message: string) => void;
  /** What is to be sent of these, in this order. */
  prepare: (frames: readonly Frame[]) => { shares: Share<Signal, Prepared>[]; unreadable: DeadLetter[] };
  /** Whether a signal says anything of it. */
  speaks: (signal: Signal, prepared: Prepared) => boolean;
  encode: (signal: Signal, prepared: Prepared[]) => Body[];
  /** Finds out whether anybody is there before there is anything to send. */
  hello?: (ending: AbortSignal) => Promise<void>;
  /** Rejects with a Refusal, or with anything else where there was no answer. */
  send: (signal: Signal, body: Body, ending: AbortSignal) => Promise<Taken>;
  /** Absent: nothing but the journal goes there. */
  history?: ForeignHistory;
  /** These entries count as arrived, none of which is a dead letter. In the transaction that says so. */
  onTaken?: (frames: readonly Frame[]) => void;
  /** What a person can do about a status that it would answer to anything. */
  hints: Readonly<Record<number, string>>;
  clock: Clock;
  random: Random;
  onChange: (status: DeliveryStatus) => void;
}

/** So many refused in a row, and none taken: it is not they who are wrong. */
const MAX_STREAK = 100;
/** Likewise where that is a guess; twice as many at each attempt, up to the streak. */
const MAX_DOUBTED = 3;
/** So much is kept at once while it is looked for what would tell. */
const MAX_AHEAD_ENTRIES = 20_000;
const MAX_AHEAD_BYTES = 32 * 1024 * 1024;

/** What is left to send of a share. */
interface Work<Signal, Prepared, Body> extends Share<Signal, Prepared> {
  bodies: Body[];
}

interface Batch<Signal, Prepared, Body> {
  /** undefined: it is of history, and the cursor stays. */
  last: number | undefined;
  frames: Frame[];
  work: Work<Signal, Prepared, Body>[];
  letters: DeadLetter[];
  /** Seem to be refused, and nothing else was taken since. */
  doubted: { signal: Signal; prepared: Prepared }[];
  /** Once it has arrived, with the cursor. */
  onArrived: (() => void)[];
}

/**
 * Brings the journal to somebody who knows nothing of our contract, for ever; resolves when aborted. At least once: what was taken and
 * could not be noted is sent again.
 */
export async function deliverAbroad<Signal extends string, Prepared extends { frame: Frame }, Body>(
  options: ForeignOptions<Signal, Prepared, Body>,
  signal: AbortSignal,
): Promise<void> {
  const { outbox, first, onCut, onRejected, prepare, speaks, encode, send, clock, random, onChange } =
    options;
  const { hints, history, onTaken = () => {} } = options;
  const backOff = createBackOff(random);
  let status: DeliveryStatus = {
    state: "starting",
    error: null,
    notice: null,
    acked: outbox.state().acked,
    attempts: 0,
    nextTryAt: null,
    history: null,
  };
  let batch: Batch<Signal, Prepared, Body> | undefined;
  let bringing: AsyncGenerator<Batch<Signal, Prepared, Body>, void> | undefined;
  const streaks = new Map<Signal, number>();
  let bearable = MAX_DOUBTED;

  let isGreeted = false;
  while (!signal.aborted)
    try {
      if (!isGreeted) await options.hello?.(signal);
      isGreeted = true;
      batch ??= await next(outbox.state().acked);
      if (batch) await finish(batch);
      else await rest();
    } catch (error) {
      if (!signal.aborted) await recover(error);
    }

  function change(changes: Partial<DeliveryStatus>): void {
    status = { ...status, ...changes };
    onChange(status);
  }

  async function next(after: number): Promise<Batch<Signal, Prepared, Body> | undefined> {
    if (bringing) return nextOfHistory(bringing, after);
    const start = first();
    if (!history && after + 1 < start) {
      // Nothing but the journal goes here: what it has no more is passed over.
      const cut = after;
      await save((after = start - 1), [], () => onCut(cut, start));
    }
    const piece = await outbox.read(after);
    if (piece?.type === "batch") return toBatch(piece.frames, piece.last);
    if (!piece) return undefined;
    if (history) return nextOfHistory((bringing = bring(piece, history)), after);
    // Where the journal was cut meanwhile all that is kept would follow: it goes on where the journal now begins.
    return toBatch([], first() > after + 1 ? after : piece.last);
  }

  function toBatch(frames: readonly Frame[], last: number | undefined): Batch<Signal, Prepared, Body> {
    const { shares, unreadable } = prepare(frames);
    const work = shares.map(({ signal, prepared }) => workOf(signal, prepared));
    return { last, frames: [...frames], work, letters: unreadable, doubted: [], onArrived: [] };
  }

  /** One that fails begins anew, and goes on where it was. */
  async function nextOfHistory(
    from: NonNullable<typeof bringing>,
    after: number,
  ): Promise<Batch<Signal, Prepared, Body> | undefined> {
    try {
      const { value } = await from.next();
      if (value) return value;
    } catch (error) {
      bringing = undefined;
      throw error;
    }
    bringing = undefined;
    return next(after);
  }

  async function* bring(
    { last, runs }: Extract<Piece, { type: "history" }>,
    { positions, takes, endings }: ForeignHistory,
  ): AsyncGenerator<Batch<Signal, Prepared, Body>, void> {
    const parts = (await outbox.parts(runs)).filter(takes);
    for (const [done, part] of parts.entries()) {
      const isFacts = part.of === "facts";
      // They have no place in between; and as soon as there is more to bring, there may be more of them.
      if (isFacts && positions.of(part) === last) continue;
      change({ state: "history", history: { done, total: parts.length } });
      for await (const { to, frames } of outbox.history(part, isFacts ? 0 : positions.of(part)))
        yield {
          ...toBatch(frames, undefined),
          ...(!isFacts && { onArrived: [() => positions.set(part, to)] }),
        };
      if (isFacts) yield { ...toBatch([], undefined), onArrived: [() => positions.set(part, last)] };
    }
    if (parts.some(({ of }) => of === "facts"))
      for await (const { frames } of outbox.history({ of: "facts" }, 0))
        yield toBatch(endings(frames), undefined);
    change({ history: null });
    yield { ...toBatch([], last), onArrived: [() => positions.clear()] };
  }

  async function finish(of: Batch<Signal, Prepared, Body>): Promise<void> {
    for (let work = of.work[0]; work; work = of.work[0]) {
      const [body] = work.bodies;
      if (body === undefined) of.work.shift();
      else await sendBody(of, work, body);
    }
    if (of.doubted.length > 0 && hasRoom(of)) return lengthen(of);
    const refused = new Set(of.letters.map(({ frame }) => frame));
    await save(of.last ?? outbox.state().acked, of.letters, () => {
      onTaken(of.frames.filter((frame) => !refused.has(frame)));
      for (const arrived of of.onArrived) arrived();
    });
    batch = undefined;
  }

  /** Whether it is about those that seem to be refused what comes next shows. */
  async function lengthen(of: Batch<Signal, Prepared, Body>): Promise<void> {
    const isOfHistory = bringing !== undefined;
    const more = await next(of.last ?? outbox.state().acked).catch((error: unknown) => {
      // It begins anew where it was noted last: what is here of it would be there twice.
      if (isOfHistory) batch = undefined;
      throw error;
    });
    if (!more) throw takeBack(of);
    of.last = more.last ?? of.last;
    for (const frame of more.frames) of.frames.push(frame);
    of.work = more.work;
    of.letters.push(...more.letters);
    of.onArrived.push(...more.onArrived);
  }

  /** Something else was taken: it is about them. */
  function believe(of: Batch<Signal, Prepared, Body>, kind: Signal): void {
    if (of.doubted.some((one) => one.signal === kind)) bearable = MAX_DOUBTED;
    of.doubted = of.doubted.filter((one) => one.signal !== kind);
  }

  /** It is not about them: they are sent again, in their order. */
  function takeBack(of: Batch<Signal, Prepared, Body>): CollectorError {
    const doubted = of.doubted.splice(0);
    const frames = new Set(doubted.map(({ prepared }) => prepared.frame));
    of.letters = of.letters.filter(({ frame }) => !frames.has(frame));
    of.work.unshift(...doubted.map(({ signal, prepared }) => workOf(signal, [prepared])));
    return new CollectorError("unreachable", "Nothing that is sent is taken.", {
      hint: "Is its disk full, or may nobody write there? All data waits here until it takes something.",
    });
  }

  async function sendBody(
    of: Batch<Signal, Prepared, Body>,
    work: Work<Signal, Prepared, Body>,
    body: Body,
  ): Promise<void> {
    change({ state: status.history ? "history" : "sending" });
    let taken: Taken;
    try {
      taken = await send(work.signal, body, signal);
    } catch (error) {
      if (!isForGood(error)) throw error;
      refuse(of, work, error);
      return;
    }
    work.bodies.shift();
    streaks.delete(work.signal);
    believe(of, work.signal);
    backOff.succeeded();
    if (status.error || status.attempts > 0) change({ error: null, attempts: 0 });
    const { rejected, message } = taken;
    const frames = work.prepared.map(({ frame }) => frame);
    if (rejected > 0) onRejected(frames, rejected, message);
    if (message !== "" && status.notice?.message !== message)
      change({ notice: { message, hint: null, at: clock.now() } });
  }

  /** Halved until the one stands alone that it is about. */
  function refuse(
    of: Batch<Signal, Prepared, Body>,
    { signal: kind, prepared }: Work<Signal, Prepared, Body>,
    error: Refusal,
  ): void {
    const all = prepared.filter((one) => speaks(kind, one));
    const named = error instanceof RefusedOne ? all.indexOf(prepared[error.at]!) : -1;
    if (named < 0 && all.length > 1) {
      const middle = Math.ceil(all.length / 2);
      of.work.splice(0, 1, workOf(kind, all.slice(0, middle)), workOf(kind, all.slice(middle)));
      return;
    }
    const streak = streaks.get(kind) ?? 0;
    if (streak >= MAX_STREAK) {
      // One more at each attempt, for as long as it takes.
      streaks.set(kind, MAX_STREAK - 1);
      throw new Stuck(
        `The backend refused ${MAX_STREAK} entries in a row with ${kind}, and took none: ${error.message}`,
      );
    }
    const at = Math.max(0, named);
    const rest = all.slice(at + 1);
    of.work.splice(0, 1, ...(rest.length > 0 ? [workOf(kind, rest)] : []));
    const refused = all[at]!;
    // An entry may be refused of each signal; those of history all have the seq 0.
    if (!of.letters.some(({ frame }) => frame === refused.frame))
      of.letters.push({ frame: refused.frame, type: error.type, detail: error.message });
    if (!(error instanceof RefusedOne) || !error.guess) {
      streaks.set(kind, streak + 1);
      return;
    }
    if (error.guess.hasTaken) believe(of, kind);
    of.doubted.push({ signal: kind, prepared: refused });
    if (of.doubted.length < bearable) return;
    // One more at each attempt, for as long as it takes.
    if (bearable === MAX_STREAK) of.doubted.shift();
    bearable = Math.min(2 * bearable, MAX_STREAK);
    throw takeBack(of);
  }

  function workOf(kind: Signal, prepared: Prepared[]): Work<Signal, Prepared, Body> {
    return { signal: kind, prepared, bodies: encode(kind, prepared) };
  }

  async function save(acked: number, letters: DeadLetter[], also: () => void): Promise<void> {
    await outbox.save({ ...outbox.state(), acked }, letters, also);
    change({ acked });
  }

  async function rest(): Promise<void> {
    change({ state: "idle", error: null, attempts: 0 });
    backOff.succeeded();
    await outbox.wait(outbox.state().acked, signal);
  }

  async function recover(error: unknown): Promise<void> {
    const retryAfter = error instanceof Refusal ? error.retryAfterMs : undefined;
    const isPaused = isForPerson(error);
    const ms = isPaused ? backOff.paused(retryAfter) : backOff.next(retryAfter);
    change({
      state: isPaused ? "paused" : "waiting",
      error: troubleOf(error, clock.now()),
      attempts: backOff.attempts(),
      nextTryAt: clock.now() + ms,
    });
    await clock.sleep(ms, signal);
    change({ nextTryAt: null });
  }

  /** It would refuse anything: the token, the path or the protocol is wrong. */
  function isForPerson(error: unknown): boolean {
    return error instanceof Stuck || (error instanceof Refusal && Object.hasOwn(hints, error.status));
  }

  /** It will say the same of this body however often it is asked. */
  function isForGood(error: unknown): error is Refusal {
    return (
      error instanceof Refusal &&
      error.status >= 400 &&
      error.status < 500 &&
      ![408, 425, 429].includes(error.status) &&
      !isForPerson(error)
    );
  }

  function troubleOf(error: unknown, at: number): Trouble {
    const hint = error instanceof Refusal ? hints[error.status] : undefined;
    if (hint !== undefined) return { message: (error as Refusal).message, hint, at };
    if (error instanceof Error && !isForeseen(error))
      return { message: error.message, hint: "This is a defect: please report it.", at };
    return toTrouble(error, at);
  }
}

const isForeseen = (error: Error) =>
  error instanceof CollectorError || error instanceof Stuck || error instanceof Refusal;

const hasRoom = ({ frames }: { frames: readonly Frame[] }): boolean =>
  frames.length < MAX_AHEAD_ENTRIES &&
  frames.reduce((bytes, { payload }) => bytes + payload.length, 0) < MAX_AHEAD_BYTES;
