import { describe, expect, test } from "bun:test";
import { createBackOff, MAX_RETRY_AFTER_MS } from "../src/relay/back-off.ts";
import { LEASE_MS, type Batch, type Frame, type Hello } from "../src/relay/contract.ts";
import { digestOf } from "../src/relay/digest.ts";
import { acceptBatch, greet, place, type SourceState } from "../src/source/accept.ts";

const hex = (letter: string) => letter.repeat(32);
const OWN = hex("f");
const SOURCE = hex("a");
const NOW = 1_800_000_000_000;
const context = { own: OWN, now: NOW };

describe("how long to wait", () => {
  const atMost = (failures: number) => {
    const backOff = createBackOff(() => 1);
    let wait = 0;
    for (let i = 0; i < failures; i++) wait = backOff.next();
    return wait;
  };
  test.each([
    [1, 1000],
    [2, 2000],
    [3, 4000],
    [6, 32_000],
    [7, 60_000],
    [1000, 60_000],
  ])("after %d failures no more than %d ms", (failures, most) => expect(atMost(failures)).toBe(most));

  test("anything from nothing on, so that a thousand do not come back at once", () =>
    expect(createBackOff(() => 0).next()).toBe(0));

  test.each([
    [5000, 5000],
    [MAX_RETRY_AFTER_MS * 10, MAX_RETRY_AFTER_MS],
    [-1, 0],
    [NaN, 0],
  ])("Retry-After of %d ms: %d at the least", (retryAfter, least) =>
    expect(createBackOff(() => 0).next(retryAfter)).toBe(least),
  );

  test("a success begins anew", () => {
    const backOff = createBackOff(() => 1);
    backOff.next();
    backOff.next();
    backOff.succeeded();
    expect([backOff.attempts(), backOff.next()]).toEqual([0, 1000]);
  });
});

const frame = (seq: number, payload = `${seq}`): Frame => ({
  seq,
  kind: "log.appended",
  version: 1,
  run: "r",
  client: null,
  clientSeq: null,
  ordinal: null,
  nextStep: null,
  count: 1,
  time: NOW,
  encoding: 0,
  payload: new TextEncoder().encode(payload),
});

const known: SourceState = {
  epoch: 3,
  acked: 10,
  reach: 10,
  digest: digestOf(frame(10)),
  nonce: hex("1"),
  turn: 5,
  openings: [{ nonce: hex("0"), last: 4, digest: null }],
  doubt: 0,
  heard: NOW - 1000,
};

const hello: Hello = {
  epoch: 3,
  nonce: hex("1"),
  turn: 6,
  openings: [{ nonce: hex("0"), last: 4 }],
  last: 12,
  sure: 10,
  is_other: false,
  path: [SOURCE],
  host: "gpu7",
  version: "1",
  sent_at: NOW,
};

describe("who greets", () => {
  /** Another life than the one that was greeted last: both know an older opening. */
  const left = { nonce: hex("2"), openings: [{ nonce: hex("0"), last: 12 }], epoch: 4, sure: 6 };
  const restarted = { nonce: hex("2"), openings: [{ nonce: hex("1"), last: 12 }, ...hello.openings] };
  test.each<[string, Partial<SourceState> | undefined, Partial<Hello>, string]>([
    ["is new here", undefined, {}, "from 0"],
    ["is the same, and goes on", {}, {}, "from 10"],
    ["is the same after a restart", {}, restarted, "from 10"],
    ["comes late: it has greeted since", {}, { turn: 4 }, "sequence-gap"],
    ["is a stranger with its id while it is alive", {}, { nonce: hex("2"), openings: [] }, "source-in-use"],
    [
      "is that stranger when it was silent for the lease",
      { heard: NOW - LEASE_MS },
      { nonce: hex("2"), openings: [] },
      "epoch",
    ],
    [
      "is a stranger by a clock that was set back",
      { heard: NOW + 1 },
      { nonce: hex("2"), openings: [] },
      "epoch",
    ],
    ["has gone back to before what is here", {}, { last: 7, sure: 7 }, "epoch"],
    ["has gone back, in a newer epoch", {}, { epoch: 4, last: 7, sure: 7 }, "from 7"],
    ["has gone back further than it was ever told", {}, { epoch: 4, last: 7, sure: 6 }, "from 6"],
    ["knows an older opening alone", {}, { epoch: 4, nonce: hex("2"), last: 9, sure: 9 }, "source-in-use"],
    [
      "knows an older opening alone, and the other is silent",
      { heard: NOW - LEASE_MS },
      { epoch: 4, nonce: hex("2"), openings: [{ nonce: hex("0"), last: 4 }], last: 9, sure: 9 },
      "from 4",
    ],
    [
      "has left the life that was greeted last, and nothing shows where both part",
      { heard: NOW - LEASE_MS, openings: [{ nonce: hex("0"), last: 10, digest: null }] },
      left,
      "from 6",
    ],
    [
      "has left it, and a digest shows whether both are one up to there",
      { heard: NOW - LEASE_MS, openings: [{ nonce: hex("0"), last: 10, digest: digestOf(frame(10)) }] },
      left,
      "from 10",
    ],
    ["is of an older epoch", {}, { epoch: 2 }, "epoch"],
    ["has other entries under the same numbers", {}, { is_other: true, sure: 9 }, "epoch"],
    ["has other entries, in a newer epoch", {}, { epoch: 4, is_other: true, sure: 9 }, "from 9"],
    ["is on a way that comes through here", {}, { path: [SOURCE, OWN] }, "circle"],
  ])("%s", (_, state, change, expected) => {
    const answer = greet(state && { ...known, ...state }, { ...hello, ...change }, context);
    expect("refused" in answer ? answer.refused : `from ${answer.state.acked}`).toBe(expected as never);
  });
});

