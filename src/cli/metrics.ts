import type { Connection } from "../client/typescript/connection.ts";
import { request, requestJson } from "../client/typescript/http.ts";
import type { Buckets, MetricSummary, Points } from "../metric/schema.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag } from "./command.ts";
import { connect, currentRun, findRun, runPath } from "./connect.ts";
import { columns, print, printText, printJson } from "./output.ts";
import { sparkline } from "./sparkline.ts";
import { cell, localTime, shortValue } from "./text.ts";
import { wholeNumber } from "./values.ts";

export const command = defineCommand({
  name: "metrics",
  usage: "[KEY]",
  maxPositionals: 1,
  summary: "List a run's metrics, or print the points of one.",
  flags: {
    ...runFlag,
    x: { type: "string", value: "AXIS", help: "step (default), time, or another metric of the same records" },
    points: { type: "string", value: "N", help: "at most N points, spread over the whole series" },
    rank: { type: "string", value: "R", help: "the series of this rank (default: the lowest)" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["metrics -rid 483", "list the metrics of a run with their last, least and greatest value"],
    ["metrics -rid 483 loss", "draw one"],
    ["metrics -rid 483 loss --x epoch --json", "print every point as [x, y], in the order they came"],
  ],
  async run({ values, positionals }) {
    const [key] = positionals;
    const query = {
      x: values.x,
      rank: wholeNumber(values.rank, "--rank"),
      points: wholeNumber(values.points, "--points", 1),
    };
    const connection = connect(values);
    const { id } = await findRun(connection, values["run-id"] ?? currentRun(), "metrics");
    if (key === undefined) await listMetrics(connection, id, values.json);
    else if (!values.json) await drawMetric(connection, id, key, query);
    else if (query.points === undefined) await printEveryPoint(connection, id, key, query);
    else await printFewPoints(connection, id, key, query);
    return 0;
  },
});

type PointsQuery = { x: string | undefined; rank: number | undefined; points: number | undefined };

async function listMetrics(connection: Connection, run: string, json: boolean): Promise<void> {
  const { metrics } = await requestJson<{ metrics: MetricSummary[] }>(connection, runPath(run, "/metrics"));
  if (json)
    return printJson(metrics.map(({ name, count, last, min, max }) => ({ name, count, last, min, max })));
  if (metrics.length === 0) return print("This run has no metrics yet.\n");
  const rows = metrics.map(({ name, count, last, min, max, ranks }) => [
    name,
    String(count),
    cell(last),
    shortValue(min),
    shortValue(max),
    ranks.length > 1 ? `${ranks[0]}-${ranks.at(-1)}` : String(ranks[0] ?? 0),
  ]);
  return printText(columns([["NAME", "COUNT", "LAST", "MIN", "MAX", "RANK"], ...rows]));
}

/** Passes the points through as they come: ten million of them need not fit in memory twice. */
async function printEveryPoint(
  connection: Connection,
  run: string,
  key: string,
  query: PointsQuery,
): Promise<void> {
  const response = await request(connection, runPath(run, "/points"), {
    query: { key, ...query },
    timeout: 0,
  });
  const decoder = new TextDecoder();
  let head: string | undefined = "";
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    if (head === undefined) {
      await print(chunk);
      continue;
    }
    head += decoder.decode(chunk, { stream: true });
    // Quotes inside a metric's name are escaped, so this can only be the member itself.
    const at = head.indexOf(',"points":[');
    if (at < 0) continue;
    const { run: id, metric, x } = JSON.parse(`${head.slice(0, at)}}`) as Points;
    await print(JSON.stringify({ run: id, metric, x }).slice(0, -1) + head.slice(at) + decoder.decode());
    head = undefined;
  }
  await print("\n");
}

/** The last point of each bucket: points that were really logged. */
async function printFewPoints(
  connection: Connection,
  run: string,
  key: string,
  query: PointsQuery,
): Promise<void> {
  const buckets = await getBuckets(connection, run, key, query);
  const points = buckets.x1.map((x, index) => [x, buckets.last[index]]);
  await print(`${JSON.stringify({ run: buckets.run, metric: buckets.metric, x: buckets.x, points })}\n`);
}

const getBuckets = (connection: Connection, run: string, key: string, query: PointsQuery) =>
  requestJson<Buckets>(connection, runPath(run, "/points"), { query: { key, ...query } });

const ROWS = 10;

async function drawMetric(
  connection: Connection,
  run: string,
  key: string,
  query: PointsQuery,
): Promise<void> {
  const width = Math.min(100, (process.stdout.columns ?? 80) - 2);
  const buckets = await getBuckets(connection, run, key, { ...query, points: query.points ?? width });
  const showX = (x: unknown) => (buckets.x === "time" ? localTime(Number(x)) : shortValue(x));
  if (buckets.count === 0) return listTexts(connection, run, key, query, showX);
  await printText(`${key}: ${pointsOver(buckets.count, buckets.x)}`);
  await print(`${sparkline(buckets, width)}\n`);
  const every = Math.max(1, Math.ceil(buckets.x1.length / ROWS));
  const shown = buckets.x1
    .map((_, index) => index)
    .filter((index, _, all) => (all.length - 1 - index) % every === 0);
  const rows = shown.map((index) => [
    showX(buckets.x1[index]),
    cell(buckets.last[index]),
    shortValue(buckets.min[index]),
    shortValue(buckets.max[index]),
  ]);
  await printText(columns([[buckets.x.toUpperCase(), "LAST", "MIN", "MAX"], ...rows]));
}

/** Of what is no number there is nothing to draw: the last values. */
async function listTexts(
  connection: Connection,
  run: string,
  key: string,
  { x, rank }: PointsQuery,
  showX: (x: unknown) => string,
): Promise<void> {
  const found = await requestJson<Points>(connection, runPath(run, "/points"), { query: { key, x, rank } });
  await printText(`${key}: ${pointsOver(found.points.length, found.x)}`);
  if (found.points.length === 0) return;
  const rows = found.points.slice(-ROWS).map(([at, value]) => [showX(at), cell(value)]);
  await printText(columns([[found.x.toUpperCase(), "VALUE"], ...rows]));
}

const pointsOver = (count: number, x: string) => `${count} ${count === 1 ? "point" : "points"} over ${x}\n`;
