import type { Collector } from "../collector.ts";
import { stopRun } from "../run/stop.ts";
import type { Tokens } from "../token.ts";
import { requireSteering } from "./api-key.ts";
import { answer, readCall, type FedmlHandler } from "./request.ts";
import { textOf } from "./run-list.ts";

/** application/stopApplicationFromCli. Every 200 is a success to the client, whatever it says: what fails has another status. */
export const runStop =
  (collector: Collector, tokens: () => Tokens): FedmlHandler =>
  async (call) => {
    const { apiKey, jobId } = await readCall(call);
    requireSteering(tokens(), apiKey);
    const { id, status } = await stopRun(collector, textOf(jobId), {
      force: false,
      reason: "Stopped by `fedml run stop`.",
    });
    return answer({ id, status });
  };
