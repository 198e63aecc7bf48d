import { MAX_STEP, type MetricValue } from "./schema.ts";

/**
 * What `log` makes of its arguments: which step a record gets, what `commit: false` gathers, which metrics are an x axis.
 *
 *                                      native                             reference (the fedml module)
 *   keys                               kept as given                      lower-cased, `/` becomes `-`
 *   explicit step s, committed         counter = max(counter, s + 1)      the counter stays where it is
 *   explicit step, not committed       taken by the committing call       forgotten: the committing call decides
 *                                      unless that brings its own
 *   x axes                             customizedStepKey                  that, and names such as epoch and round
 */
export type StepRules = "native" | "reference";

export interface LogCall {
  metrics: Record<string, MetricValue>;
  step?: number | undefined;
  customizedStepKey?: string | undefined;
  commit?: boolean | undefined;
}

/** A writer's place: its counter, and what was logged with `commit: false`. */
export interface StepState {
  counter: number;
  gathered: Gathered | undefined;
}

interface Gathered {
  metrics: Record<string, MetricValue>;
  x: string[];
  step: number | undefined;
}

export interface StepRecord {
  step: number;
  x: string[];
  metrics: Record<string, MetricValue>;
}

export const initialSteps: StepState = { counter: 0, gathered: undefined };

export function takeStep(
  state: StepState,
  call: LogCall,
  rules: StepRules,
): { state: StepState; record: StepRecord | undefined } {
  const gathered = gather(state.gathered, call, rules);
  if (call.commit === false) return { state: { ...state, gathered }, record: undefined };
  return commit(state.counter, gathered, rules);
}

/** The record of what nobody committed, for the end of the process; undefined where there is none. */
export function takeUncommitted(state: StepState, rules: StepRules): StepRecord | undefined {
  return state.gathered && commit(state.counter, state.gathered, rules).record;
}

function gather(before: Gathered | undefined, call: LogCall, rules: StepRules): Gathered {
  const metrics = emptyMetrics();
  if (before) Object.assign(metrics, before.metrics);
  const x = new Set(before?.x);
  const axis = call.customizedStepKey === undefined ? undefined : spell(call.customizedStepKey, rules);
  for (const [given, value] of Object.entries(call.metrics)) {
    const key = spell(given, rules);
    if (rules === "reference" && overwritten.has(key)) continue;
    metrics[key] = value;
    // An axis that is not among the metrics of its own call has no effect, and is not remembered either.
    if (key === axis || (rules === "reference" && RESERVED_AXES.has(key))) x.add(key);
  }
  const step = call.step ?? (rules === "native" ? before?.step : undefined);
  return { metrics, x: [...x], step };
}

function commit(
  counter: number,
  { metrics, x, step }: Gathered,
  rules: StepRules,
): { state: StepState; record: StepRecord } {
  const taken = step ?? counter;
  const moved = Math.min(taken + 1, MAX_STEP);
  const next = step === undefined ? moved : rules === "native" ? Math.max(counter, moved) : counter;
  return { state: { counter: next, gathered: undefined }, record: { step: taken, x, metrics } };
}

const spell = (key: string, rules: StepRules) =>
  rules === "native" ? key : key.toLowerCase().replaceAll("/", "-");

/** The record's own fields in the reference client: metrics of these names are lost there. */
const overwritten = new Set(["step", "timestamp", "run_id"]);

/** What the reference client takes for an axis wherever it is logged. */
export const RESERVED_AXES: ReadonlySet<string> = new Set([
  "index",
  "idx",
  "iteration",
  "iter",
  "round",
  "round_index",
  "round_idx",
  "round-index",
  "round-idx",
  "epoch",
]);

/** Without a prototype: a metric may be named `__proto__`. */
const emptyMetrics = () => Object.create(null) as Record<string, MetricValue>;