describe("what is new of a batch", () => {
  const batch = (prev: number, last: number, seqs: number[], change: Partial<Batch> = {}): Batch => ({
    epoch: 3,
    nonce: hex("1"),
    turn: 5,
    path: [SOURCE],
    prev,
    last,
    digest: null,
    frames: seqs.map((seq) => frame(seq)),
    ...change,
  });
  test.each<[string, Batch, string | { seqs: number[]; acked: number }]>([
    ["the next ones", batch(10, 12, [11, 12]), { seqs: [11, 12], acked: 12 }],
    ["some are here already", batch(8, 12, [9, 10, 11, 12]), { seqs: [11, 12], acked: 12 }],
    ["all are here already", batch(8, 10, [9, 10]), { seqs: [], acked: 10 }],
    ["numbers without entries", batch(10, 20, [15]), { seqs: [15], acked: 20 }],
    ["none at all, only that they are passed over", batch(10, 20, []), { seqs: [], acked: 20 }],
    ["one is missing before it", batch(11, 12, [12]), "sequence-gap"],
    ["not in order", batch(10, 12, [12, 11]), "invalid"],
    ["twice the same", batch(10, 12, [11, 11]), "invalid"],
    ["beyond its own end", batch(10, 12, [11, 13]), "invalid"],
    ["an end before its beginning", batch(12, 10, []), "invalid"],
    ["another instance's", batch(10, 11, [11], { nonce: hex("9") }), "source-in-use"],
    ["another epoch's", batch(10, 11, [11], { epoch: 2 }), "epoch"],
    ["sent before the last greeting", batch(10, 11, [11], { turn: 4 }), "sequence-gap"],
    ["came through here", batch(10, 11, [11], { path: [SOURCE, OWN] }), "circle"],
    [
      "tells another story of what is here",
      batch(9, 11, [], { frames: [frame(10, "other"), frame(11)] }),
      "epoch",
    ],
  ])("%s", (_, sent, expected) => {
    const answer = acceptBatch(known, sent, context);
    expect(
      "refused" in answer
        ? answer.refused
        : { seqs: answer.frames.map(({ seq }) => seq), acked: answer.state.acked },
    ).toEqual(expected as never);
  });
});

describe("where records go", () => {
  test.each<[string, Parameters<typeof place>, ReturnType<typeof place>]>([
    [
      "behind those before them",
      [{ next: 10, shift: 0 }, { ordinal: 10, count: 5 }, false, 10],
      { skip: 0, at: 10, numbering: { next: 15, shift: 0 } },
    ],
    [
      "only those that history has not brought",
      [{ next: 12, shift: 0 }, { ordinal: 10, count: 5 }, false, 12],
      { skip: 2, at: 12, numbering: { next: 15, shift: 0 } },
    ],
    [
      "nowhere, as this batch of its client was taken before",
      [{ next: 10, shift: 0 }, { ordinal: 10, count: 5 }, true, 40],
      { skip: 5, at: 40, numbering: { next: 15, shift: 0 } },
    ],
    [
      "behind those of another life with the same numbers",
      [{ next: null, shift: 0 }, { ordinal: 10, count: 5 }, false, 30],
      { skip: 0, at: 30, numbering: { next: 15, shift: 20 } },
    ],
    [
      "with a gap where the beginning was never sent",
      [{ next: 0, shift: 0 }, { ordinal: 100, count: 5 }, false, 0],
      { skip: 0, at: 100, numbering: { next: 105, shift: 0 } },
    ],
  ])("%s", (_, args, expected) => expect(place(...args)).toEqual(expected));
});
