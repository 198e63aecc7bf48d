import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readMark } from "./backup/destinations.ts";
import { RESTORED_FILE } from "./backup/schema.ts";
import { createBlobs, type Blobs } from "./blob/blobs.ts";
import { readDeviceId } from "./device/identity.ts";
import { deviceStream } from "./entry.ts";
import { migrations } from "./generated.ts";
import { createLogs, type Logs } from "./log/logs.ts";
import { createSeriesStore, type SeriesStore, type SeriesStoreOptions } from "./metric/store.ts";
import { holdForDestinations, keepDestinations } from "./relay/destinations.ts";
import { createLosses } from "./relay/losses.ts";
import { BUSY, NO_ROOM } from "./relay/reasons.ts";
import { openInstallation, type Installation } from "./relay/installation.ts";
import { isProcessAlive, readBootId } from "./run/machine.ts";
import { createPresence, type Presence } from "./run/presence.ts";
import { createLatest, type Latest } from "./sample/latest.ts";
import { createSpanHolder } from "./span/purge.ts";
import { backupDatabaseNow } from "./store/backup.ts";
import { createBus, type Bus } from "./store/bus.ts";
import { createCounters, type Counters } from "./store/counters.ts";
import { onFailure } from "./store/failure.ts";
import { createJournal, type Journal } from "./store/journal.ts";
import { applyMigrations } from "./store/migrations.ts";
import {
  closeConnection,
  createDrizzle,
  openConnection,
  type Connection,
  type Drizzle,
} from "./store/open.ts";
import { createPruner, type Pruner } from "./store/prune.ts";
import { createQuota, type Quota, type QuotaOptions } from "./store/quota.ts";
import { createSampleStore, type SampleStore, type SampleStoreOptions } from "./store/sample-store.ts";
import { createTrimmer, type TrimmerOptions } from "./store/trim.ts";
import { dropUnfinished } from "./store/unfinished.ts";

/** All a verb may need. */
export interface Collector {
  readonly dataDir: string;
  readonly connection: Connection;
  readonly db: Drizzle;
  readonly journal: Journal;
  readonly counters: Counters;
  readonly bus: Bus;
  readonly presence: Presence;
  readonly logs: Logs;
  readonly series: SeriesStore;
  readonly samples: SampleStore;
  /** What devices read last, not yet durable. */
  readonly latest: Latest;
  /** This machine's id. */
  readonly device: string;
  /** Who this database is to platforms. */
  readonly installation: Installation;
  readonly blobs: Blobs;
  readonly quota: Quota;
  readonly pruner: Pruner;
  /** ms since the epoch. */
  now(): number;
  /** Seals what is in memory and shrinks the file, for at most so long; what is left undone the next start takes up. */
  tidy(ms: number): Promise<void>;
  close(): Promise<void>;
}

export interface CollectorOptions {
  dataDir: string;
  now?: () => number;
  /** Called once when the database can no longer be trusted; the process is expected to end. */
  onFatal: (error: unknown) => void;
  /** A listener of the bus threw. */
  onListenerError?: (error: unknown) => void;
  /** A line for whoever runs the collector. */
  onDiagnostic?: (text: string) => void;
  /** Sizes and limits of the metrics' store, for tests and benchmarks. */
  series?: Omit<SeriesStoreOptions, "onFatal" | "onFull" | "onWorkerLost" | "journalPosition">;
  /** Sizes, times and retention of samples. */
  samples?: Omit<SampleStoreOptions, "onFatal" | "onFull" | "journalPosition" | "isDeleted" | "now">;
  /** This machine's id, for tests. */
  device?: string;
  /** How much of the journal stays though it is sealed. */
  trim?: Omit<TrimmerOptions, "onFatal">;
  quota?: QuotaOptions;
}

