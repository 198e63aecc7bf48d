import { GREET_MS, MAX_PARTIAL, type Accepted, type Frame } from "./contract.ts";
import { bringParts, bringPiece, closeParts } from "./bring.ts";
import type { Line } from "./line.ts";
import { createPace, type Pace } from "./pace.ts";
import { Refusal, type DeadLetter } from "./ports.ts";
import { Changed, isCondemned, isInvalid, isTooLarge, Untrue } from "./trouble.ts";

/** The platform's word is kept here so often while much goes out: it can be asked again. */
const SAVE_MS = 1000;
/** While one record comes after the other, those of so long go together. One that comes alone waits for nothing. */
const GATHER_MS = 25;

interface UnderWay {
  prev: number;
  last: number;
  frames: Frame[];
  sentAt: number;
  /** Another was under way before it, and may come later. */
  isBehind: boolean;
  /** More was there when it was read. */
  isFull: boolean;
  reply: Promise<{ accepted: Accepted } | { error: unknown }>;
}

export interface Stream {
  /** Sends what there is and what comes; returns when it is time to greet again. */
  run(line: Line): Promise<void>;
}

/** The ordered stream of a destination: what it knows of the platform's ways outlives a greeting. */
export function createStream(window: number): Stream {
  const memory: Memory = { pace: createPace(window), introduced: new Map(), condemned: undefined };
  return { run: (line) => run(line, memory) };
}

interface Memory {
  pace: Pace;
  /** Runs whose facts were sent since the platform did not know them, and for which entry. */
  introduced: Map<string, number>;
  /** Refused alone. */
  condemned: DeadLetter | undefined;
}

