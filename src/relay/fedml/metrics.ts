import type { MetricBatch } from "../../metric/batch.ts";
import { RESERVED_AXES } from "../../metric/step.ts";
import { writeJson, writeNumber } from "./json.ts";
import type { Message } from "./message.ts";

/**
 * Where a platform takes records in. Clients publish them for their master agent, who publishes them here; nobody does that for our
 * runs.
 */
export const METRICS_TOPIC = "fl_server/mlops/training_progress_and_eval";

/** Of a record's fields those that are no metrics: a metric of that name would be lost. */
const FIXED = new Set([
  "run_id",
  "is_endpoint",
  "is_retain",
  "x_axis_keys",
  "y_axis_keys",
  "timestamp",
  "step",
]);
/** A metric's name there. Records say nothing of ranks: without one in the name they would be one series. */
export function metricName(key: string, rank: number): string {
  const name = key.toLowerCase().replaceAll("/", "-") + (rank === 0 ? "" : `-rank-${rank}`);
  return FIXED.has(name) ? `${name}-value` : name;
}

interface Column {
  name: string;
  index: Uint32Array | null;
  value: (at: number) => string;
  /** Next of its values. */
  at: number;
}

/** A message for each record; more where several of its metrics have the same name there. */
export function* metricMessages(run: string, batch: MetricBatch): Generator<Message> {
  const { count, rank, step, time, ordinal } = batch;
  const columns: Column[] = [
    ...batch.numbers.map(({ key, index, values }) => ({
      name: metricName(key, rank),
      index,
      value: (at: number) => writeNumber(values[at]!),
      at: 0,
    })),
    ...batch.texts.map(({ key, index, json }) => ({
      name: metricName(key, rank),
      index,
      value: (at: number) => json[at]!,
      at: 0,
    })),
  ];
  const axes = batch.axes.map(({ keys, index }) => ({
    names: new Set(keys.map((key) => metricName(key, rank))),
    index,
    at: 0,
  }));
  const tail = `"run_id": ${JSON.stringify(run)}, "is_endpoint": false}`;

  for (let record = 0; record < count; record++) {
    const parts = partsOf(columns.filter((column) => isAt(column, record)));
    const chosen = axes.filter((axis) => isAt(axis, record)).map(({ names }) => names);
    // It is in another batch.
    if (Number.isNaN(step[record]!)) continue;
    const at = `"step": ${writeNumber(step[record]!)}, "timestamp": ${timeOf(time[record]!, ordinal + record)}`;
    for (const part of parts) {
      const isAxis = (name: string) => RESERVED_AXES.has(name) || chosen.some((names) => names.has(name));
      const names = [...part.keys()];
      const x = writeJson(["step", "timestamp", ...names.filter(isAxis)]);
      const y = writeJson(names.filter((name) => !isAxis(name)));
      const values = [...part].map(([name, value]) => `${JSON.stringify(name)}: ${value}, `).join("");
      yield {
        topic: METRICS_TOPIC,
        payload: `{"x_axis_keys": ${x}, "y_axis_keys": ${y}, ${values}${at}, ${tail}`,
      };
    }
  }
}

/** Goes on with the column where it has this record. */
function isAt(column: { index: Uint32Array | null; at: number }, record: number): boolean {
  if (column.index && column.index[column.at] !== record) return false;
  column.at++;
  return true;
}

/** Of one record: what has the same name there is told one after another. At least one, as an empty record is one, too. */
function partsOf(columns: readonly Column[]): Map<string, string>[] {
  const parts: Map<string, string>[] = [new Map()];
  for (const { name, value, at } of columns) {
    let part = parts.find((one) => !one.has(name));
    if (!part) parts.push((part = new Map()));
    part.set(name, value(at - 1));
  }
  return parts;
}

/** ms with a fraction, as the client has it: records of one ms are told apart by it, after a restart as before. */
const timeOf = (ms: number, order: number): string =>
  Number.isInteger(ms) ? `${ms}.${String(order % 1000).padStart(3, "0")}` : writeNumber(ms);
