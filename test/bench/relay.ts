/** What relaying takes: while records come, after the platform was away, by history, and for a record that is alone. */
import { countingProxy } from "./files.ts";
import { requestHead } from "./http-load.ts";
import type { Figures, Options } from "./measures.ts";
import {
  createWalk,
  createWriter,
  createWriters,
  KEYS,
  pointsOf,
  startPair,
  write,
  type Pair,
  type Writer,
} from "./relay-pair.ts";
import { cpuSeconds, median, memoryMiB, quantile } from "./statistics.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function withPair<T>(use: (pair: Pair) => Promise<T>): Promise<T> {
  const pair = await startPair();
  try {
    return await use(pair);
  } finally {
    await pair.close();
  }
}

/** Points a second of each connection. */
const FILL_RATE = 250_000;

const since = (begun: number) => (performance.now() - begun) / 1000;

async function checkAll(pair: Pair, writers: readonly Writer[]): Promise<void> {
  for (const { run, taken, records } of writers) await pair.check(run, taken * records);
}

/** From the first request to the collector until the last of its points is stored at the platform. */
export async function relay({ seconds }: Options): Promise<Figures> {
  return withPair(async (pair) => {
    const { collector, platform } = pair;
    await pair.relay();
    const warm = await createWriters(collector, "warm-up");
    await Promise.all(warm.map((writer) => write(collector, writer, { seconds: 1 })));
    await pair.drained();
    const writers = await createWriters(collector, "load");
    const before = [collector, platform].map(({ pid }) => cpuSeconds(pid));
    const begun = performance.now();
    await Promise.all(writers.map((writer) => write(collector, writer, { seconds })));
    const wrote = since(begun);
    await pair.drained();
    const arrived = since(begun);
    const points = pointsOf(writers);
    const cpu = [collector, platform].map(({ pid }, index) => cpuSeconds(pid) - before[index]!);
    await checkAll(pair, writers);
    return {
      rate: points / arrived,
      ingest: points / wrote,
      lag: arrived - wrote,
      collectorPeak: memoryMiB(collector.pid).peak,
      platformPeak: memoryMiB(platform.pid).peak,
      collectorCpu: (cpu[0]! / points) * 1e6,
      platformCpu: (cpu[1]! / points) * 1e6,
    };
  });
}

/** As fast as memory is bounded for: that of the drain is what is asked here. */
async function fill(pair: Pair, points: number): Promise<Writer[]> {
  const writers = await createWriters(pair.collector, "backlog");
  const each = points / writers.length / KEYS.length / writers[0]!.records;
  await Promise.all(
    writers.map((writer) => write(pair.collector, writer, { batches: each, rate: FILL_RATE })),
  );
  return writers;
}

/** From `begin` on until all is there. */
async function drain(
  pair: Pair,
  writers: readonly Writer[],
  { ofHistory, begin }: { ofHistory: boolean; begin: () => Promise<void> },
): Promise<Figures> {
  const { collector } = pair;
  const filled = memoryMiB(collector.pid).peak;
  const before = cpuSeconds(collector.pid);
  const begun = performance.now();
  await begin();
  const { byHistory } = await pair.drained();
  const took = since(begun);
  const { platform } = pair;
  await checkAll(pair, writers);
  if (byHistory !== ofHistory) throw new Error(ofHistory ? "it came entry by entry" : "it came by history");
  const points = pointsOf(writers);
  return {
    rate: points / took,
    filled,
    collectorPeak: memoryMiB(collector.pid).peak,
    platformPeak: memoryMiB(platform.pid).peak,
    collectorCpu: ((cpuSeconds(collector.pid) - before) / points) * 1e6,
    platformCpu: (cpuSeconds(platform.pid) / points) * 1e6,
  };
}

/** What came while the platform was away, entry by entry. */
export async function backlog({ million }: Options): Promise<Figures> {
  return withPair(async (pair) => {
    await pair.relay();
    await pair.drained();
    await pair.stopPlatform();
    const writers = await fill(pair, 10 * million);
    const begin = async () => {
      await pair.startPlatform();
      await pair.retry();
    };
    return drain(pair, writers, { ofHistory: false, begin });
  });
}

