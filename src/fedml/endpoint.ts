import type { MetricRecord } from "../metric/schema.ts";
import { readPayload, readText, readTime } from "./payload.ts";
import { placeRun } from "./place.ts";
import { isStored } from "./stored.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

/** How an endpoint is, as text beside its metrics. */
const STATUS_METRIC = "endpoint/status";
const MAX_STATUS = 200;

/** Of `log_endpoint_status`. An endpoint's id stands where a run's would. */
export function endpointTopics({ collector, writer, counts }: FedmlContext): FedmlTopic[] {
  return [
    "model_ops/model_device/return_deployment_status",
    "model_ops/model_device/return_deployment_status/+",
  ].map((filter): FedmlTopic => ({
    filter,
    async receive({ scope, payload, match, again }) {
      const fields = readPayload(payload);
      const status = readText(fields.model_status ?? fields.status, MAX_STATUS);
      if (status === undefined) return counts.add("malformed");
      const run = await placeRun(collector, scope, fields.end_point_id ?? fields.run_id ?? match[0]);
      const record: MetricRecord = { metrics: { [STATUS_METRIC]: status } };
      const time = readTime(fields.timestamp);
      if (time !== undefined) record.time = time;
      if (again && (await isStored(collector, run, record))) return counts.add("replayed");
      await writer.records(run, [record]);
    },
  }));
}
