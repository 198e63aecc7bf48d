import { CollectorError } from "../../src/error.ts";
import type { Cursor } from "../../src/relay/contract.ts";
import { Refusal, type Transport } from "../../src/relay/ports.ts";
import type { Refused } from "../../src/source/accept.ts";
import type { Platform } from "./platform.ts";
import type { Process } from "./process.ts";
import type { Dice } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** How bad a network is; each is a probability of a request. */
export interface Weather {
  lost: number;
  replyLost: number;
  twice: number;
  /** An answer of its own, from something in between, before or after the platform has done its work. */
  refused: number;
  garbage: number;
  lies: number;
  /** Longest way of a message, ms. */
  slow: number;
}

export const calm: Weather = { lost: 0, replyLost: 0, twice: 0, refused: 0, garbage: 0, lies: 0, slow: 20 };

const TIMEOUT_MS = 15_000;

const STATUS: Record<string, number> = {
  "sequence-gap": 409,
  "source-in-use": 409,
  circle: 409,
  epoch: 412,
  "unknown-kind": 422,
  "unknown-run": 422,
  invalid: 422,
};

export interface NetworkFlaws {
  /** What was sent counts as arrived. */
  trustSent?: boolean;
}

export interface NetworkContext {
  scheduler: Scheduler;
  dice: Dice;
  weather: () => Weather;
  say: ((text: string) => void) | undefined;
  /** undefined: nobody answers there. */
  platform(): { process: Process; platform: Platform } | undefined;
  /** The sender, whose crash ends it. */
  from: Process;
  /** Frames that a body may have; one that is huge never passes. */
  mostFrames: () => number;
  isHuge(frame: any): boolean; // oxlint-disable-line
  onRequest(delta: 1 | -1): void;
  flaws: NetworkFlaws;
}

/** A way on which everything may happen to a message. */
export function createTransport(context: NetworkContext): Transport {
  const { scheduler, dice, weather, say, from, flaws } = context;

  async function ask<T>(
    what: string,
    work: (platform: Platform) => Promise<T | Refused>,
    lie: (answer: T) => T,
    signal: AbortSignal,
  ): Promise<T> {
    context.onRequest(1);
    try {
      const answer = await from.hear(
        new Promise<T | Refused>((resolve, reject) => {
          // Abandoned, and perhaps on its way all the same.
          const end = () => reject(new CollectorError("unreachable", "aborted"));
          signal.addEventListener("abort", end, { once: true });
          scheduler.after(TIMEOUT_MS, () => reject(new CollectorError("unreachable", `${what}: no answer.`)));
          const { twice } = weather();
          carry(what, work, lie, resolve, reject);
          if (dice.chance(twice)) {
            say?.(`${what} goes out twice`);
            carry(what, work, lie, resolve, reject);
          }
        }),
      );
      if (isRefused(answer))
        throw new Refusal(STATUS[answer.refused] ?? 500, answer.refused, answer.detail, {
          details: answer.details,
        });
      return answer;
    } finally {
      context.onRequest(-1);
    }
  }

  function carry<T>(
    what: string,
    work: (platform: Platform) => Promise<T | Refused>,
    lie: (answer: T) => T,
    resolve: (answer: T | Refused) => void,
    reject: (error: unknown) => void,
  ): void {
    const { lost, replyLost, refused, garbage, lies, slow } = weather();
    // Mostly quick, now and then so slow that its sender has given up.
    const way = () => (dice.chance(0.1) ? dice.next() * slow : dice.next() * Math.min(slow, 200));
    if (dice.chance(lost)) return say?.(`${what} is lost`);
    scheduler.after(way(), () => {
      if (dice.chance(refused)) return void scheduler.after(way(), () => reject(inBetween(what)));
      const there = context.platform();
      if (!there) return reject(new CollectorError("unreachable", "Nobody answers."));
      void there.process.hear(work(there.platform)).then((answer) => {
        if (dice.chance(replyLost)) return say?.(`the answer to ${what} is lost`);
        scheduler.after(way(), () => {
          if (dice.chance(refused)) return reject(inBetween(what));
          if (dice.chance(garbage)) return reject(new CollectorError("unreachable", "That is no answer."));
          if (!isRefused(answer) && dice.chance(lies)) {
            say?.(`the answer to ${what} is a lie`);
            return resolve(lie(answer));
          }
          say?.(`${what}: ${isRefused(answer) ? answer.refused : "ok"} ${brief(answer)}`);
          resolve(answer);
        });
      });
    });
  }

  function inBetween(what: string): Refusal {
    const status = dice.pick([400, 401, 403, 404, 408, 409, 412, 415, 422, 425, 429, 500, 502, 503, 504]);
    say?.(`something in between answers ${what} with ${status}`);
    const retryAfterMs = dice.pick([undefined, undefined, 0, 1000, 30_000, 1e9, -5, NaN]);
    return new Refusal(
      status,
      String(status),
      `${status}`,
      retryAfterMs === undefined ? {} : { retryAfterMs },
    );
  }

  const tooLarge = (frames: readonly unknown[]) =>
    frames.length > context.mostFrames() || frames.some((frame) => context.isHuge(frame));

  return {
    greet: (source, hello, signal) =>
      ask(
        `hello ${hello.epoch}/${hello.nonce.slice(0, 4)}/${hello.turn} last ${hello.last}`,
        (platform) => platform.greet(source, hello),
        (cursor): Cursor =>
          dice.pick([
            { ...cursor, acked: hello.last + 1 + dice.int(0, 1000) },
            { ...cursor, source: "f".repeat(32), acked: dice.int(0, hello.last + 1) },
            { ...cursor, epoch: cursor.epoch + dice.int(1, 5) },
            { ...cursor, turn: cursor.turn - 1, acked: 0 },
            { ...cursor, digest: "e".repeat(64) },
          ]),
        signal,
      ),
    async send(source, batch, signal) {
      const { epoch, prev, last, frames } = batch;
      const what = `batch ${epoch}/${prev + 1}-${last} (${frames.length})`;
      if (tooLarge(frames)) throw new Refusal(413, "too-large", "Too large.");
      try {
        return await ask(
          what,
          (platform) => platform.send(source, batch),
          ({ acked }) => ({ acked: dice.pick([acked + 1000, prev - 1, last - 1, -1]) }),
          signal,
        );
      } catch (error) {
        if (flaws.trustSent && !(error instanceof Refusal)) return { acked: last };
        throw error;
      }
    },
    positions: (source, session, parts, signal) =>
      ask(
        `positions of ${parts.length} parts`,
        (platform) => platform.positions(source, session, parts),
        // Less than there is costs time; more nobody can tell from the truth.
        (positions) => positions.map((position) => Math.max(0, position - dice.int(0, 3))),
        signal,
      ),
    async sendHistory(source, batch, signal) {
      const { part, from, to, frames } = batch;
      if (tooLarge(frames)) throw new Refusal(413, "too-large", "Too large.");
      return await ask(
        `${JSON.stringify(part)} ${from}-${to} (${frames.length})`,
        (platform) => platform.sendHistory(source, batch),
        ({ position }) => ({ position: dice.pick([position + 7, position - 1]) }),
        signal,
      );
    },
  };
}

const isRefused = (answer: unknown): answer is Refused =>
  typeof answer === "object" && answer !== null && "refused" in answer;

function brief(answer: unknown): string {
  const { acked, position, details } = answer as Record<string, unknown>;
  return acked !== undefined
    ? `acked ${acked}`
    : position !== undefined
      ? `at ${position}`
      : details
        ? JSON.stringify(details)
        : "";
}
