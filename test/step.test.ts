import { describe, expect, test } from "bun:test";
import { MAX_STEP } from "../src/metric/schema.ts";
import {
  initialSteps,
  takeStep,
  takeUncommitted,
  type LogCall,
  type StepRecord,
  type StepRules,
  type StepState,
} from "../src/metric/step.ts";

/** Records of a series of calls, as [step, metrics, x], and the counter after them. */
function run(rules: StepRules, calls: LogCall[]): { records: unknown[]; state: StepState } {
  let state = initialSteps;
  const records: StepRecord[] = [];
  for (const call of calls) {
    const taken = takeStep(state, call, rules);
    state = taken.state;
    if (taken.record) records.push(taken.record);
  }
  return { records: records.map(({ step, metrics, x }) => [step, { ...metrics }, x]), state };
}

const documented: LogCall[] = [
  { metrics: { ACC: 0.1 } },
  { metrics: { acc: 0.11 } },
  { metrics: { acc: 0.2 } },
  { metrics: { acc: 0.3 } },
  { metrics: { acc: 0.31 }, step: 1 },
  { metrics: { acc: 0.32, x_index: 2 }, step: 2, customizedStepKey: "x_index" },
  { metrics: { loss: 0.33 }, customizedStepKey: "x_index", commit: false },
  { metrics: { acc: 0.34 }, step: 4, customizedStepKey: "x_index", commit: true },
];

describe("the documented example", () => {
  test("gives its seven records with reference spelling", () => {
    const { records, state } = run("reference", documented);
    expect(records).toEqual([
      [0, { acc: 0.1 }, []],
      [1, { acc: 0.11 }, []],
      [2, { acc: 0.2 }, []],
      [3, { acc: 0.3 }, []],
      [1, { acc: 0.31 }, []],
      [2, { acc: 0.32, x_index: 2 }, ["x_index"]],
      [4, { loss: 0.33, acc: 0.34 }, []],
    ]);
    expect(state).toEqual({ counter: 4, gathered: undefined });
  });

  test("gives the same records natively, but for the spelling of keys", () => {
    const { records, state } = run("native", documented);
    expect(records).toEqual([
      [0, { ACC: 0.1 }, []],
      [1, { acc: 0.11 }, []],
      [2, { acc: 0.2 }, []],
      [3, { acc: 0.3 }, []],
      [1, { acc: 0.31 }, []],
      [2, { acc: 0.32, x_index: 2 }, ["x_index"]],
      [4, { loss: 0.33, acc: 0.34 }, []],
    ]);
    expect(state.counter).toBe(5);
  });
});

interface Case {
  name: string;
  calls: LogCall[];
  native: unknown[];
  reference: unknown[];
  counters: [native: number, reference: number];
}

