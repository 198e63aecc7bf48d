import { join } from "node:path";
import { holdersOf } from "../artifact/holders.ts";
import type { Collector } from "../collector.ts";
import { getDevice } from "../device/list.ts";
import type { GpuStatus } from "../device/schema.ts";
import { CollectorError } from "../error.ts";
import { checkDatabase } from "../store/check.ts";
import { VERSION } from "../version.ts";
import { checkDisk, checkFolder, gigabytes } from "./folder.ts";
import type { Check, CheckStatus, DamagedFile, Examination, ExaminationProgress } from "./schema.ts";

/** Entries are made in order: a newest one so far ahead was made by a clock that has been set back since. */
const AHEAD_MS = 60_000;
/** The GPUs' state is that of the last reading: one so old was not taken by this collector. */
const STALE_MS = 60_000;

/** So often, in words. */
export interface Fault {
  text: string;
  count: number;
}

export interface ExamineOptions {
  quick: boolean;
  /** The command line that runs this program; without it the database is not looked at. */
  command: string[] | undefined;
  signal: AbortSignal;
  /** What went wrong since the start with FedML's clients; absent where they are not served. */
  fedml?: (() => readonly Fault[]) | undefined;
  onProgress: (progress: ExaminationProgress) => void;
}

/** Looks at everything that could be wrong here. Nothing is held up meanwhile, and nothing is changed. */
export async function examine(collector: Collector, options: ExamineOptions): Promise<Examination> {
  const { dataDir } = collector;
  const damaged: DamagedFile[] = [];
  const checks: Check[] = [];
  const { fedml } = options;
  const looks: [Check["name"], () => Check | Promise<Check>][] = [
    ["folder", () => checkFolder(dataDir)],
    ["disk", () => checkRoom(collector)],
    ["database", () => checkStore(collector, options)],
    ["files", () => checkFiles(collector, damaged, options)],
    ["gpus", () => checkGpus(collector)],
    ["clock", () => checkClock(collector)],
  ];
  if (fedml) looks.push(["fedml", () => checkFedml(fedml())]);
  for (const [name, look] of looks)
    try {
      checks.push(await look());
    } catch (error) {
      options.signal.throwIfAborted();
      checks.push(failed(name, error));
    }
  return { version: VERSION, time: collector.now(), checks, damaged };
}

/** With a damaged database much fails; the rest is to be seen all the same. */
const failed = (name: Check["name"], error: unknown): Check => ({
  name,
  status: "problem",
  text: `It could not be looked at: ${error instanceof Error ? error.message : String(error)}.`,
  advice: "See first to what is wrong beside it.",
});

function checkRoom({ dataDir, quota, blobs }: Collector): Check {
  const { refusing, usedBytes } = quota.status();
  const used = `; the database holds ${gigabytes(usedBytes - blobs.usedBytes())}, files ${gigabytes(blobs.usedBytes())}`;
  const check = checkDisk(dataDir, used);
  if (refusing === null) return check;
  return {
    ...check,
    status: "problem",
    text: `Nothing more is stored: ${refusing}. ${check.text}`,
    advice:
      "Free some space, or delete runs (`binnacle run delete`). Clients keep their data and send it again.",
  };
}

async function checkStore(
  { connection, dataDir }: Collector,
  { quick, command, signal, onProgress }: ExamineOptions,
): Promise<Check> {
  const check = (status: CheckStatus, text: string, advice: string | null): Check => ({
    name: "database",
    status,
    text,
    advice,
  });
  if (quick || !command) return check("unknown", "The database was not looked through.", null);
  onProgress({ of: "database", done: 0, total: null });
  const damaged = ([first, ...more]: string[]) =>
    check(
      "problem",
      `The database is damaged: ${first}${more.length > 0 ? `, and ${more.length} more` : ""}.`,
      "Save what you can (`binnacle run export`), end the collector, and put back a backup of the data folder; " +
        "then have the disk and the memory of this machine tested.",
    );
  try {
    const path = join(dataDir, "binnacle.db");
    const { problems, bytes } = await checkDatabase(connection, path, command, signal);
    return problems.length > 0 ? damaged(problems) : check("ok", `It is whole (${gigabytes(bytes)}).`, null);
  } catch (error) {
    signal.throwIfAborted();
    const { code, message } = error as { code?: string; message: string };
    if (/^SQLITE_(CORRUPT|NOTADB|IOERR)/.test(code ?? "")) return damaged([message]);
    if (!(error instanceof CollectorError)) throw error;
    return check("unknown", `The database was not looked through: ${message}`, error.hint ?? null);
  }
}

