/**
 * kill -9 at random moments, again and again, on one data folder. The oracle: a batch that was answered 2xx is there exactly once,
 * with what was sent; one that was refused is not there; one without an answer is there once or not at all, and
 * once it is sent again and answered, exactly once.
 */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { startChild, type Child } from "./helpers/child.ts";
import { makeDataDir, openStore } from "./helpers/store.ts";

const KILLS = Number(process.env.KILLS ?? 100);
const WRITERS = 4;
/** Small, so that chunks, blocks of the pyramid, partial seals and deleted entries happen all the time. */
const options = {
  series: { chunkPoints: 64, maxPoints: 200, tickMs: 20 },
  trim: { keepEntries: 20, everyMs: 20 },
};

interface Obligation {
  records: number[];
  lines: string[];
  /** unknown: sent, and no answer came. */
  state: "acked" | "unknown";
}

/** One client of a run of its own; another client takes over when it gives up a batch. */
interface Writer {
  run: string;
  client: number;
  seq: number;
  /** Sent without an answer, and to be sent again. */
  pending:
    | { path: string; body: { client: string; seq: number; items: unknown[] }; obligation: Obligation }
    | undefined;
  obligations: Obligation[];
  nextValue: number;
}

function makeBatch(writer: Writer): NonNullable<Writer["pending"]> {
  const size = Math.random() < 0.5 ? 1 + Math.floor(Math.random() * 3) : Math.floor(Math.random() * 400);
  const client = `${writer.run}-${writer.client}`;
  const values = Array.from({ length: size }, () => writer.nextValue++);
  const isLog = Math.random() < 0.2;
  const obligation: Obligation = {
    records: isLog ? [] : values,
    lines: isLog ? values.map((v) => `line ${v}`) : [],
    state: "unknown",
  };
  const items = isLog
    ? obligation.lines.map((text) => ({ text }))
    : values.map((value) => ({
        metrics: { value, half: value / 2, ...(value % 5 === 0 ? { note: `text ${value}` } : {}) },
      }));
  return {
    path: `/runs/${writer.run}/${isLog ? "logs" : "records"}`,
    body: { client, seq: writer.seq + 1, items },
    obligation,
  };
}

/** Sends batches until the collector is gone. */
async function write(writer: Writer, child: Child): Promise<void> {
  for (;;) {
    if (writer.pending && writer.pending.body.seq > 0 && Math.random() < 0.2) {
      // As a process that dies with its batch: nobody will ever know, and a new one starts from 1.
      writer.client++;
      writer.seq = 0;
      writer.pending = undefined;
    }
    if (!writer.pending) {
      writer.pending = makeBatch(writer);
      writer.obligations.push(writer.pending.obligation);
    }
    const { path, body, obligation } = writer.pending;
    let response: Response;
    try {
      response = await child.request(path, body);
      const answer = await response.text();
      expect([response.status, answer]).toEqual([200, JSON.stringify({ acked: body.seq })]);
    } catch (error) {
      if (
        error instanceof TypeError ||
        (error as { code?: string }).code?.startsWith("E") ||
        isConnectionError(error)
      )
        return;
      throw error;
    }
    obligation.state = "acked";
    writer.seq = body.seq;
    writer.pending = undefined;
  }
}

const isConnectionError = (error: unknown) =>
  /ConnectionRefused|ConnectionClosed|ConnectionReset|socket/i.test(
    `${(error as { code?: string }).code} ${(error as Error).message}`,
  );

async function check(writer: Writer, child: Child): Promise<void> {
  const get = async (path: string) =>
    (await child.request(`/runs/${writer.run}${path}`)).json() as Promise<any>;
  const { points } = (await get("/points?key=value")) as { points?: [number, number][] };
  const halves = ((await get("/points?key=half")) as { points?: [number, number][] }).points ?? [];
  const stored = (points ?? []).map(([, y]) => y);
  // Exactly once, in the order sent; what is unknown, whole or not at all.
  expect(halves.map(([, y]) => 2 * y)).toEqual(stored);
  expectSequence(
    stored,
    writer.obligations.map(({ records, state }) => ({ values: records, state })),
  );
  const notes = ((await get("/points?key=note")) as { points?: [number, string][] }).points ?? [];
  expect(notes.map(([, y]) => y)).toEqual(
    stored.filter((value) => value % 5 === 0).map((value) => `text ${value}`),
  );
  const lines: string[] = [];
  for (let after = 0; ;) {
    const page = (await get(`/logs?after=${after}&limit=10000`)) as {
      lines: { line: number; text: string }[];
      total: number;
    };
    lines.push(...page.lines.map(({ text }) => text));
    after = page.lines.at(-1)?.line ?? after;
    if (page.lines.length === 0) break;
  }
  expectSequence(
    lines,
    writer.obligations.map(({ lines, state }) => ({ values: lines, state })),
  );
}

function expectSequence<T>(stored: T[], obligations: { values: T[]; state: Obligation["state"] }[]): void {
  let at = 0;
  for (const { values, state } of obligations) {
    const found = stored.slice(at, at + values.length);
    const isThere = values.length === 0 || Bun.deepEquals(found, values);
    if (state === "acked") expect(found).toEqual(values);
    if (isThere) at += values.length;
  }
  expect(stored.slice(at)).toEqual([]);
}

test(
  `${KILLS} kills lose nothing and double nothing`,
  async () => {
    const dataDir = makeDataDir();
    const writers: Writer[] = Array.from({ length: WRITERS }, (_, i) => ({
      run: `run-${i}`,
      client: 0,
      seq: 0,
      pending: undefined,
      obligations: [],
      nextValue: 0,
    }));
    let child = await startChild(dataDir, options);
    for (const { run } of writers) expect((await child.request("/runs", { id: run })).status).toBe(201);
    for (let kill = 1; kill <= KILLS; kill++) {
      const writing = writers.map((writer) => write(writer, child));
      await new Promise((resolve) => setTimeout(resolve, 10 + Math.random() ** 2 * 300));
      await child.kill();
      await Promise.all(writing);
      expect(child.stderr()).toBe("");
      child = await startChild(dataDir, options);
      if (kill % 10 === 0 || kill === KILLS) for (const writer of writers) await check(writer, child);
    }
    const batches = writers.flatMap(({ obligations }) => obligations);
    const acked = batches.filter(({ state }) => state === "acked").length;
    console.log(`${KILLS} kills, ${acked} batches answered, ${batches.length - acked} without an answer`);
    expect(acked).toBeGreaterThan(KILLS);
    await child.kill();
    const store = openStore({ dataDir, ...options });
    const { connection, journal } = store.collector;
    const count = (sql: string) => (connection.prepare(sql).raw(true).get() as [number])[0];
    // All that was really at work meanwhile.
    expect(count("SELECT count(*) FROM chunk WHERE axis_chunk IS NOT NULL")).toBeGreaterThan(0);
    expect(count("SELECT count(*) FROM chunk WHERE count < 64")).toBeGreaterThan(0);
    expect(count("SELECT count(*) FROM series_text")).toBeGreaterThan(0);
    expect(journal.bounds().first).toBeGreaterThan(1);
    expect(connection.prepare("PRAGMA integrity_check").raw(true).get()).toEqual(["ok"]);
    await store.close();
    rmSync(dataDir, { recursive: true, force: true });
  },
  KILLS * 5000,
);
