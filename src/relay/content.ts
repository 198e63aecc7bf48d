import type { Collector } from "../collector.ts";
import { createBackOff } from "./back-off.ts";
import { ContentError, createContentSender, type Content } from "./content-send.ts";
import type { Http } from "./http.ts";
import { Refusal, type Clock, type Random } from "./ports.ts";
import { isForPerson } from "./trouble.ts";

const PAGE = 1000;
/** Digests that were announced and not looked at; beyond that all are looked through again. */
const MAX_ANNOUNCED = 20_000;
/** What a platform that relays further has not received itself is looked for so often. */
const PENDING_MS = 2000;
/** So often all is looked through though nothing is known to be missing. */
const LOOK_MS = 6 * 3600_000;
/** Names told of files that can't be sent. */
const MAX_NAMED = 3;

export interface ContentStatus {
  /**
   * Files that are not there yet, and their bytes: those that are still on their way here among them, those that can't be sent not.
   * null: the platform could not be asked yet.
   */
  files: number | null;
  bytes: number | null;
  /** What is wrong; null while nothing is. */
  error: string | null;
}

export interface ContentLane {
  /** undefined: nobody has tried to count yet. */
  status(): ContentStatus | undefined;
  /** All is to be looked through, and at once: the platform may lack what it had, or a person has mended something. */
  again(): void;
  /** Resolves when it has ended, after the signal. */
  ended: Promise<void>;
}

export interface ContentOptions {
  collector: Collector;
  http: Http;
  /** The installation's id. */
  source: () => string;
  clock: Clock;
  random: Random;
  onChange?: (() => void) | undefined;
}

/**
 * Brings the bytes of files to a platform, beside the ordered stream: it asks what is missing there, and sends that. What was sent
 * before a failure is not missing after it, so that nothing has to be kept of how far it came.
 */
