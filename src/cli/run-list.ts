import { requestJson } from "../client/typescript/http.ts";
import type { Run } from "../run/schema.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
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
  query: { status?: string | undefined; project?: string | undefined; search?: string | undefined },
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
  return { id, name, project, status, reason, created, started, finished, device, exit_code };
}

/** Columns need widths, and widths need rows: so many at a time. */
const ROWS_AT_ONCE = 200;

async function printTable(runs: AsyncIterable<Run>): Promise<void> {
  const header = ["ID", "NAME", "PROJECT", "STATUS", "STARTED", "TOOK", "DEVICE"];
  let rows: string[][] = [header];
  let some = false;
  for await (const run of runs) {
    some = true;
    rows.push(rowOf(run));
    if (rows.length > ROWS_AT_ONCE) {
      await printText(columns(rows));
      rows = [];
    }
  }
  if (!some) return print("No runs. Start one with `binnacle launch -- COMMAND`.\n");
  await printText(columns(rows));
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
