import type { Collector } from "../collector.ts";
import { toRun } from "../run/change.ts";
import { findRow } from "../run/find.ts";
import { listRuns } from "../run/list.ts";
import type { Run } from "../run/schema.ts";
import type { Tokens } from "../token.ts";
import { readerOf, requireReader, sees, type Readers } from "./api-key.ts";
import type { FedmlCounts } from "./counts.ts";
import { answer, readCall, type FedmlCall, type FedmlHandler } from "./request.ts";

/** As many as the dashboard's list has on its longest page. */
const MAX_RUNS = 1000;

/** cli/heartBeat: whether a key is one, which the client asks before everything else. JSON's true, and nothing like it. */
export const heartBeat =
  (tokens: () => Tokens, counts: FedmlCounts): FedmlHandler =>
  async (call) => {
    const isKey = readerOf(tokens(), (await readCall(call))["apiKey"]) !== undefined;
    if (isKey) return answer(true);
    counts.add("bad-key");
    const message = "The API key is no token of this collector: `binnacle token` prints one.";
    return new Response(JSON.stringify({ code: "FAILURE", message, data: false }), {
      headers: { "content-type": "application/json" },
    });
  };

/** platform/queryJobList: `fedml run list` and `fedml run status`. */
export const runList =
  (collector: Collector, tokens: () => Tokens): FedmlHandler =>
  async (call) => {
    const { userApiKey, jobId, jobName, projectName } = await readCall(call);
    const access = requireReader(tokens(), userApiKey);
    const runs = await find(collector, access, textOf(jobId), textOf(jobName), textOf(projectName));
    // With an empty list the client's `status` breaks.
    return answer({ jobList: runs.length === 0 ? null : runs.map((run) => jobOf(collector, call, run)) });
  };

/** An id is exact. A name, too, where a run has it; else runs whose name holds it. */
async function find(
  collector: Collector,
  access: Readers,
  id: string,
  name: string,
  project: string,
): Promise<Run[]> {
  const only = access.scope === "run" ? access.run : id;
  if (id !== "" && !sees(access, id)) return [];
  if (only !== "") {
    const row = await findRow(collector, only);
    return row && !row.deleted ? [toRun(collector, row)] : [];
  }
  const { runs } = await listRuns(collector, {
    sort: "created",
    limit: MAX_RUNS,
    ...(name !== "" && { search: name.slice(0, 250) }),
    ...(project !== "" && { project: project.slice(0, 250) }),
  });
  if (name === "") return runs;
  const exact = runs.filter((run) => run.name === name);
  return exact.length > 0 ? exact : runs.filter((run) => run.name.toLowerCase().includes(name.toLowerCase()));
}

/** Our statuses are words of FedML's. What we do not know, such as what it cost, is null: 0 would be a lie. */
function jobOf(
  { now }: Collector,
  call: FedmlCall,
  { id, name, status, created, started, finished }: Run,
): object {
  const begun = Date.parse(started ?? created);
  const ended = finished === null ? now() : Date.parse(finished);
  return {
    id,
    name,
    status,
    createTime: seconds(created),
    endTime: finished === null ? null : seconds(finished),
    spendTime: Math.max(0, ended - begun),
    cost: null,
    jobUrl: pageOf(call, id),
    gpuMachines: [],
  };
}

/** The run's page, for a person. */
export const pageOf = ({ base }: FedmlCall, run: string): string => `${new URL(base).origin}/runs/${run}`;

/** The client reads no fraction. */
const seconds = (rfc3339: string) => `${rfc3339.slice(0, 19)}Z`;

/** Ids come as numbers, too. */
export const textOf = (value: unknown): string =>
  typeof value === "string" ? value.trim() : Number.isSafeInteger(value) ? String(value) : "";