const cases: Case[] = [
  {
    name: "uncommitted calls join the next committed one and use one step",
    calls: [
      { metrics: { a: 1 }, commit: false },
      { metrics: { b: 2 }, commit: false },
      { metrics: { c: 3 } },
    ],
    native: [[0, { a: 1, b: 2, c: 3 }, []]],
    reference: [[0, { a: 1, b: 2, c: 3 }, []]],
    counters: [1, 1],
  },
  {
    name: "an axis given without commit survives until the commit",
    calls: [{ metrics: { x: 1 }, customizedStepKey: "x", commit: false }, { metrics: { acc: 2 } }],
    native: [[0, { x: 1, acc: 2 }, ["x"]]],
    reference: [[0, { x: 1, acc: 2 }, ["x"]]],
    counters: [1, 1],
  },
  {
    name: "reserved names are axes in the reference only",
    calls: [{ metrics: { loss: 1, epoch: 3, "train/Loss": 2, Round_Idx: 7 } }],
    native: [[0, { loss: 1, epoch: 3, "train/Loss": 2, Round_Idx: 7 }, []]],
    reference: [[0, { loss: 1, epoch: 3, "train-loss": 2, round_idx: 7 }, ["epoch", "round_idx"]]],
    counters: [1, 1],
  },
  {
    name: "an empty call is a record",
    calls: [{ metrics: {} }],
    native: [[0, {}, []]],
    reference: [[0, {}, []]],
    counters: [1, 1],
  },
  {
    name: "an explicit step moves the counter on natively, never back",
    calls: [{ metrics: { a: 1 }, step: 10 }, { metrics: { a: 2 }, step: 3 }, { metrics: { a: 3 } }],
    native: [
      [10, { a: 1 }, []],
      [3, { a: 2 }, []],
      [11, { a: 3 }, []],
    ],
    reference: [
      [10, { a: 1 }, []],
      [3, { a: 2 }, []],
      [0, { a: 3 }, []],
    ],
    counters: [12, 1],
  },
  {
    name: "a step given without commit is used natively and lost in the reference",
    calls: [{ metrics: { a: 1 }, step: 7, commit: false }, { metrics: { b: 2 } }],
    native: [[7, { a: 1, b: 2 }, []]],
    reference: [[0, { a: 1, b: 2 }, []]],
    counters: [8, 1],
  },
  {
    name: "the committing call's own step wins",
    calls: [
      { metrics: { a: 1 }, step: 7, commit: false },
      { metrics: { b: 2 }, step: 2 },
    ],
    native: [[2, { a: 1, b: 2 }, []]],
    reference: [[2, { a: 1, b: 2 }, []]],
    counters: [3, 0],
  },
  {
    name: "step 0 and negative steps count as given",
    calls: [{ metrics: { a: 1 }, step: 0 }, { metrics: { a: 2 }, step: -5 }, { metrics: { a: 3 } }],
    native: [
      [0, { a: 1 }, []],
      [-5, { a: 2 }, []],
      [1, { a: 3 }, []],
    ],
    reference: [
      [0, { a: 1 }, []],
      [-5, { a: 2 }, []],
      [0, { a: 3 }, []],
    ],
    counters: [2, 1],
  },
  {
    name: "a later value of a key wins, its place stays",
    calls: [{ metrics: { a: 1, b: 1 }, commit: false }, { metrics: { a: 2 } }],
    native: [[0, { a: 2, b: 1 }, []]],
    reference: [[0, { a: 2, b: 1 }, []]],
    counters: [1, 1],
  },
  {
    name: "metrics named like the reference record's own fields are lost there only",
    calls: [{ metrics: { step: 5, timestamp: 6, run_id: 7, a: 1 } }],
    native: [[0, { step: 5, timestamp: 6, run_id: 7, a: 1 }, []]],
    reference: [[0, { a: 1 }, []]],
    counters: [1, 1],
  },
  {
    name: "the counter stops at the largest exact integer",
    calls: [{ metrics: { a: 1 }, step: MAX_STEP }, { metrics: { a: 2 } }],
    native: [
      [MAX_STEP, { a: 1 }, []],
      [MAX_STEP, { a: 2 }, []],
    ],
    reference: [
      [MAX_STEP, { a: 1 }, []],
      [0, { a: 2 }, []],
    ],
    counters: [MAX_STEP, 1],
  },
];

for (const { name, calls, native, reference, counters } of cases)
  test(name, () => {
    expect(run("native", calls).records).toEqual(native);
    expect(run("reference", calls).records).toEqual(reference);
    expect([run("native", calls).state.counter, run("reference", calls).state.counter]).toEqual(counters);
  });

test("what nobody committed is one record at the end", () => {
  const { state } = run("native", [{ metrics: { a: 1 } }, { metrics: { b: 2 }, commit: false }]);
  expect(takeUncommitted(state, "native")).toEqual({ step: 1, x: [], metrics: { b: 2 } });
  expect(takeUncommitted(initialSteps, "native")).toBeUndefined();
});

test("a metric may be named __proto__", () => {
  const metrics = JSON.parse('{"__proto__": 1}') as Record<string, number>;
  const { record } = takeStep(initialSteps, { metrics }, "native");
  expect(JSON.stringify(record!.metrics)).toBe('{"__proto__":1}');
});
