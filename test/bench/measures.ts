/** Every figure of the table: how it is taken, what it is held against. Each starts from an empty data folder. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { requestHead } from "./http-load.ts";
import { createRandom, fillSeries, sendBatches, sendSingles, TEN_KEYS, type LoadResult } from "./load.ts";
import { measureRowStore } from "./row-store.ts";
import { startServer, until, type Server } from "./server.ts";
import { cpuSeconds, median, memoryMiB, quantile } from "./statistics.ts";

export interface Options {
  /** Seconds of load in one repetition. */
  seconds: number;
  repetitions: number;
  /** Points of the long series of the chart measures. */
  million: number;
  /** Others' programs are measured, too. */
  peers: boolean;
}

/** Figures of one repetition, by name; the table shows the median over repetitions. */
export type Figures = Record<string, number>;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function withServer<T>(use: (server: Server) => Promise<T>): Promise<T> {
  const server = await startServer();
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

function total(results: LoadResult[]): { rate: number; latencies: number[]; requests: number } {
  const seconds = Math.max(...results.map((result) => result.seconds));
  return {
    rate: results.reduce((sum, result) => sum + result.points, 0) / seconds,
    requests: results.reduce((sum, result) => sum + result.requests, 0) / seconds,
    latencies: results.flatMap((result) => result.latencies),
  };
}

/** Acknowledged ingest: four connections, batches of 1,000 records × 10 metrics, into four runs. */
export async function ingest({ seconds }: Options): Promise<Figures> {
  const ours = await withServer(async (server) => {
    const load = (length: number, client: string) =>
      Promise.all(
        Array.from({ length: 4 }, (_, index) =>
          sendBatches(server, {
            run: `ingest-${index}`,
            client,
            records: 1000,
            keys: TEN_KEYS,
            seconds: length,
            seed: index,
          }),
        ),
      );
    for (let index = 0; index < 4; index++) await server.createRun(`ingest-${index}`);
    await load(1, "warm-up");
    const result = total(await load(seconds, "load"));
    return { ...result, memory: memoryMiB(server.pid).peak };
  });
  const rows = measureRowStore(seconds);
  return {
    points: ours.rate,
    rowStore: rows,
    p99: quantile(ours.latencies, 0.99),
    memory: ours.memory,
  };
}

/** Requests of one record on 64 connections, with 200,000 points/s of batches beside them. */
export async function requests({ seconds }: Options): Promise<Figures> {
  return withServer(async (server) => {
    await server.createRun("single");
    await server.createRun("batches");
    await sendSingles(server, { run: "single", client: "warm-up", seconds: 1 });
    const beside = sendBatches(server, {
      run: "batches",
      client: "beside",
      records: 1000,
      keys: TEN_KEYS,
      seconds,
      rate: 200_000,
    });
    const singles = total(
      await Promise.all(
        Array.from({ length: 64 }, (_, index) =>
          sendSingles(server, { run: "single", client: `c${index}`, seconds }),
        ),
      ),
    );
    await beside;
    return {
      requests: singles.requests,
      p50: quantile(singles.latencies, 0.5),
      p99: quantile(singles.latencies, 0.99),
    };
  });
}

/** A chart of 1,000 buckets over the whole of a long series, over HTTP, while 200,000 points/s arrive beside it. */
export async function chart({ million }: Options): Promise<Figures> {
  return withServer(async (server) => {
    const figures: Figures = {};
    for (const [name, points] of [
      ["one", million],
      ["ten", 10 * million],
    ] as const) {
      await server.createRun(name);
      const random = createRandom(points);
      const spike = Math.floor(points * 0.377);
      await fillSeries(server, name, points, ["loss"], (_, at) => (at === spike ? 1e6 : random()));
      await sleep(1000);
      await server.createRun(`beside-${name}`);
      const beside = sendBatches(server, {
        run: `beside-${name}`,
        client: "beside",
        records: 1000,
        keys: TEN_KEYS,
        seconds: 4,
        rate: 200_000,
      });
      const connection = await server.connection();
      const head = requestHead("GET", `/api/v1/runs/${name}/points?key=loss&points=1000`, server);
      const latencies: number[] = [];
      let reply = await connection.send(head, undefined);
      for (let index = 0; index < 40; index++) {
        const begun = performance.now();
        reply = await connection.send(head, undefined);
        latencies.push(performance.now() - begun);
        await sleep(50);
      }
      connection.close();
      await beside;
      const buckets = JSON.parse(reply.body.toString()) as { count: number; max: number[]; n: number[] };
      if (buckets.count !== points || buckets.n.reduce((a, b) => a + b, 0) !== points)
        throw new Error(`the chart of ${points} points counts ${buckets.count}`);
      if (Math.max(...buckets.max) !== 1e6) throw new Error("the chart lost the spike");
      figures[`${name}P50`] = median(latencies);
      figures[`${name}P95`] = quantile(latencies, 0.95);
      figures[`${name}Bytes`] = reply.body.length;
    }
    return figures;
  });
}

/** 50 runs × 5 metrics × 2,000 points in one answer. */
export async function overlay(_: Options): Promise<Figures> {
  return withServer(async (server) => {
    const keys = ["a", "b", "c", "d", "e"];
    const runs = Array.from({ length: 50 }, (_, index) => `overlay-${index}`);
    for (const [index, run] of runs.entries()) {
      await server.createRun(run);
      const random = createRandom(index);
      await fillSeries(
        server,
        run,
        2000,
        keys,
        (key, at) => Math.exp(-at / 500) * (key + 1) + 0.05 * random(),
      );
    }
    const query = [
      ...runs.map((run) => `run=${run}`),
      ...keys.map((key) => `key=${key}`),
      "points=2000",
    ].join("&");
    const connection = await server.connection();
    const head = requestHead("GET", `/api/v1/overlay?${query}`, { ...server, accept: "zstd" });
    const latencies: number[] = [];
    let size = 0;
    for (let index = 0; index < 20; index++) {
      const begun = performance.now();
      const reply = await connection.send(head, undefined);
      latencies.push(performance.now() - begun);
      if (reply.status !== 200)
        throw new Error(`overlay: ${reply.status} ${reply.body.toString().slice(0, 300)}`);
      size = reply.body.length;
    }
    connection.close();
    return { p50: median(latencies), bytes: size };
  });
}

/** Bytes a point in the file once everything is sealed and the process has ended. */
export async function bytes({ million }: Options): Promise<Figures> {
  const figures: Figures = {};
  const gauge = (_: number, at: number) => 40 + (Math.floor(at / 7) % 13);
  const cases = { noisy: (random: () => number) => () => random(), gauge: () => gauge };
  for (const [name, valueOf] of Object.entries(cases)) {
    const server = await startServer();
    await server.createRun(name);
    await fillSeries(server, name, million, ["value"], valueOf(createRandom(7)));
    await until(
      async () => {
        const size = folderBytes(server.dataDir, /\.db-wal$/);
        await sleep(2000);
        if (folderBytes(server.dataDir, /\.db-wal$/) !== size) throw new Error("still writing");
      },
      { timeout: 60_000 },
    );
    await server.stop({ keep: true });
    figures[name] = folderBytes(server.dataDir, /\.db(-wal)?$/) / million;
  }
  return figures;
}

function folderBytes(folder: string, pattern: RegExp): number {
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** Memory while 1 M points/s arrive steadily; memory and processor of a collector that has nothing to do. */
export async function memory({ seconds }: Options): Promise<Figures> {
  return withServer(async (server) => {
    await sleep(3000);
    const idleFrom = cpuSeconds(server.pid);
    await sleep(10_000);
    const idleCpu = (cpuSeconds(server.pid) - idleFrom) / 10;
    const idleMemory = memoryMiB(server.pid).now;
    for (let index = 0; index < 4; index++) await server.createRun(`steady-${index}`);
    const results = await Promise.all(
      Array.from({ length: 4 }, (_, index) =>
        sendBatches(server, {
          run: `steady-${index}`,
          client: "steady",
          records: 1000,
          keys: TEN_KEYS,
          seconds: Math.max(10, seconds * 2),
          rate: 250_000,
          seed: index,
        }),
      ),
    );
    return {
      idleMemory,
      idleCpu: idleCpu * 100,
      rate: total(results).rate,
      peak: memoryMiB(server.pid).peak,
    };
  });
}

/** From starting the process until it answers, on an empty folder. */
export async function startup(_: Options): Promise<Figures> {
  return withServer(async (server) => ({ empty: server.startedIn }));
}
