import { BatchTemplate, requestHead, type Connection } from "./http-load.ts";
import type { Server } from "./server.ts";

/**
 * A small deterministic generator (mulberry32, two draws a number): the same data in every run of the benchmark, and all 53
 * bits of it noise. With one draw a third of each value would be zeros, and compress away.
 */
export function createRandom(seed: number): () => number {
  let state = seed;
  const draw = () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return (value ^ (value >>> 14)) >>> 0;
  };
  return () => ((draw() >>> 5) * 67_108_864 + (draw() >>> 6)) / 9_007_199_254_740_992;
}

/** Ten metrics as a training logs them: seven noisy float64, a float32, a schedule and a counter. */
export const TEN_KEYS = [
  "train/loss",
  "train/accuracy",
  "train/grad_norm",
  "val/loss",
  "val/accuracy",
  "perf/tokens",
  "perf/seconds",
  "loss32",
  "lr",
  "epoch",
];

export function trainingValue(random: () => number): (key: number, record: number) => number {
  return (key, record) => {
    if (key < 7) return random() * (key + 1);
    if (key === 7) return Math.fround(random());
    if (key === 8) return 0.001 * (1 - record / 1e6);
    return Math.floor(record / 100);
  };
}

export interface LoadResult {
  seconds: number;
  points: number;
  requests: number;
  /** ms, one a request. */
  latencies: number[];
  refused: number;
}

/** Sends batches over one connection until the time is over, at most `rate` points a second. */
export async function sendBatches(
  server: Server,
  {
    run,
    client,
    records,
    keys,
    seconds,
    rate = Infinity,
    seed = 1,
  }: {
    run: string;
    client: string;
    records: number;
    keys: string[];
    seconds: number;
    rate?: number;
    seed?: number;
  },
): Promise<LoadResult> {
  const connection = await server.connection();
  const template = new BatchTemplate(client, records, keys, trainingValue(createRandom(seed)));
  const head = requestHead("POST", `/api/v1/runs/${run}/records`, {
    ...server,
    length: template.body.length,
  });
  const result: LoadResult = { seconds: 0, points: 0, requests: 0, latencies: [], refused: 0 };
  const begun = performance.now();
  for (let seq = 1, step = 0; performance.now() - begun < seconds * 1000;) {
    const body = template.fill(seq, step, 1_700_000_000_000 + step);
    const sent = performance.now();
    const { status } = await connection.send(head, body);
    result.latencies.push(performance.now() - sent);
    result.requests++;
    if (status === 200) {
      result.points += template.points;
      seq++;
      step += records;
    } else {
      result.refused++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const ahead = result.points / rate - (performance.now() - begun) / 1000;
    if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead * 1000));
  }
  result.seconds = (performance.now() - begun) / 1000;
  connection.close();
  return result;
}

/** One-record requests (four metrics) over one connection until the time is over. */
export function sendSingles(
  server: Server,
  { run, client, seconds }: { run: string; client: string; seconds: number },
): Promise<LoadResult> {
  return sendBatches(server, { run, client, records: 1, keys: TEN_KEYS.slice(0, 4), seconds });
}

/** Fills one series of `points` points, value by value from `valueOf`. */
export async function fillSeries(
  server: Server,
  run: string,
  points: number,
  keys: string[],
  valueOf: (key: number, record: number) => number,
): Promise<void> {
  const connection: Connection = await server.connection();
  const records = Math.min(5_000, points);
  for (let seq = 1, at = 0; at < points; seq++, at += records) {
    const first = at;
    const template = new BatchTemplate("fill", records, keys, (key, record) => valueOf(key, first + record));
    const head = requestHead("POST", `/api/v1/runs/${run}/records`, {
      ...server,
      length: template.body.length,
    });
    const body = template.fill(seq, at, 1_700_000_000_000 + at);
    for (;;) {
      const { status, body: answer } = await connection.send(head, body);
      if (status === 200) break;
      if (status !== 429 && status !== 503) throw new Error(`fill: ${status} ${answer.toString()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  connection.close();
}
