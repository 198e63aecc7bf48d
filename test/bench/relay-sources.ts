/** A platform to which a thousand installations are connected: what that costs it in memory. */
import { createHash, randomBytes } from "node:crypto";
import { Encoding } from "../../src/entry.ts";
import { packBatch } from "../../src/metric/batch.ts";
import { ENTRIES_TYPE, type Frame } from "../../src/relay/contract.ts";
import { encodeFrames } from "../../src/relay/frame.ts";
import type { Connection } from "./http-load.ts";
import type { Figures, Options } from "./measures.ts";
import { createWalk, KEYS } from "./relay-pair.ts";
import { startServer, type Server } from "./server.ts";
import { cpuSeconds, memoryMiB, quantile } from "./statistics.ts";

const SOURCES = 1000;
/** Each sends a batch of so many records, so often. */
const RECORDS = 10;
const EVERY_MS = 5000;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** All are connected all the time, each by a connection of its own. */
export async function relaySources({ seconds }: Options): Promise<Figures> {
  const platform = await startServer(undefined, { args: ["--role", "platform", "--no-hardware"] });
  try {
    const empty = memoryMiB(platform.pid).now;
    const sources: Source[] = [];
    for (let index = 0; index < SOURCES; index++) sources.push(await connect(platform, index));
    const latencies: number[] = [];
    const before = cpuSeconds(platform.pid);
    const begun = performance.now();
    const until = begun + Math.max(20_000, seconds * 5000);
    await Promise.all(
      sources.map(async (source, index) => {
        await sleep((index / SOURCES) * EVERY_MS);
        while (performance.now() < until) {
          const sent = performance.now();
          await source.send();
          latencies.push(performance.now() - sent);
          await sleep(EVERY_MS);
        }
      }),
    );
    const took = (performance.now() - begun) / 1000;
    const core = (cpuSeconds(platform.pid) - before) / took;
    const { now, peak } = memoryMiB(platform.pid);
    for (const source of sources) await source.check();
    for (const source of sources) source.close();
    return { empty, memory: now, peak, p99: quantile(latencies, 0.99), core: core * 100 };
  } finally {
    await platform.stop();
  }
}

interface Source {
  /** A batch of records, and a greeting first where it is time. */
  send(): Promise<void>;
  /** Throws unless the platform has all of it. */
  check(): Promise<void>;
  close(): void;
}

async function connect(platform: Server, index: number): Promise<Source> {
  const { token } = await platform.call("POST", "/api/v1/sources", { name: `source-${index}` });
  const connection: Connection = await platform.connection();
  const id = randomBytes(16).toString("hex");
  const nonce = randomBytes(16).toString("hex");
  const run = `run-${index}`;
  const next = createWalk(index);
  let turn = 0;
  let seq = 0;
  let ordinal = 0;

  async function post(path: string, type: string, body: Uint8Array, headers: Record<string, string> = {}) {
    const lines = Object.entries({
      host: `127.0.0.1:${platform.port}`,
      authorization: `Bearer ${token}`,
      "content-type": type,
      "content-length": String(body.length),
      ...headers,
    }).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = `POST /relay/v1/sources/${id}/${path} HTTP/1.1\r\n${lines.join("")}\r\n`;
    const { status, body: answer } = await connection.send(head, body);
    if (status !== 200) throw new Error(`${path}: ${status} ${answer.toString().slice(0, 300)}`);
  }

  async function greet(): Promise<void> {
    const hello = {
      epoch: 1,
      nonce,
      turn: ++turn,
      path: [id],
      host: `host-${index}`,
      version: "0.1.0",
      openings: [],
      last: seq,
      sure: 0,
      is_other: false,
      sent_at: Date.now(),
    };
    await post("cursor", "application/json", Buffer.from(JSON.stringify(hello)));
  }

  async function batch(frames: Frame[]): Promise<void> {
    const body = encodeFrames(frames);
    await post("batches", ENTRIES_TYPE, body, {
      "content-digest": `sha-256=:${createHash("sha256").update(body).digest("base64")}:`,
      "idempotency-key": `"1/${frames[0]!.seq}-${frames.at(-1)!.seq}"`,
      "x-relay-epoch": "1",
      "x-relay-nonce": nonce,
      "x-relay-turn": String(turn),
      "x-relay-path": id,
      "x-relay-sent-at": String(Date.now()),
    });
  }

  await greet();
  await batch([createdFrame(++seq, run)]);
  let batches = 0;
  return {
    async send() {
      // About as often as sources do.
      if (batches++ % 4 === 3) await greet();
      const frame = recordsFrame(++seq, run, ordinal, next);
      ordinal += RECORDS;
      await batch([frame]);
    },
    async check() {
      const { metrics } = await platform.call("GET", `/api/v1/runs/${run}/metrics`);
      if (metrics.length !== KEYS.length || metrics[0].count !== ordinal)
        throw new Error(`the platform has ${metrics[0]?.count} of ${ordinal} records of ${run}`);
    },
    close: () => connection.close(),
  };
}

function createdFrame(seq: number, run: string): Frame {
  const created = Date.now();
  const row = {
    name: run,
    project: "bench",
    status: "RUNNING",
    reason: null,
    config: {},
    tags: [],
    notes: null,
    command: null,
    device: null,
    exitCode: null,
    created,
    started: created,
    finished: null,
    presumed: false,
  };
  return {
    seq,
    kind: "run.created",
    version: 1,
    run,
    client: null,
    clientSeq: null,
    ordinal: null,
    nextStep: null,
    count: 1,
    time: created,
    encoding: Encoding.json,
    payload: Buffer.from(JSON.stringify(row)),
  };
}

function recordsFrame(seq: number, run: string, ordinal: number, next: (key: number) => number): Frame {
  const payload = packBatch({
    ordinal,
    rank: 0,
    count: RECORDS,
    step: Float64Array.from({ length: RECORDS }, (_, record) => ordinal + record),
    time: Float64Array.from({ length: RECORDS }, (_, record) => Date.now() + record),
    numbers: KEYS.map((key, column) => ({
      key,
      index: null,
      values: Float64Array.from({ length: RECORDS }, () => next(column)),
    })),
    texts: [],
    axes: [],
  });
  return {
    seq,
    kind: "metric.appended",
    version: 1,
    run,
    client: "writer",
    clientSeq: seq,
    ordinal,
    nextStep: ordinal + RECORDS,
    count: RECORDS,
    time: Date.now(),
    encoding: Encoding.columns,
    payload,
  };
}
