import { closeSync, fsyncSync, openSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { CollectorError } from "../error.ts";
import { diskFull, type Journal } from "./journal.ts";
import type { Connection } from "./open.ts";

/** ms between two looks: the longer, the more room there is. */
const CHECK_MS = { least: 1000, most: 10_000 };
/** Bytes a second that others may write to the disk, and that we may: so fast the room of the last look can go. */
const FILLED_BY_OTHERS = 1024 ** 3;
const FILLED_BY_US = 64 * 1024 ** 2;
/**
 * What gives way, in this order, by how often the least free space must be free and by the share of the limit: old samples
 * become coarser, then new ones are left out, then files are refused (one of them could take the place of a week of records),
 * then records and lines. What was trained is worth more than what it ran on.
 */
const THIN = { freeFactor: 6, share: 0.9 };
const NO_SAMPLES = { freeFactor: 4, share: 0.95 };
const NO_FILES = { freeFactor: 2, share: 0.97 };
/** Thinning goes on until so much more is free, so that it does not begin with each sample again. */
const THIN_UNTIL = { freeFactor: 7, share: 0.85 };
/** What the journal may keep for a destination that is cut off; beyond it history stands in. */
const JOURNAL_BYTES = 1024 ** 3;
const JOURNAL_SHARE = 0.25;
const MiB = 1024 * 1024;
/** Written in pieces between requests. */
const BALLAST_PIECE = 4 * MiB;

export interface QuotaOptions {
  /** Bytes of a file that is there to be removed: a SQLite on a full disk can't even delete. 0: none. */
  ballastBytes?: number | undefined;
  /** Free bytes of the disk below which nothing more is accepted. */
  minFreeBytes?: number | undefined;
  /** Bytes of database and files above which nothing more is accepted. */
  maxBytes?: number | undefined;
  /** Bytes of files beside the database. */
  fileBytes?: (() => number) | undefined;
  /** Makes samples coarser until there is enough room. */
  thin?: ((isEnough: () => boolean) => Promise<void>) | undefined;
  /** Acceptance stops (with why), or is taken up again (null). */
  onChange?: ((refusing: string | null) => void) | undefined;
}

export interface QuotaStatus {
  /** Why records, lines and samples are refused; null while they are accepted. */
  refusing: string | null;
  /** Times that acceptance had to be stopped since the start. */
  stops: number;
  usedBytes: number;
  freeBytes: number;
}

export interface Quota {
  status(): QuotaStatus;
  /** Throws where there is no room for so many more bytes of files; counts them until the next look. */
  claim(bytes: number): void;
  /** Bytes of the journal that are kept for a destination: of what there is room for in all, a share. */
  journalBytes(): number;
  /** The database met a full disk. */
  full(): void;
  /** Looks again; resolves when acceptance is as it should be. */
  check(): Promise<void>;
  close(): void;
}

/** Bytes a database holds: its used pages. Free ones within the file are as good as free. */
export function createUsage(connection: Connection): () => number {
  const pages = connection.prepare("PRAGMA page_count").raw(true);
  const free = connection.prepare("PRAGMA freelist_count").raw(true);
  const size = connection.prepare("PRAGMA page_size").raw(true);
  const number = (statement: typeof pages) => (statement.get() as [number])[0];
  return () => (number(pages) - number(free)) * number(size);
}

/**
 * Stops acceptance before the disk is full and takes it up again when there is room. Should the disk fill up all the
 * same, the ballast goes, so that what is in memory can be sealed and runs can be deleted.
 */
export function createQuota(
  connection: Connection,
  journal: Journal,
  dataDir: string,
  {
    ballastBytes = 0,
    minFreeBytes = ballastBytes / 4,
    maxBytes = Infinity,
    fileBytes = () => 0,
    thin,
    onChange = () => {},
  }: QuotaOptions = {},
): Quota {
  const ballast = join(dataDir, "ballast");
  const pagesUsed = createUsage(connection);
  const used = () => pagesUsed() + fileBytes();
  /** Without a limit nobody need look at the files. */
  const usesMoreThan = (bytes: number) => bytes !== Infinity && used() > bytes;
  let refusing: string | null = null;
  let stops = 0;
  let freeBytes = Infinity;
  /** Since the start. */
  let claimed = 0;
  let isThinning = false;
  let closed = false;
  let metFull = false;
  /** Bytes of ballast that went for it. */
  let givenUp = 0;

  let timer: ReturnType<typeof setTimeout> | undefined;
  look();

  function look(): void {
    void glance()
      .then(() => {
        // Others need their answer meanwhile.
        void makeRoom().catch(() => {});
      })
      .catch(() => {
        // The folder is gone: the next write says so.
      })
      .finally(() => {
        if (closed) return;
        timer = setTimeout(look, nextLookIn());
        timer.unref();
      });
  }

  function nextLookIn(): number {
    if (refusing !== null || metFull) return CHECK_MS.least;
    const seconds = Math.min(
      (freeBytes - THIN.freeFactor * minFreeBytes) / FILLED_BY_OTHERS,
      maxBytes === Infinity ? Infinity : (THIN.share * maxBytes - used()) / FILLED_BY_US,
    );
    return Math.min(Math.max(1000 * seconds, CHECK_MS.least), CHECK_MS.most);
  }

  async function check(): Promise<void> {
    await glance();
    await makeRoom();
  }

  async function glance(): Promise<void> {
    const { bavail, blocks, bsize } = await statfs(dataDir);
    if (closed) return;
    freeBytes = bavail * bsize;
    const ballastMissing = ballastBytes - sizeOf(ballast);
    if (metFull) {
      // Room for what waits, and for the ballast again where there was one; a small disk has never so much.
      const most = (minFreeBytes + blocks * bsize) / 2;
      if (freeBytes < Math.min(1.25 * givenUp + 2 * minFreeBytes, most)) return;
      metFull = false;
      givenUp = 0;
    }
    journal.refuse(isPast(NO_SAMPLES) ? tooTight() : undefined, "samples");
    if (freeBytes < minFreeBytes) return refuse(`only ${mebibytes(freeBytes)} of the disk are free`);
    if (usesMoreThan(maxBytes)) return refuse(`the limit of ${mebibytes(maxBytes)} is reached`);
    accept();
    if (ballastMissing > 0 && freeBytes > 4 * ballastBytes) await placeBallast();
  }

  const isPast = ({ freeFactor, share }: Threshold) =>
    freeBytes < freeFactor * minFreeBytes || usesMoreThan(share * maxBytes);

  /** By the pages that are used: the file itself shrinks behind them. Files that come meanwhile have claimed their room. */
  async function makeRoom(): Promise<void> {
    if (!thin || isThinning || closed || !isPast(THIN)) return;
    isThinning = true;
    const before = freeBytes + pagesUsed() + claimed;
    try {
      await thin(() => {
        freeBytes = before - pagesUsed() - claimed;
        return !isPast(THIN_UNTIL);
      });
    } finally {
      isThinning = false;
    }
    if (!closed) await glance();
  }

  function refuse(why: string): void {
    stop(why);
    journal.refuse(
      new CollectorError("disk-full", `Nothing was stored: ${why}.`, {
        hint: "Free some space, or delete runs (`binnacle run delete`); clients keep their data and send it again.",
      }),
    );
  }

  function stop(why: string): void {
    const changed = refusing === null;
    refusing = why;
    if (!changed) return;
    stops++;
    onChange(why);
  }

  function accept(): void {
    const changed = refusing !== null;
    refusing = null;
    journal.refuse(undefined);
    if (changed) onChange(null);
  }

  async function placeBallast(): Promise<void> {
    const file = openSync(ballast, "w", 0o600);
    try {
      const piece = Buffer.alloc(Math.min(BALLAST_PIECE, ballastBytes));
      for (let at = 0; at < ballastBytes && !closed; at += piece.length) {
        writeSync(file, piece, 0, Math.min(piece.length, ballastBytes - at));
        await new Promise((resolve) => setImmediate(resolve));
      }
      fsyncSync(file);
    } catch {
      rmSync(ballast, { force: true });
    } finally {
      closeSync(file);
    }
  }

  function claim(bytes: number): void {
    const why =
      refusing ??
      (freeBytes - bytes < NO_FILES.freeFactor * minFreeBytes
        ? `only ${mebibytes(freeBytes)} of the disk are free, and some is left for records and logs`
        : usesMoreThan(NO_FILES.share * maxBytes - bytes)
          ? `the limit of ${mebibytes(maxBytes)} is reached`
          : undefined);
    if (why !== undefined)
      throw new CollectorError("disk-full", `The file was not stored: ${why}.`, {
        hint: "Free some space, or delete runs, models or artifacts; the client sends what is missing again.",
      });
    freeBytes -= bytes;
    claimed += bytes;
  }

  return {
    claim,
    status: () => ({ refusing, stops, usedBytes: used(), freeBytes }),
    journalBytes() {
      const { bavail, bsize } = statfsSync(dataDir);
      return Math.min(JOURNAL_BYTES, JOURNAL_SHARE * Math.min(maxBytes, used() + bavail * bsize));
    },
    full() {
      metFull = true;
      givenUp = Math.max(givenUp, sizeOf(ballast));
      rmSync(ballast, { force: true });
      stop("the disk is full");
      journal.refuse(diskFull());
    },
    check,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

interface Threshold {
  freeFactor: number;
  share: number;
}

const tooTight = () =>
  new CollectorError("disk-full", "The disk is almost full: samples are left out.", {
    hint: "Free some space, or delete runs (`binnacle run delete`).",
  });

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

const mebibytes = (bytes: number) => `${Math.round(bytes / MiB)} MiB`;
