import { CollectorError } from "../../error.ts";
import { createBackOff } from "../back-off.ts";
import type { Frame } from "../contract.ts";
import type { DeliveryStatus } from "../line.ts";
import { Refusal, type Clock, type DeadLetter, type Outbox, type Piece, type Random } from "../ports.ts";
import { Stuck, toTrouble, type Trouble } from "../trouble.ts";
import { encode, type Body } from "./encode.ts";
import type { Exported } from "./exporter.ts";
import type { Prepared, Signal } from "./prepare.ts";

export interface OtlpOptions {
  outbox: Pick<Outbox, "read" | "wait" | "state" | "save">;
  /** The journal's first entry: what was before it is nowhere but in the store. */
  first: () => number;
  /** Entries from `after + 1` on that are there no more, though they had not arrived. */
  onCut: (after: number, first: number) => void;
  /** Refused by the backend, while it took the rest. */
  onRejected: (frames: readonly Frame[], records: number, message: string) => void;
  /** Those that it takes. */
  signals: readonly Signal[];
  prepare: (frames: readonly Frame[]) => { prepared: Prepared[]; unreadable: DeadLetter[] };
  send: (signal: Signal, body: Body, ending: AbortSignal) => Promise<Exported>;
  clock: Clock;
  random: Random;
  onChange: (status: DeliveryStatus) => void;
}

/** So many refused in a row, and none taken: it is not they who are wrong. */
const MAX_STREAK = 100;

/** What is left to send of a batch, signal by signal. */
interface Work {
  signal: Signal;
  prepared: Prepared[];
  bodies: Body[];
}

interface Batch {
  last: number;
  work: Work[];
  letters: DeadLetter[];
}

/**
 * Brings the journal to an OpenTelemetry backend, for ever; resolves when aborted. At least once: what was taken and could not be
 * noted is sent again.
 */
export async function deliverOtlp(options: OtlpOptions, signal: AbortSignal): Promise<void> {
  const { outbox, first, onCut, onRejected, signals, prepare, send, clock, random, onChange } = options;
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
  let batch: Batch | undefined;
  const streaks: Record<Signal, number> = { metrics: 0, logs: 0 };

  while (!signal.aborted)
    try {
      batch ??= await next();
      if (batch) await finish(batch);
      else await rest();
    } catch (error) {
      if (!signal.aborted) await recover(error);
    }

  function change(changes: Partial<DeliveryStatus>): void {
    status = { ...status, ...changes };
    onChange(status);
  }

  async function next(): Promise<Batch | undefined> {
    const { acked } = outbox.state();
    const start = first();
    if (acked + 1 < start) {
      // Nothing but the journal goes here: what it has no more is passed over.
      onCut(acked, start);
      await save(start - 1, []);
    }
    const piece = await outbox.read(outbox.state().acked);
    return piece && toBatch(piece);
  }

  function toBatch(piece: Piece): Batch {
    const { last } = piece;
    if (piece.type === "history") {
      // Where the journal was cut meanwhile all that is kept would follow: it goes on where the journal now begins.
      const { acked } = outbox.state();
      return { last: first() > acked + 1 ? acked : last, work: [], letters: [] };
    }
    const { prepared, unreadable } = prepare(piece.frames);
    const work = signals.map((of) => workOf(of, prepared));
    return { last, work, letters: unreadable };
  }

  async function finish(of: Batch): Promise<void> {
    for (let work = of.work[0]; work; work = of.work[0]) {
      const [body] = work.bodies;
      if (!body) of.work.shift();
      else await sendBody(of, work, body);
    }
    await save(of.last, of.letters);
    batch = undefined;
  }

  async function sendBody(of: Batch, work: Work, body: Body): Promise<void> {
    change({ state: "sending" });
    let taken: Exported;
    try {
      taken = await send(work.signal, body, signal);
    } catch (error) {
      if (!isForGood(error)) throw error;
      refuse(of, work, error);
      return;
    }
    work.bodies.shift();
    streaks[work.signal] = 0;
    backOff.succeeded();
    if (status.error || status.attempts > 0) change({ error: null, attempts: 0 });
    const { rejected, message } = taken;
    const frames = work.prepared.map(({ frame }) => frame);
    if (rejected > 0) onRejected(frames, rejected, message);
    if (message !== "" && status.notice?.message !== message)
      change({ notice: { message, hint: null, at: clock.now() } });
  }

  /** Halved until the one stands alone that it is about. */
  function refuse(of: Batch, { signal: kind, prepared }: Work, error: Refusal): void {
    const all = prepared.filter((one) => one[kind].length > 0);
    if (all.length > 1) {
      const middle = Math.ceil(all.length / 2);
      of.work.splice(0, 1, workOf(kind, all.slice(0, middle)), workOf(kind, all.slice(middle)));
      return;
    }
    if (streaks[kind] >= MAX_STREAK) {
      // One more at each attempt, for as long as it takes.
      streaks[kind] = MAX_STREAK - 1;
      throw new Stuck(
        `The backend refused ${MAX_STREAK} entries in a row with ${kind}, and took none: ${error.message}`,
      );
    }
    streaks[kind]++;
    of.work.shift();
    const [{ frame }] = all as [Prepared];
    if (!of.letters.some((letter) => letter.frame.seq === frame.seq))
      of.letters.push({ frame, type: error.type, detail: error.message });
  }

  async function save(acked: number, letters: DeadLetter[]): Promise<void> {
    await outbox.save({ ...outbox.state(), acked }, letters);
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
}

const workOf = (signal: Signal, prepared: Prepared[]): Work => ({
  signal,
  prepared,
  bodies: encode(signal, prepared),
});

/** It will say the same of this body however often it is asked. */
const isForGood = (error: unknown): error is Refusal =>
  error instanceof Refusal &&
  error.status >= 400 &&
  error.status < 500 &&
  ![408, 425, 429].includes(error.status) &&
  !isForPerson(error);

/** It would refuse any body: the token, the path or the protocol is wrong. */
const isForPerson = (error: unknown): boolean =>
  error instanceof Stuck || (error instanceof Refusal && Object.hasOwn(HINTS, error.status));

const PATH_HINT =
  "Is the path right? /v1/metrics and /v1/logs are looked for below the address. One that takes no logs is added with ?logs=false.";

const HINTS: Record<number, string> = {
  401: "Give its token with --token-file when you add it again.",
  403: "Give a token that may write when you add it again, with --token-file.",
  404: PATH_HINT,
  405: PATH_HINT,
  415: "It takes no OTLP as protobuf: give the address of one that does, such as an OpenTelemetry Collector.",
};

function troubleOf(error: unknown, at: number): Trouble {
  if (error instanceof Refusal) return { message: error.message, hint: HINTS[error.status] ?? null, at };
  if (error instanceof Error && !(error instanceof CollectorError) && !(error instanceof Stuck))
    return { message: error.message, hint: "This is a defect: please report it.", at };
  return toTrouble(error, at);
}
