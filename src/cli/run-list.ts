import { requestJson } from "../client/typescript/http.ts";
import type { Run } from "../run/schema.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { connectionFlags, defineCommand, jsonFlag, sourceFlag } from "./command.ts";
import { columns, print, printText } from "./output.ts";
import { duration, localTime } from "./text.ts";
import { printRunTable } from "./fedml-output.ts";
import { wholeNumber } from "./values.ts";

export const command = defineCommand({
  name: "run list",
  summary: "List runs, newest first.",
  flags: {
    status: { type: "string", value: "STATUS", help: "only these, such as RUNNING or FAILED" },
    project: { type: "string", short: "p", value: "NAME", help: "only runs of this project" },
    search: {
      type: "string",
      aliases: ["run_name", "rn"],
      short: "r",
      value: "TEXT",
      help: "only runs whose name or id has this in it",
    },
    ...sourceFlag,
    device: { type: "string", value: "DEVICE", help: "only runs of this machine, by its id or host name" },
    limit: { type: "string", short: "n", value: "N", help: "at most N runs" },
    "run-id": { type: "string", aliases: ["rid", "run_id"], value: "ID", help: "only the run with this id" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["run list --status RUNNING", "show what is running now"],
    ["run list --json | jq -r '.[0].id'", "print the id of the newest run"],
  ],
  async run({ values, program }) {
    const connection = connect(values);
    const limit = wholeNumber(values.limit, "--limit", 1);
    const runs = listRuns(connection, {
      status: values.status?.toUpperCase(),
      project: values.project,
      source: values.source,
      device: values.device,
      search: values.search ?? values["run-id"],
    });
    const taken = take(filter(runs, values["run-id"]), limit);
    if (values.json) await printJsonArray(taken);
    else if (program === "fedml") await printRunTable(await collect(taken));
    else await printTable(taken);
    return 0;
  },
});

interface Page {
  runs: Run[];
  next: string | null;
}

/** Every matching run, page by page, so that a listing of any length is streamed. */
export async function* listRuns(
  connection: Parameters<typeof requestJson>[0],
  query: Partial<Record<"status" | "project" | "source" | "device" | "search", string | undefined>>,
): AsyncGenerator<Run> {
  let after: string | undefined;
  do {
    const page: Page = await requestJson(connection, "/api/v1/runs", {
      query: { ...query, limit: 200, after },
      timeout: ANSWER_WITHIN_MS,
    });
    yield* page.runs;
    after = page.next ?? undefined;
  } while (after !== undefined);
}

async function* filter(runs: AsyncIterable<Run>, prefix: string | undefined): AsyncGenerator<Run> {
  for await (const run of runs) if (!prefix || run.id.startsWith(prefix)) yield run;
}

async function* take<T>(items: AsyncIterable<T>, limit: number | undefined): AsyncGenerator<T> {
  let taken = 0;
  for await (const item of items) {
    yield item;
    if (++taken === limit) return;
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function printJsonArray(runs: AsyncIterable<Run>): Promise<void> {
  let separator = "[\n";
  for await (const run of runs) {
    await print(`${separator}  ${JSON.stringify(publicRun(run))}`);
    separator = ",\n";
  }
  await print(separator === "[\n" ? "[]\n" : "\n]\n");
}

/** The documented fields and no others: what the server adds later must not leak into scripts by accident. */
function publicRun(run: Run): Run {
  const { id, name, project, status, reason, created, started, finished, device, exit_code } = run;
  const { source, deleted_at_source } = run;
  const times = { created, started, finished };
  return { id, name, project, status, reason, ...times, device, exit_code, source, deleted_at_source };
}

/** Columns need widths, and widths need rows: so many at a time. */
const ROWS_AT_ONCE = 200;

async function printTable(runs: AsyncIterable<Run>): Promise<void> {
  let waiting: Run[] = [];
  let withSource: boolean | undefined;
  async function flush(): Promise<void> {
    const isFirst = withSource === undefined;
    withSource ??= waiting.some(({ source }) => source !== null);
    const header = ["ID", "NAME", "PROJECT", "STATUS", "STARTED", "TOOK", "DEVICE"];
    const rows = waiting.map((run) => [...rowOf(run), ...(withSource ? [run.source ?? "-"] : [])]);
    await printText(columns(isFirst ? [[...header, ...(withSource ? ["SOURCE"] : [])], ...rows] : rows));
    waiting = [];
  }
  for await (const run of runs) if (waiting.push(run) === ROWS_AT_ONCE) await flush();
  if (waiting.length > 0) await flush();
  if (withSource === undefined) await print("No runs. Start one with `binnacle launch -- COMMAND`.\n");
}

function rowOf({ id, name, project, status, created, started, finished, device }: Run): string[] {
  return [
    id,
    name,
    project,
    status,
    localTime(started ?? created),
    duration(started, finished),
    device ?? "-",
  ];
}
