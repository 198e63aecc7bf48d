import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openCollector, type Collector, type CollectorOptions } from "../../src/collector.ts";
import { appendRecords } from "../../src/metric/append.ts";

/** A collector on a data folder of its own, without the HTTP edge. */
export interface TestStore {
  collector: Collector;
  dataDir: string;
  fatal: unknown[];
  /** Creates a run by its row and counter alone. */
  addRun(run: string): Promise<void>;
  /** Appends records as the next batch of a client. */
  append(run: string, items: object[], options?: { client?: string; rank?: number }): Promise<void>;
  /** Closes it and opens the same folder again. */
  reopen(): Promise<void>;
  close(): Promise<void>;
}

export function makeDataDir(): string {
  return mkdtempSync(join(tmpdir(), "binnacle-test-"));
}

export function openStore(options: Partial<CollectorOptions> = {}): TestStore {
  const dataDir = options.dataDir ?? makeDataDir();
  const fatal: unknown[] = [];
  const open = () => openCollector({ onFatal: (error) => fatal.push(error), ...options, dataDir });
  const seqByWriter = new Map<string, number>();
  const store: TestStore = {
    collector: open(),
    dataDir,
    fatal,
    async addRun(run) {
      store.collector.counters.create(run);
      await store.collector.journal.append(
        {
          kind: "run.created",
          version: 1,
          run,
          client: null,
          clientSeq: null,
          ordinal: null,
          nextStep: null,
          count: 1,
          time: Date.now(),
          encoding: 0,
          payload: new TextEncoder().encode("{}"),
        },
        {},
        [
          {
            sql: "INSERT INTO run (id, name, project, status, config, tags, created) VALUES (?, ?, 'test', 'RUNNING', '{}', '[]', ?)",
            params: [run, run, Date.now()],
          },
        ],
      );
    },
    async append(run, items, { client = "client", rank = 0 } = {}) {
      const writer = `${run} ${client}`;
      const seq = (seqByWriter.get(writer) ?? 0) + 1;
      seqByWriter.set(writer, seq);
      await appendRecords(store.collector, run, { client, seq, rank, items });
    },
    async reopen() {
      await store.collector.close();
      store.collector = open();
    },
    async close() {
      await store.collector.close();
      if (!options.dataDir) rmSync(dataDir, { recursive: true, force: true });
    },
  };
  return store;
}
