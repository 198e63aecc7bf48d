import { expect, test } from "bun:test";
import { createIngest } from "../src/fedml/broker-ingest.ts";
import { createCounts } from "../src/fedml/counts.ts";
import { createKeys } from "../src/fedml/keys.ts";
import { metricTopics } from "../src/fedml/metrics.ts";
import { statusTopics } from "../src/fedml/status.ts";
import { createWriter } from "../src/fedml/writer.ts";
import { restoreRuns, reviewRuns } from "../src/run/watch.ts";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const RUN = "123456789012345";
const HOUR = 3600_000;

test("an edge is alive as long as data of its run comes, over a restart of ours, and a day longer", async () => {
  let now = 1_795_478_344_338;
  let t = createTestCollector({ now: () => now });
  let ingest = ingestOf(t);
  const say = (topic: string, fields: object) =>
    ingest({ topic, payload: JSON.stringify({ run_id: "0", ...fields }) }, { run: RUN }, "c");
  const status = async () => (await t.json(`/api/v1/runs/${RUN}`)).status;
  const goOn = async (hours: number) => {
    for (let hour = 0; hour < hours; hour++) {
      now += HOUR;
      await say("fl_server/mlops/training_progress_and_eval", { acc: hour, timestamp: now });
      await reviewRuns(t.collector);
      expect(await status()).toBe("RUNNING");
    }
  };
  try {
    await say("fl_client/mlops/status", { edge_id: 3, status: "TRAINING" });
    await goOn(30);
    t = await t.restart();
    await restoreRuns(t.collector);
    ingest = ingestOf(t);
    await goOn(30);
    now += 23 * HOUR;
    await reviewRuns(t.collector);
    expect(await status()).toBe("RUNNING");
    now += HOUR;
    await reviewRuns(t.collector);
    expect(await status()).toBe("FAILED");
  } finally {
    await t.close();
  }
});

function ingestOf({ collector, trust, unforeseen }: TestCollector) {
  const counts = createCounts();
  const context = {
    collector,
    counts,
    writer: createWriter(collector),
    keys: createKeys(() => trust.tokens),
  };
  return createIngest({
    topics: [...metricTopics(context), ...statusTopics(context)],
    counts,
    now: collector.now,
    onDiagnostic: (text) => unforeseen.push(new Error(text)),
  });
}