/** The same where the journal no longer has it: out of what is sealed. */
export async function relayHistory({ million }: Options): Promise<Figures> {
  return withPair(async (pair) => {
    const writers = await fill(pair, 10 * million);
    // Until what is sealed has left the journal.
    await sleep(5000);
    return drain(pair, writers, { ofHistory: true, begin: () => pair.relay() });
  });
}

/** Bytes between the two, in both directions, heads and all. */
export async function relayWire({ seconds }: Options): Promise<Figures> {
  const batches = await wireBytes(async ({ collector }) => {
    const writers = await createWriters(collector, "wire");
    await Promise.all(writers.map((writer) => write(collector, writer, { seconds })));
    return writers;
  });
  const singles = await wireBytes(async ({ collector }) => {
    const writers = Array.from({ length: 64 }, (_, index) =>
      createWriter("single", `c${index}`, index + 1, { records: 1, bodies: 64 }),
    );
    await collector.createRun("single");
    await Promise.all(writers.map((writer) => write(collector, writer, { seconds })));
    return writers;
  });
  return { batches, singles };
}

async function wireBytes(load: (pair: Pair) => Promise<Writer[]>): Promise<number> {
  return withPair(async (pair) => {
    const proxy = await countingProxy(pair.platform.port);
    try {
      await pair.relay({ port: proxy.port });
      await pair.drained();
      const before = proxy.sent() + proxy.answered();
      const writers = await load(pair);
      await pair.drained();
      const bytes = proxy.sent() + proxy.answered() - before;
      const byRun = Map.groupBy(writers, ({ run }) => run);
      for (const [run, own] of byRun) await pair.check(run, pointsOf(own) / KEYS.length);
      return bytes / pointsOf(writers);
    } finally {
      proxy.close();
    }
  });
}

const RECORDS_ALONE = 200;

/** From sending a record to the collector until the platform's answer has it; ms. Nothing else goes on. */
export async function relayLatency(_: Options): Promise<Figures> {
  return withPair(async (pair) => {
    const { collector, platform } = pair;
    await pair.relay();
    await collector.createRun("alone");
    const next = createWalk(1);
    const [to, from] = [await collector.connection(), await platform.connection()];
    const look = requestHead("GET", "/api/v1/runs/alone/metrics", platform);
    const latencies: number[] = [];
    const owns: number[] = [];
    for (let step = 0; step < RECORDS_ALONE + 10; step++) {
      const metrics = Object.fromEntries(KEYS.map((key, index) => [key, next(index)]));
      const record = { step, time: Date.now(), metrics };
      const body = Buffer.from(JSON.stringify({ client: "alone", seq: step + 1, items: [record] }));
      const head = requestHead("POST", "/api/v1/runs/alone/records", { ...collector, length: body.length });
      const begun = performance.now();
      const { status, body: answer } = await to.send(head, body);
      const own = performance.now() - begun;
      if (status !== 200) throw new Error(`alone: ${status} ${answer.toString().slice(0, 300)}`);
      for (;;) {
        const reply = await from.send(look, undefined);
        if (reply.status === 200) {
          const { metrics } = JSON.parse(reply.body.toString()) as { metrics: { last_step: number }[] };
          if (metrics[0]?.last_step === step) break;
        }
        if (performance.now() - begun > 10_000) throw new Error(`record ${step} has not arrived`);
        await sleep(1);
      }
      // The first ones find code that has not run before.
      if (step >= 10) {
        latencies.push(performance.now() - begun);
        owns.push(own);
      }
      await sleep(20);
    }
    to.close();
    from.close();
    return {
      p50: median(latencies),
      p99: quantile(latencies, 0.99),
      ownP50: median(owns),
      ownP99: quantile(owns, 0.99),
    };
  });
}