/** Opens the data folder for this process alone, brings the schema up to date and replays what is not sealed. */
export function openCollector({
  dataDir,
  now = Date.now,
  onFatal: endAll,
  onListenerError = endAll,
  onDiagnostic = () => {},
  series: seriesOptions,
  samples: sampleOptions,
  device,
  trim: trimOptions,
  quota: quotaOptions,
}: CollectorOptions): Collector {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  let hasFailed = false;
  const onFatal = (error: unknown) => {
    if (hasFailed) return;
    hasFailed = true;
    endAll(error);
  };
  const path = join(dataDir, "binnacle.db");
  const connection = openConnection(path);
  try {
    applyMigrations(connection, migrations, ({ name }) =>
      backupDatabaseNow(connection, path, join(dataDir, `binnacle-before-${name}.db`)),
    );
  } catch (error) {
    closeConnection(connection);
    throw error;
  }
  // Before anything is replayed: what an import left must not come back.
  const unfinished = dropUnfinished(connection);
  for (const left of ["imports", "backups"]) rmSync(join(dataDir, left), { recursive: true, force: true });
  const installation = openInstallation(connection, now);
  const restored = join(dataDir, RESTORED_FILE);
  const isRestored = existsSync(restored);
  // What others have of the time since the backup is not to be taken for what comes now under the same numbers.
  if (isRestored) installation.newEpoch(0);
  const bus = createBus(onListenerError);
  const counters = createCounters(connection);
  const onFull = () => quota.full();
  const isDeleted = (run: string) => counters.find(run)?.deleted === true;
  const journal = createJournal(connection, bus, {
    onFatal,
    onRejected: (runs) => counters.reload(runs),
    isDeleted,
    onFull,
  });
  const quota = createQuota(connection, journal, dataDir, {
    ...quotaOptions,
    fileBytes: () => blobs.usedBytes(),
    thin: async (isEnough) => {
      if (!(await samples.thin(isEnough))) return;
      await pruner.vacuum(true);
      // Before it the file is as long as it was.
      connection.exec("PRAGMA wal_checkpoint(PASSIVE)");
    },
  });
  const losses = createLosses(connection, journal, now);
  const logs = createLogs(connection, bus, { onFatal, onFull });
  journal.register(logs.applier);
  const series = createSeriesStore(connection, {
    onFatal,
    onWorkerLost: onListenerError,
    onFull,
    journalPosition: journal.position,
    ...seriesOptions,
  });
  journal.register(series.applier);
  const samples = createSampleStore(connection, {
    onFatal,
    onFull,
    journalPosition: journal.position,
    isDeleted,
    now,
    onExpired: () => void pruner.vacuum(),
    onRemoved: losses.removed,
    onDropped: (device, { first, last, count }, why) =>
      losses.put({
        destination: "",
        stream: deviceStream(device),
        kind: "sample.appended",
        first,
        last,
        records: count,
        reason: why === "full" ? NO_ROOM : BUSY,
      }),
    ...sampleOptions,
  });
  journal.register(samples.applier);
  const blobs = createBlobs(connection, dataDir, {
    now,
    claim: quota.claim,
    onFull,
    onWorkerLost: onListenerError,
  });
  journal.replay();
  if (isRestored) {
    keepDestinations(connection, journal, readMark(restored));
    rmSync(restored);
  }
  holdForDestinations(connection, journal);
  const trimmer = createTrimmer(connection, journal, { onFatal, onCut: losses.cut, ...trimOptions });
  const pruner = createPruner(connection, [series, logs, samples, createSpanHolder(connection)], {
    onFatal,
    onUnreadable: (error) =>
      onDiagnostic(
        `part of what was deleted can't be removed (${(error as Error).message}): \`binnacle doctor\` says what is damaged.`,
      ),
    heldBytes: blobs.heldBytes,
    purgeDevice: samples.purgeDevice,
  });
  bus.subscribe(({ kind, run }) => {
    if (kind !== "run.deleted" && kind !== "run.pruned") return;
    if (kind === "run.pruned") {
      const { nextOrdinal = 0, nextLine = 1 } = counters.find(run) ?? {};
      losses.pruned(run, nextOrdinal + nextLine - 1);
    }
    counters.delete(run);
    void pruner.purge(run);
  });
  // Until here a failure is an error of the start.
  onFailure(connection, onFatal);
  void pruner.resume();
  for (const left of unfinished) void pruner.abandon(left);
  return {
    dataDir,
    connection,
    db: createDrizzle(connection),
    journal,
    counters,
    bus,
    presence: createPresence({ now, boot: readBootId(), isProcessAlive }),
    logs,
    series,
    blobs,
    samples,
    latest: createLatest(onListenerError),
    device: device ?? readDeviceId(dataDir),
    installation,
    quota,
    pruner,
    now,
    async tidy(ms) {
      const tidied = (async () => {
        await journal.settled();
        logs.seal();
        await series.seal();
        await samples.seal();
        await trimmer.trimAll();
        await pruner.vacuum(true);
      })();
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([tidied, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
      clearTimeout(timer);
    },
    async close() {
      await journal.close();
      quota.close();
      trimmer.close();
      logs.close();
      series.close();
      samples.close();
      blobs.close();
      await pruner.close();
      closeConnection(connection);
    },
  };
}
