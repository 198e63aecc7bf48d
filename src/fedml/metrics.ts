import { createHash } from "node:crypto";
import { keyProblem, MAX_AXES } from "../metric/parse.ts";
import { MAX_STEP, type MetricRecord, type MetricValue } from "../metric/schema.ts";
import { isStored } from "./stored.ts";
import { readPayload, readTime, toJson, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import type { FedmlContext, FedmlMessage, FedmlTopic } from "./topic.ts";

/** Of a record's fields those that are no metrics. */
const FIXED = new Set([
  "run_id",
  "is_endpoint",
  "is_retain",
  "x_axis_keys",
  "y_axis_keys",
  "timestamp",
  "step",
]);
/** Records whose repetition is recognised: an agent publishes each a second time, moments later. */
const MAX_RECENT = 10_000;

/**
 * What `fedml.log` and its kin publish. Newer clients to the first topic, from where FedML's agents copy it to the second; older
 * ones straight to the second, the oldest without axes and step. Endpoints have one of their own.
 */
export function metricTopics({ collector, writer, counts }: FedmlContext): FedmlTopic[] {
  // Two generations: taking the oldest out of one map costs more the more were taken out before.
  let recent = new Map<string, Promise<void>>();
  let older = recent;

  /** The same record from both topics is one; with another content it is another, whatever its time and step. */
  function once(run: string, record: MetricRecord, store: () => Promise<void>): Promise<void> {
    if (record.time === undefined) return store();
    const id = idOf(run, record);
    const known = recent.get(id) ?? older.get(id);
    if (known) {
      counts.add("replayed");
      return known;
    }
    if (recent.size >= MAX_RECENT) {
      older = recent;
      recent = new Map();
    }
    const stored = store();
    const generation = recent;
    generation.set(id, stored);
    stored.catch(() => generation.delete(id));
    return stored;
  }

  async function receive({ scope, match, payload, again }: FedmlMessage): Promise<void> {
    const fields = readPayload(payload);
    const run = await placeRun(collector, scope, fields.run_id ?? match[0]);
    const { record, dropped } = readRecord(fields);
    if (dropped > 0) counts.add("malformed", dropped);
    await once(run, record, async () => {
      if (again && (await isStored(collector, run, record))) return counts.add("replayed");
      await writer.records(run, [record]);
    });
  }

  return [
    { filter: "fedml_slave/fedml_master/metrics/+", receive },
    { filter: "fl_server/mlops/training_progress_and_eval", receive },
    { filter: "fl_server/mlops/deploy_progress_and_eval", receive },
  ];
}

/** The record as ours; `dropped` counts values whose names are none. */
export function readRecord(fields: Payload): { record: MetricRecord; dropped: number } {
  const metrics: Record<string, MetricValue> = {};
  let dropped = 0;
  for (const key in fields) {
    if (FIXED.has(key)) continue;
    if (isMetricName(key)) metrics[key] = toJson(fields[key]) as MetricValue;
    else dropped++;
  }
  const record: MetricRecord = { metrics };
  const { step } = fields;
  if (typeof step === "number" && Math.abs(step) <= MAX_STEP) record.step = step;
  const time = readTime(fields.timestamp);
  if (time !== undefined) record.time = time;
  const x = readAxes(fields).filter((key) => Object.hasOwn(metrics, key));
  if (x.length > 0) record.x = x.slice(0, MAX_AXES);
  return { record, dropped };
}

/** Axes besides step and time. The oldest clients name none, and count rounds. */
function readAxes({ x_axis_keys: keys, round_idx }: Payload): string[] {
  if (Array.isArray(keys))
    return keys.filter((key): key is string => typeof key === "string" && !FIXED.has(key));
  return round_idx === undefined ? [] : ["round_idx"];
}

/** As a metric may be called; `__proto__` would be lost on its way. */
export const isMetricName = (key: string): boolean => key !== "__proto__" && keyProblem(key) === undefined;

function idOf(run: string, { time, step, metrics }: MetricRecord): string {
  const content = JSON.stringify(metrics);
  const short = content.length <= 100 ? content : createHash("sha1").update(content).digest("base64");
  return `${run} ${time} ${step} ${short}`;
}