export function startContent(
  { collector, http, source, clock, random, onChange = () => {} }: ContentOptions,
  signal: AbortSignal,
): ContentLane {
  const { connection, blobs, bus } = collector;
  const selectPage = connection.prepare(
    `SELECT sha256, max(size) AS size FROM artifact_file WHERE sha256 > ? GROUP BY sha256 ORDER BY sha256 LIMIT ${PAGE}`,
  );
  const selectOfRun = connection.prepare(
    `SELECT DISTINCT f.sha256, f.size FROM run_artifact AS r
     JOIN artifact_file AS f ON f.artifact = r.artifact AND f.version = r.version WHERE r.run = ?`,
  );
  const selectName = connection.prepare(
    `SELECT a.kind, a.name, f.version, f.path FROM artifact_file AS f JOIN artifact AS a ON a.id = f.artifact
     WHERE f.sha256 = ? LIMIT 1`,
  );
  const selectPending = connection.prepare("SELECT pending FROM blob WHERE sha256 = ?");
  let announced = new Map<string, number>();
  /** Named by a version, and not here: a platform's that relays further may be on their way. */
  const pending = new Map<string, number>();
  /** Why a file can't be sent, by its digest. */
  const refused = new Map<string, string>();
  let isToScan = true;
  let left: { files: number; bytes: number } | undefined;
  let failure: string | null = null;
  const pauses = createBackOff(random);
  let wake = () => {};
  let retry = () => {};

  const sender = createContentSender({
    blobs,
    http,
    source,
    signal,
    onSent({ sha256, size }) {
      refused.delete(sha256);
      takeOff(size);
    },
    onRefused: ({ sha256, size }, error) => {
      takeOff(size);
      refuse(sha256, error);
    },
  });

  const unsubscribe = bus.subscribe(({ kind, run, data }) => {
    if (kind === "artifact.logged") announce((data as { files?: Content[] }).files ?? []);
    else if (kind === "run.imported") announce(selectOfRun.all(run) as Content[]);
    else return;
    wake();
  });

  function announce(contents: readonly Content[]): void {
    for (const { sha256, size } of contents) announced.set(sha256, size);
    if (announced.size <= MAX_ANNOUNCED) return;
    announced = new Map();
    isToScan = true;
  }

  function takeOff(size: number): void {
    pauses.succeeded();
    failure = null;
    if (left) left = { files: Math.max(0, left.files - 1), bytes: Math.max(0, left.bytes - size) };
    onChange();
  }

  function refuse(sha256: string, { message }: ContentError): void {
    const named = selectName.get(sha256) as
      | { kind: string; name: string; version: number; path: string }
      | undefined;
    // Its version was deleted meanwhile.
    if (!named) return;
    refused.set(sha256, `${named.path} of the ${named.kind} ${named.name}:v${named.version} ${message}`);
  }

  function* pages(): Generator<Content[]> {
    for (let after = ""; ;) {
      const page = selectPage.all(after) as Content[];
      if (page.length > 0) yield page;
      if (page.length < PAGE) return;
      after = page.at(-1)!.sha256;
    }
  }

  /** Those that can be sent and are missing there. */
  async function missingOf(contents: readonly Content[]): Promise<Content[]> {
    const missing = await sender.missing(contents);
    return missing.filter(({ sha256, size }) => {
      pending.delete(sha256);
      if (blobs.has(sha256)) return true;
      if (isOnItsWay(sha256)) pending.set(sha256, size);
      else refuse(sha256, new ContentError("is damaged or gone here"));
      return false;
    });
  }

  const isOnItsWay = (sha256: string) =>
    (selectPending.get(sha256) as { pending: number } | undefined)?.pending === 1;

  /** Those that have come meanwhile, of as many as can be looked at in a few milliseconds. */
  function arrived(): Content[] {
    const here: Content[] = [];
    for (const [sha256, size] of [...pending].slice(0, PAGE)) {
      pending.delete(sha256);
      if (isOnItsWay(sha256)) pending.set(sha256, size);
      else here.push({ sha256, size });
    }
    return here;
  }

  async function sendAll(contents: readonly Content[]): Promise<void> {
    for (const content of contents) {
      signal.throwIfAborted();
      try {
        await sender.send(content);
      } catch (error) {
        if (!(error instanceof ContentError)) throw error;
        takeOff(content.size);
        refuse(content.sha256, error);
      }
    }
    await sender.flush();
  }

  /** Counted first, as whoever looks wants to know how much is left. */
  async function scan(): Promise<void> {
    isToScan = false;
    try {
      const found = { files: 0, bytes: 0 };
      pending.clear();
      refused.clear();
      for (const page of pages())
        for (const { size } of await missingOf(page)) {
          found.files++;
          found.bytes += size;
        }
      left = found;
      onChange();
      if (found.files > 0) for (const page of pages()) await sendAll(await missingOf(page));
      left = { files: 0, bytes: 0 };
    } catch (error) {
      isToScan = true;
      throw error;
    }
  }

  async function sendAnnounced(): Promise<void> {
    const taken = announced;
    announced = new Map();
    for (const { sha256, size } of arrived()) taken.set(sha256, size);
    try {
      const contents = [...taken].map(([sha256, size]): Content => ({ sha256, size }));
      for (let at = 0; at < contents.length; at += PAGE) {
        const missing = await missingOf(contents.slice(at, at + PAGE));
        const bytes = missing.reduce((sum, { size }) => sum + size, 0);
        // What an attempt before this one left is among them.
        const before = at === 0 ? undefined : left;
        left = { files: (before?.files ?? 0) + missing.length, bytes: (before?.bytes ?? 0) + bytes };
        onChange();
        await sendAll(missing);
      }
      left = { files: 0, bytes: 0 };
    } catch (error) {
      for (const [sha256, size] of taken) announced.set(sha256, size);
      throw error;
    }
  }

  /** False where somebody has ended it. */
  async function sleep(ms: number, isWoken = false): Promise<boolean> {
    const ended = new AbortController();
    const end = () => ended.abort();
    signal.addEventListener("abort", end, { once: true });
    retry = end;
    if (isWoken) wake = end;
    await clock.sleep(ms, ended.signal);
    retry = wake = () => {};
    signal.removeEventListener("abort", end);
    return !ended.signal.aborted;
  }

  /** Until something is announced; or, where bytes are on their way here, a while. */
  async function wait(): Promise<void> {
    const isLong = pending.size === 0;
    if ((await sleep(isLong ? LOOK_MS : PENDING_MS, true)) && isLong) isToScan = true;
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        if (isToScan) await scan();
        await sendAnnounced();
        pauses.succeeded();
        failure = null;
        onChange();
        if (!isToScan && announced.size === 0 && !signal.aborted) await wait();
      } catch (error) {
        if (signal.aborted) return;
        failure = (error as Error).message;
        onChange();
        const retryAfter = error instanceof Refusal ? error.retryAfterMs : undefined;
        const pause = isForPerson(error) ? pauses.paused(retryAfter) : pauses.next(retryAfter);
        await sleep(pause);
      }
    }
  }

  function errorText(): string | null {
    if (failure !== null) return failure;
    if (refused.size === 0) return null;
    const named = [...refused.values()].slice(0, MAX_NAMED).join("; ");
    return refused.size > MAX_NAMED ? `${named}; and ${refused.size - MAX_NAMED} more` : named;
  }

  return {
    status() {
      // What keeps it from being asked has to be seen: nothing else tells of it where entries get through.
      if (!left) return failure === null ? undefined : { files: null, bytes: null, error: failure };
      const waiting = [...pending.values()].reduce((sum, size) => sum + size, 0);
      return { files: left.files + pending.size, bytes: left.bytes + waiting, error: errorText() };
    },
    again() {
      isToScan = true;
      retry();
    },
    ended: run().finally(unsubscribe),
  };
}