async function checkFiles(
  collector: Collector,
  damaged: DamagedFile[],
  { quick, signal, onProgress }: ExamineOptions,
): Promise<Check> {
  const { blobs } = collector;
  if (quick) return { name: "files", status: "unknown", text: "No file was read.", advice: null };
  let [files, bytes] = [0, 0];
  const bad = await blobs.verify({
    signal,
    onProgress: (progress) => {
      ({ files, done: bytes } = progress);
      onProgress({ of: "files", done: progress.done, total: progress.total });
    },
  });
  for (const sha256 of bad)
    damaged.push({ sha256, size: blobs.size(sha256) ?? 0, places: holdersOf(collector, sha256, 10) });
  if (bad.length === 0)
    return {
      name: "files",
      status: "ok",
      text:
        files === 0
          ? "There are no files."
          : `${counted(files)} (${gigabytes(bytes)}): each is what its digest says.`,
      advice: null,
    };
  return {
    name: "files",
    status: "problem",
    text: `${bad.length} of ${counted(files)} ${bad.length === 1 ? "is" : "are"} damaged or gone.`,
    advice:
      "Put the same files once more (`binnacle model put`, `binnacle artifact put`): until its next start the " +
      "collector takes them in the place of these. Or put back blobs/ from a backup. Then have the disk tested.",
  };
}

const counted = (files: number) => `${files.toLocaleString("en")} ${files === 1 ? "file" : "files"}`;

const isSerious: Partial<Record<GpuStatus, CheckStatus>> = {
  mismatch: "problem",
  container_lost: "problem",
  hung: "problem",
  failed: "problem",
  degraded: "warning",
  no_driver: "warning",
};

async function checkGpus(collector: Collector): Promise<Check> {
  const check = (status: CheckStatus, text: string, advice: string | null = null): Check => ({
    name: "gpus",
    status,
    text,
    advice,
  });
  const device = await getDevice(collector, collector.device).catch(() => undefined);
  if (!device || Date.parse(device.last_seen) < collector.now() - STALE_MS)
    return check("unknown", "The hardware of this machine is not recorded.");
  const { status, reason, advice, driver } = device.gpu_reader;
  if (status === "off") return check("ok", "GPUs are not read: --gpu off.");
  // A machine without NVIDIA's library has no GPU of NVIDIA's: nothing is wrong with it.
  if (status === "absent") return check("ok", reason ?? "There are no NVIDIA GPUs.");
  if (status === "ok")
    return check("ok", `${device.gpus.length} read${driver === null ? "" : `, driver ${driver}`}.`);
  return check(isSerious[status] ?? "ok", reason ?? `The reader's status is ${status}.`, advice);
}

function checkClock({ journal, now }: Collector): Check {
  const { last } = journal.bounds();
  const newest = journal.read(last - 1, 1).at(-1)?.time ?? 0;
  const ahead = newest - now();
  if (ahead <= AHEAD_MS) return { name: "clock", status: "ok", text: "It runs forward.", advice: null };
  return {
    name: "clock",
    status: "warning",
    text: `The newest entry is ${Math.round(ahead / 1000)} s ahead of the clock: it was set back.`,
    advice: "Let this machine's clock be kept by NTP (`timedatectl set-ntp true`).",
  };
}

/** What they send wrong costs nobody else anything; they themselves never say so. */
function checkFedml(faults: readonly Fault[]): Check {
  if (faults.length === 0)
    return {
      name: "fedml",
      status: "ok",
      text: "FedML's clients sent nothing wrong since the start.",
      advice: null,
    };
  return {
    name: "fedml",
    status: "warning",
    text: `Since the start, from FedML's clients: ${faults.map(({ text, count }) => `${count} × ${text}`).join("; ")}.`,
    advice: "See docs/fedml.md; `binnacle fedml env` prints what a script needs.",
  };
}
