import { expect, test } from "bun:test";
import type { Frame, Part } from "../src/relay/contract.ts";
import { deliverAbroad, RefusedOne } from "../src/relay/foreign.ts";
import { Refusal, type DeadLetter } from "../src/relay/ports.ts";

const frameOf = (ordinal: number): Frame => ({
  seq: 0,
  kind: "log.appended",
  version: 1,
  run: "r",
  client: null,
  clientSeq: null,
  ordinal,
  nextStep: null,
  count: 1,
  time: 0,
  encoding: 0,
  payload: new Uint8Array(1),
});

test("history that fails while it is looked ahead begins anew, and what was looked at of it is not there twice", async () => {
  const part: Part = { of: "logs", run: "r" };
  const positions = new Map<Part, number>();
  const state = { epoch: 1, acked: 0, paused: null };
  const sent: number[] = [];
  const taken: number[] = [];
  const letters: DeadLetter[] = [];
  const ending = new AbortController();
  let failures = 1;

  await deliverAbroad<"logs", { frame: Frame }, { frame: Frame }[]>(
    {
      outbox: {
        state: () => state,
        read: async (after) => (after < 9 ? { type: "history", last: 9, runs: ["r"] } : undefined),
        wait: async () => ending.abort(),
        async save({ acked }, dead, also) {
          state.acked = acked;
          letters.push(...dead);
          also?.();
        },
        parts: async () => [part],
        async *history(_, from) {
          for (let at = from; at < 3; at++) {
            if (at === 1 && failures-- > 0) throw new Error("The page can't be read.");
            yield { from: at, to: at + 1, frames: [frameOf(at)] };
          }
        },
      },
      first: () => 10,
      onCut() {},
      onRejected() {},
      prepare: (frames) => ({
        shares: [{ signal: "logs", prepared: frames.map((frame) => ({ frame })) }],
        unreadable: [],
      }),
      speaks: () => true,
      encode: (_, prepared) => prepared.map((one) => [one]),
      async send(_, [one]) {
        sent.push(one!.frame.ordinal!);
        // As one that goes away, and does not say at what.
        if (one!.frame.ordinal === 0)
          throw new RefusedOne(0, new Refusal(400, "no", "no"), { hasTaken: false });
        return { rejected: 0, message: "" };
      },
      history: {
        positions: {
          of: (of) => positions.get(of) ?? 0,
          set: (of, to) => void positions.set(of, to),
          clear: () => positions.clear(),
        },
        takes: () => true,
        endings: () => [],
      },
      onTaken: (frames) => taken.push(...frames.map(({ ordinal }) => ordinal!)),
      hints: {},
      clock: { monotonic: () => 0, now: () => 0, sleep: async () => {} },
      random: () => 0,
      onChange() {},
    },
    ending.signal,
  );

  expect(letters.map(({ frame }) => frame.ordinal)).toEqual([0]);
  expect(taken).toEqual([1, 2]);
  expect(sent).toEqual([0, 0, 1, 2]);
  expect(state.acked).toBe(9);
});