async function run(line: Line, memory: Memory): Promise<void> {
  const { outbox, clock, signal } = line;
  const { pace, introduced, condemned } = memory;
  // It may have been something else that said no, after the platform had taken it: only the greeting since then tells, and nothing
  // that was sent before it is taken any more.
  memory.condemned = undefined;
  if (condemned && condemned.frame.seq > line.acked) await line.bury([condemned]);
  const underWay: UnderWay[] = [];
  /** Ends those under way behind one that failed. */
  let abandoning = new AbortController();
  let whileWanted = AbortSignal.any([signal, abandoning.signal]);
  /** All up to here is read and under way. */
  let sent = line.acked;
  /** Nothing more is known to be there. */
  let isDry = false;
  let savedAt = -Infinity;

  try {
    while (!signal.aborted && !memory.condemned) {
      isDry = false;
      while (!isDry && underWay.length < pace.window()) if (!(await readNext())) break;
      const [head] = underWay;
      if (head) await settle(head);
      else if (isDry && !(await rest())) return;
    }
  } finally {
    abandoning.abort();
  }

  /** False where what comes next must wait until all before it has arrived. */
  async function readNext(): Promise<boolean> {
    const began = clock.monotonic();
    const piece = await outbox.read(sent);
    line.check();
    if (!piece) {
      isDry = true;
      return true;
    }
    if (piece.type === "history") {
      if (underWay.length > 0) return false;
      // Everything is brought.
      if (piece.runs === undefined) line.partial = [];
      await bringPiece(line, piece);
      sent = line.acked;
      return true;
    }
    if (line.partial.length > 0) return await complete();
    // What does not fill a batch goes alone, with all that comes until it may: each request has a head, and costs both sides work.
    const isFull = piece.last < outbox.last();
    if (underWay.length > 0 && !isFull) return false;
    pace.read(clock.monotonic() - began);
    const isAll = piece.frames.length <= pace.limit();
    const frames = isAll ? piece.frames : piece.frames.slice(0, pace.limit());
    const last = isAll ? piece.last : frames.at(-1)!.seq;
    await send(frames, last, isFull);
    return true;
  }

  async function send(frames: Frame[], last: number, isFull: boolean): Promise<void> {
    const digest = frames.at(-1)?.seq === last ? null : ((await outbox.digestAt(last)) ?? null);
    line.check();
    if (line.status.state !== "sending") line.change({ state: "sending" });
    const prev = sent;
    sent = last;
    const batch = { ...line.session, prev, last, digest, frames };
    underWay.push({
      prev,
      last,
      frames,
      sentAt: clock.monotonic(),
      isBehind: underWay.length > 0,
      isFull,
      reply: line.transport.send(line.identity.id, batch, whileWanted).then(
        (accepted) => ({ accepted }),
        (error: unknown) => ({ error }),
      ),
    });
  }

  async function settle(head: UnderWay): Promise<void> {
    const reply = await head.reply;
    if ("accepted" in reply) {
      underWay.shift();
      return await taken(head, reply.accepted);
    }
    // What was sent behind it can't have been taken.
    underWay.length = 0;
    abandoning.abort();
    abandoning = new AbortController();
    whileWanted = AbortSignal.any([signal, abandoning.signal]);
    sent = line.acked;
    pace.slower();
    const { error } = reply;
    if (head.isBehind && error instanceof Refusal && error.type === "sequence-gap") return;
    await refused(head, error);
  }

  async function taken({ last, frames, sentAt, isFull }: UnderWay, { acked }: Accepted): Promise<void> {
    if (acked < last || acked > sent)
      throw new Untrue(
        `The platform says that it has entry ${acked}, and was sent those from ${line.acked + 1} to ${sent}.`,
      );
    line.acked = Math.max(line.acked, acked);
    line.progress();
    pace.taken(clock.monotonic() - sentAt, outbox.last() > sent);
    if (frames.length > 0) introduced.clear();
    line.change({ acked: line.acked });
    if (clock.monotonic() - savedAt >= SAVE_MS) {
      savedAt = clock.monotonic();
      await line.save();
    }
    if (!isFull && underWay.length === 0 && outbox.last() > sent) await clock.sleep(GATHER_MS, signal);
  }

  async function refused({ frames }: UnderWay, error: unknown): Promise<void> {
    const { seq, run } = error instanceof Refusal ? error.details : {};
    const at = frames.findIndex((frame) => frame.seq === seq);
    const isOne = frames.length === 1;
    const isNamed =
      error instanceof Refusal && (error.type === "unknown-kind" || error.type === "unknown-run");
    if (isNamed || isInvalid(error) || isTooLarge(error)) {
      if (frames.length === 0) throw error;
      // What is before it passes; then it stands alone.
      if (at > 0) return pace.refused(2 * at);
      if (!isOne && !(isNamed && at === 0)) return pace.refused(at === 0 ? 2 : frames.length);
    }
    if (!(error instanceof Refusal)) throw error;
    const [frame] = frames;
    if (error.type === "unknown-run" && frame) {
      const name = typeof run === "string" ? run : frame.run;
      if (introduced.get(name) !== frame.seq) return await introduce(name, frame.seq);
      if (!isOne) return pace.refused(2);
    } else if (!isCondemned(error) || (seq !== undefined && at < 0)) throw error;
    memory.condemned = { frame: frame!, type: error.type, detail: error.message };
  }

  /** What was broken off is brought before anything that comes after it. */
  async function complete(): Promise<boolean> {
    const isAll = line.partial.length < MAX_PARTIAL;
    for (const name of line.partial) await bring(name);
    line.partial = [];
    if (!isAll) throw new Changed("More runs may be there in part.");
    return true;
  }

  async function introduce(name: string, seq: number): Promise<void> {
    introduced.set(name, seq);
    if (!(await bring(name))) outbox.forget(name);
  }

  /** All that is kept of a run; false where nothing is. */
  async function bring(name: string): Promise<boolean> {
    const end = await bringParts(line, [name]);
    // Where nothing else but facts is wanted: to ask is to say that it goes on, also as another run.
    const { transport, session, identity } = line;
    await transport.positions(
      identity.id,
      session,
      [
        { of: "metrics", run: name },
        { of: "logs", run: name },
      ],
      signal,
    );
    await closeParts(line, [name], end ?? { upto: line.acked, digest: null });
    return end !== undefined;
  }

  /** Until there is more; false when it is time to greet. */
  async function rest(): Promise<boolean> {
    await line.save();
    line.well();
    line.change({ state: "idle", error: null });
    const left = line.heardAt + GREET_MS - clock.monotonic();
    if (left <= 0) return false;
    const turn = new AbortController();
    const end = () => turn.abort();
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    await Promise.race([outbox.wait(sent, turn.signal), clock.sleep(left, turn.signal)]);
    signal.removeEventListener("abort", end);
    turn.abort();
    return clock.monotonic() < line.heardAt + GREET_MS;
  }
}
