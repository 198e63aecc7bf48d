import type { Blobs } from "../../blob/blobs.ts";
import { CollectorError } from "../../error.ts";
import { createBackOff } from "../back-off.ts";
import type { ContentStatus } from "../content.ts";
import type { Frame } from "../contract.ts";
import { RefusedOne } from "../foreign.ts";
import { printable } from "../http.ts";
import { Refusal, type Clock, type DeadLetter, type Random } from "../ports.ts";
import { artifactMessages, keyOf, readVersion, zipOf, zipSize, type Version } from "./artifact.ts";
import type { Message } from "./message.ts";
import type { UploadQueue } from "./queue.ts";
import { MAX_OBJECT, type Storage } from "./storage.ts";

/** Bytes that are still on their way here are looked for so often. */
const PENDING_MS = 5000;
const IDLE_MS = 3600_000;

export interface UploadsOptions {
  queue: UploadQueue;
  blobs: Pick<Blobs, "has" | "isPending" | "read">;
  storage: (signal: AbortSignal) => Promise<Storage>;
  /** Makes what publishes them, and goes on where it was when it is called again. */
  publish: (messages: Message[]) => Announce;
  /** What went wrong may be in what the platform told of itself. */
  onFailed: () => void;
  bury: (letter: DeadLetter) => void;
  clock: Clock;
  random: Random;
}

type Announce = (signal: AbortSignal) => Promise<void>;

export interface Uploads {
  status(): ContentStatus;
  /** There is something in the queue, or it is to be tried at once. */
  wake(): void;
  ended: Promise<void>;
}

interface Queued {
  place: number;
  frame: Frame;
}

/** What one version alone is the reason for; the others can go. */
class Unsendable extends Error {}

/** Brings files to the platform's storage and says so, one version after another, beside the ordered entries: a large one holds up none. */
export function startUploads(options: UploadsOptions, signal: AbortSignal): Uploads {
  const { queue, blobs, storage, publish, onFailed, bury, clock, random } = options;
  const pauses = createBackOff(random);
  /** By their places, of versions whose files are there: they are not uploaded again. */
  const announceAt = new Map<number, Announce>();
  let failure: string | null = null;
  let wake = () => {};
  let isWoken = false;

  /** False: its bytes are still on their way here. */
  async function send({ place, frame }: Queued): Promise<boolean> {
    let announce = announceAt.get(place);
    if (!announce) {
      const url = await upload(frame);
      if (url === undefined) return false;
      announceAt.set(place, (announce = publish(artifactMessages(readVersion(frame), url))));
    }
    await announce(signal);
    return true;
  }

  /** Resolves with the address; undefined: likewise. */
  async function upload(frame: Frame): Promise<string | undefined> {
    const version = readVersion(frame);
    const missing = version.files.find(({ sha256 }) => !blobs.has(sha256));
    if (missing && blobs.isPending(missing.sha256)) return undefined;
    if (missing) throw new Unsendable(`${missing.path} is damaged or gone here`);
    const size = zipSize(version);
    if (size > MAX_OBJECT) throw new Unsendable("it is larger than the storage takes");
    return put(version, size);
  }

  async function put(version: Version, size: number): Promise<string> {
    try {
      const to = await storage(signal);
      return await to.put(keyOf(version), { bytes: () => zipOf(version, blobs as Blobs), size }, signal);
    } catch (error) {
      const isOurs = error instanceof CollectorError && ["damaged", "not-found"].includes(error.code);
      throw isOurs ? new Unsendable(error.message) : error;
    }
  }

  /** Resolves with whether some wait for their bytes. */
  async function sendAll(): Promise<boolean> {
    let isWaiting = false;
    const doubted: { of: Queued; error: RefusedOne }[] = [];
    for (let next = queue.next(); next && !signal.aborted; next = queue.next(next.place)) {
      try {
        if (!(await send(next))) {
          isWaiting = true;
          continue;
        }
        remove(next);
        // Another one is taken: it is about them.
        for (const { of, error } of doubted.splice(0)) await giveUp(of, error);
      } catch (error) {
        if (signal.aborted || !isForGood(error)) throw error;
        if (isGuess(error)) {
          doubted.push({ of: next, error });
          continue;
        }
        await giveUp(next, error as Error);
      }
    }
    if (doubted[0]) throw doubted[0].error;
    return isWaiting;
  }

  async function giveUp(of: Queued, error: Error): Promise<void> {
    const { frame } = of;
    const type = error instanceof Refusal ? error.type : "unreadable";
    bury({ frame, type, detail: printable(error.message, 500) });
    // From here on it may stand there again, at the same place: a person has looked.
    remove(of);
    if (!(error instanceof Unsendable))
      await storage(signal)
        .then((at) => at.giveUp(keyOf(readVersion(frame)), signal))
        .catch(() => {});
  }

  /** It waits no longer, and with it goes what held it up: not after a storage far away has been told, or none waits and an error stands. */
  function remove({ place }: Queued): void {
    queue.remove(place);
    announceAt.delete(place);
    pauses.succeeded();
    failure = null;
  }

  async function sleep(ms: number): Promise<void> {
    if (isWoken) return void (isWoken = false);
    const ended = new AbortController();
    const end = () => ended.abort();
    signal.addEventListener("abort", end, { once: true });
    wake = end;
    if (!signal.aborted) await clock.sleep(ms, ended.signal);
    wake = () => {};
    isWoken = false;
    signal.removeEventListener("abort", end);
  }

  async function run(): Promise<void> {
    while (!signal.aborted)
      try {
        const isWaiting = await sendAll();
        failure = null;
        pauses.succeeded();
        await sleep(isWaiting ? PENDING_MS : IDLE_MS);
      } catch (error) {
        if (signal.aborted) return;
        onFailed();
        failure = printable(error instanceof Error ? error.message : String(error), 500);
        await sleep(pauses.next(error instanceof Refusal ? error.retryAfterMs : undefined));
      }
  }

  return {
    status: () => ({ ...queue.left(), error: failure }),
    wake() {
      isWoken = true;
      wake();
    },
    ended: run(),
  };
}

/** Nobody said so: a broker whose disk is full hangs up on anything. */
const isGuess = (error: unknown): error is RefusedOne =>
  error instanceof RefusedOne && error.guess !== undefined && !error.guess.hasTaken;

/** Keys and buckets are told anew, and a person can mend them; what is wrong with a request stays so. */
const isForGood = (error: unknown): boolean =>
  error instanceof Unsendable ||
  error instanceof SyntaxError ||
  (error instanceof Refusal &&
    [400, 405, 409, 411, 412, 413, 414, 416, 422, 501].includes(error.status) &&
    !OF_KEYS.test(error.message));

/** S3 says 400 to these, too. */
const OF_KEYS = /AuthorizationHeaderMalformed|Expired|RequestTimeout|InvalidToken|IncompleteBody|BadDigest/;
