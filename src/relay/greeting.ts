import { GREET_MS, LEASE_MS, MAX_EPOCH, NEWEST_OPENINGS, type Cursor } from "./contract.ts";
import { createEpochGuard } from "./epoch-guard.ts";
import type { Line } from "./line.ts";
import { Refusal, type Clock } from "./ports.ts";
import { toTrouble, Untrue } from "./trouble.ts";

/** Refused for longer than any request of an earlier process of ours could count as a sign of life: we are the copy. */
const COPY_MS = 2 * LEASE_MS + GREET_MS;
/** Greetings at one go: a platform that has something against each is tried again later. */
const MAX_TRIES = 4;

/** Another installation with our id is alive. */
export class InUse extends Error {
  override readonly name = "InUse";
  readonly hint =
    "A copy of its data folder, or its old process? While both go on one of them becomes a source of its own, by itself.";
  readonly waitMs: number;
  constructor(message: string, waitMs: number) {
    super(message);
    this.waitMs = waitMs;
  }
}

export interface Greeter {
  /** Where the platform stands, and that we are who we were there. The line then stands on it. */
  greet(line: Line): Promise<void>;
}

export function createGreeter(clock: Clock): Greeter {
  const epochs = createEpochGuard(clock);
  let turn = 0;
  let inUseSince: number | undefined;

  async function greet(line: Line): Promise<void> {
    const { outbox } = line;
    let openings = NEWEST_OPENINGS;
    /** Where the platform's entry was seen to be none of ours. */
    let other: number | undefined;
    for (let tries = 1; ; tries++) {
      const { id, epoch } = outbox.identity();
      try {
        const cursor = await ask(line, openings, other);
        inUseSince = undefined;
        if (await isOurs(line, cursor)) {
          epochs.accepted();
          return await begin(line, cursor);
        }
        if (tries >= MAX_TRIES)
          throw new Untrue("The platform has other entries than ours, whatever it is told.");
        epochs.check(epoch, epoch);
        other = cursor.reach;
        await outbox.newEpoch(epoch);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        const { details, type } = error;
        if (type === "source-in-use") await wait(line, error, id);
        else if (tries >= MAX_TRIES) throw error;
        else if (type === "sequence-gap" && isCount(details["turn"]) && details["turn"] > turn)
          // The clock that they are taken from went back with a snapshot of this machine.
          turn = details["turn"];
        else if (type !== "epoch") throw error;
        else if (details["common"] === null && outbox.identity().openings.length > openings)
          openings = Infinity;
        else {
          const above = details["epoch"];
          if (!isCount(above) || above >= MAX_EPOCH) throw error;
          epochs.check(above, epoch);
          await outbox.newEpoch(Math.max(above, epoch));
        }
      }
    }
  }

  async function ask(line: Line, openings: number, other: number | undefined): Promise<Cursor> {
    const { outbox, transport, clock, facts, signal } = line;
    const identity = outbox.identity();
    const { id, epoch, nonce } = identity;
    turn = Math.max(turn + 1, Math.floor(clock.monotonic()));
    line.identity = identity;
    const last = outbox.last();
    line.session = {
      epoch,
      nonce,
      turn,
      // As it is when something is sent: what a new source has brought must not go back to it.
      get path() {
        return line.path();
      },
    };
    const cursor = await transport.greet(
      id,
      {
        epoch,
        nonce,
        turn,
        path: line.path(),
        ...facts,
        openings: identity.openings.slice(0, openings).map(({ nonce, last }) => ({ nonce, last })),
        last,
        sure: Math.min(outbox.state().acked, (other ?? Infinity) - 1),
        is_other: other !== undefined,
        sent_at: clock.now(),
      },
      signal,
    );
    line.check();
    if (cursor.source !== id || cursor.turn !== turn)
      throw new Untrue("The platform answers somebody else's question.");
    if (cursor.epoch !== epoch)
      throw new Untrue(`The platform speaks of epoch ${cursor.epoch}, and this is ${epoch}.`);
    // What came since then it can't have.
    if (cursor.acked > last)
      throw new Untrue(`The platform says that it has entry ${cursor.acked}, and there were ${last}.`);
    return cursor;
  }

  /** A machine that went back to a snapshot has the same nonce, and other entries under the same seqs. */
  async function isOurs({ outbox }: Line, { reach, digest }: Cursor): Promise<boolean> {
    if (digest === null) return true;
    const own = await outbox.digestAt(reach);
    return own === undefined || own === digest;
  }

  async function begin(line: Line, { acked, partial }: Cursor): Promise<void> {
    const { outbox, clock, identity } = line;
    await outbox.greeted();
    line.acked = acked;
    line.partial = partial;
    line.heardAt = clock.monotonic();
    const { epoch, acked: before } = outbox.state();
    // The platform was set back: its runs may stand there as a life that was left has made them, too.
    const isBack = epoch === identity.epoch && acked < before;
    // A destination that is new gets everything told in any case.
    line.isTold = epoch === 0 || (epoch === identity.epoch && !isBack);
    // Until it is told, what is durable must go on saying that it went back.
    if (!isBack) await line.save();
    line.change({ acked });
  }

  /** Until the other one is silent; it is not: then we are a copy, and go on as a source of our own. */
  async function wait(line: Line, refusal: Refusal, id: string): Promise<void> {
    const { outbox, clock, random } = line;
    inUseSince ??= clock.monotonic();
    if (clock.monotonic() - inUseSince < COPY_MS) {
      const lease = refusal.details["lease_ms"];
      const within = Math.min(isCount(lease) ? lease : GREET_MS, GREET_MS);
      throw new InUse(refusal.message, 1000 + within * (0.5 + random() / 2));
    }
    inUseSince = undefined;
    await outbox.newSource();
    const now = outbox.identity().id;
    const message = `Source ${id} goes on elsewhere: this is a copy of it, and from now on source ${now}, with all it has.`;
    line.change({ notice: toTrouble(new Error(message), clock.now()) });
  }

  return { greet };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
