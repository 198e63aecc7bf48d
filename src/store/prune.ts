import { deviceStream } from "../entry.ts";
import { isUnreadable } from "./failure.ts";
import type { Connection } from "./open.ts";
import { createUsage } from "./quota.ts";
import { dropEntries, forgetImport, isKnownDevice, type Unfinished } from "./unfinished.ts";

/** Pages moved at a time: a few milliseconds. */
const VACUUM_PAGES = 128;
/** Free pages that are left in the file for what comes next. */
const MIN_FREE_PAGES = 4096;

/** Something that holds data of runs. */
export interface Holder {
  /** Forgets a run in small transactions. */
  purge(run: string): Promise<void>;
}

export interface Pruner {
  /** Removes what is stored of a deleted run; one after another. Its row stays: late writes hear that it is gone. */
  purge(run: string): Promise<void>;
  /** Removes what an import has brought that did not come to its end. */
  abandon(unfinished: Unfinished): Promise<void>;
  /** Takes up deletions that a stop or a kill cut short. */
  resume(): Promise<void>;
  /** Gives pages back to the file system where many are free, or all of them. */
  vacuum(all?: boolean): Promise<void>;
  /** Bytes of used pages, and of files that go with runs. */
  usedBytes(): number;
  close(): Promise<void>;
}

export function createPruner(
  connection: Connection,
  holders: Holder[],
  {
    onFatal,
    onUnreadable,
    heldBytes = () => 0,
    purgeDevice,
  }: {
    onFatal: (error: unknown) => void;
    /** Something can't be removed, as it can't be read. Once. */
    onUnreadable: (error: unknown) => void;
    heldBytes?: () => number;
    purgeDevice: (device: string) => Promise<void>;
  },
): Pruner {
  const pagesUsed = createUsage(connection);
  const selectLeftovers = connection.prepare(
    `SELECT id FROM run WHERE deleted = 1 AND (EXISTS (SELECT 1 FROM series WHERE series.run = run.id)
     OR EXISTS (SELECT 1 FROM log_chunk WHERE log_chunk.run = run.id)
     OR EXISTS (SELECT 1 FROM sample_chunk WHERE sample_chunk.subject = 'run/' || run.id)
     OR EXISTS (SELECT 1 FROM span WHERE span.run = run.id)
     OR EXISTS (SELECT 1 FROM counter WHERE counter.run = run.id))`,
  );
  const removeCounters = connection.prepare("DELETE FROM counter WHERE run = ?");
  const selectFree = connection.prepare("PRAGMA freelist_count").raw(true);
  const selectPages = connection.prepare("PRAGMA page_count").raw(true);
  let turn: Promise<void> = Promise.resolve();
  let closed = false;
  let isTold = false;

  /** One after another; a full disk leaves the rest to the next start, and so does a damaged page. */
  function inTurn(work: () => Promise<void>): Promise<void> {
    turn = turn.then(async () => {
      if (closed) return;
      try {
        await work();
      } catch (error) {
        if (closed || (error as { code?: string }).code === "SQLITE_FULL") return;
        // Of a write that failed the connection's own watch tells.
        if (!isUnreadable(error)) onFatal(error);
        else if (!isTold) {
          isTold = true;
          onUnreadable(error);
        }
      }
    });
    return turn;
  }

  async function purge(run: string): Promise<void> {
    for (const holder of holders) await holder.purge(run);
    if (!closed) removeCounters.run(run);
  }

  async function abandon({ run, devices }: Unfinished): Promise<void> {
    dropEntries(connection, run);
    await purge(run);
    for (const device of devices) {
      if (isKnownDevice(connection, device)) continue;
      dropEntries(connection, deviceStream(device));
      await purgeDevice(device);
    }
    if (!closed) forgetImport(connection, run);
  }

  const count = (statement: typeof selectFree) => (statement.get() as [number])[0];

  async function vacuum(all: boolean): Promise<void> {
    const kept = all ? 0 : Math.max(MIN_FREE_PAGES, count(selectPages) / 5);
    while (!closed && count(selectFree) > kept) {
      connection.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  return {
    purge: (run) => inTurn(() => purge(run)),
    abandon: (unfinished) => inTurn(() => abandon(unfinished)),
    async resume() {
      let left: { id: string }[] = [];
      await inTurn(async () => {
        left = selectLeftovers.all() as typeof left;
      });
      await Promise.all(left.map(({ id }) => inTurn(() => purge(id))));
    },
    vacuum: (all = false) => inTurn(() => vacuum(all)),
    usedBytes: () => pagesUsed() + heldBytes(),
    async close() {
      closed = true;
      await turn;
    },
  };
}
