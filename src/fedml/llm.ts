import type { MetricRecord, MetricValue } from "../metric/schema.ts";
import { isMetricName } from "./metrics.ts";
import { readPayload, readTime, toJson } from "./payload.ts";
import { placeRun } from "./place.ts";
import { isStored } from "./stored.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

/** Of `log_llm_record`: what stands in a model's records is kept beside the metrics, under names of its own. */
export const LLM_PREFIX = "llm/";

export function llmTopics({ collector, writer, counts }: FedmlContext): FedmlTopic[] {
  return [
    {
      filter: "model_serving/mlops/llm_input_output_record",
      async receive({ scope, payload, again }) {
        const { run_id, timestamp, ...fields } = readPayload(payload);
        const run = await placeRun(collector, scope, run_id);
        const metrics: Record<string, MetricValue> = {};
        for (const [key, value] of Object.entries(fields)) {
          if (key === "is_retain") continue;
          if (isMetricName(LLM_PREFIX + key)) metrics[LLM_PREFIX + key] = toJson(value) as MetricValue;
          else counts.add("malformed");
        }
        const record: MetricRecord = { metrics };
        const time = readTime(timestamp);
        if (time !== undefined) record.time = time;
        if (again && (await isStored(collector, run, record))) return counts.add("replayed");
        await writer.records(run, [record]);
      },
    },
  ];
}
