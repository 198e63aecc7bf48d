import { CollectorError } from "../error.ts";
import { diskFull } from "../store/journal.ts";
import { runBlobJob, type BlobAnswer, type BlobJob } from "./blob-work.ts";

/** A worker costs memory: an idle collector has none. */
const IDLE_MS = 30_000;

export interface BlobWorker {
  /** Jobs are done one after another. A chunk's bytes are copied, unless the memory is shared. Throws what the answer says is wrong. */
  run(job: BlobJob): Promise<BlobAnswer & { ok: true }>;
  /** It keeps what it knows of files under way, however long nothing comes, until the function is called. */
  hold(): () => void;
  close(): void;
}

/** Where there is no worker to be had, the event loop does its work. */
export function createBlobWorker(onLost: (error: unknown) => void, idleMs = IDLE_MS): BlobWorker {
  let worker: Worker | undefined;
  let isLost = false;
  let holders = 0;
  let idle: ReturnType<typeof setTimeout> | undefined;
  const waiting: ((answer: BlobAnswer) => void)[] = [];

  function start(): Worker {
    const started = new Worker(new URL("./blob-worker.ts", import.meta.url), { type: "module" });
    started.addEventListener("message", ({ data }: MessageEvent<BlobAnswer>) => {
      waiting.shift()?.(data);
      stopLater();
    });
    started.addEventListener("error", (event) => {
      event.preventDefault();
      lose(new Error(`The blobs' worker failed: ${event.message}`, { cause: event.error }));
    });
    (started as { unref?: () => void }).unref?.();
    return started;
  }

  function stopLater(): void {
    clearTimeout(idle);
    if (worker && waiting.length + holders === 0) idle = setTimeout(stop, idleMs).unref();
  }

  function stop(): void {
    clearTimeout(idle);
    worker?.terminate();
    worker = undefined;
  }

  /** What was handed over with a job went with the worker: whoever waits is to ask again. */
  function lose(error: unknown): void {
    isLost = true;
    onLost(error);
    stop();
    for (const resolve of waiting.splice(0)) resolve({ ok: false, code: "lost", message: "" });
  }

  function post(job: BlobJob): Promise<BlobAnswer> {
    if (isLost) return Promise.resolve(runBlobJob(job));
    return new Promise((resolve) => {
      waiting.push(resolve);
      clearTimeout(idle);
      try {
        worker ??= start();
        worker.postMessage(job, []);
      } catch (error) {
        lose(error);
      }
    });
  }

  return {
    async run(job) {
      const answer = await post(job);
      if (answer.ok) return answer;
      if (answer.code === "disk-full") throw diskFull();
      if (answer.code === "lost")
        throw new CollectorError("busy", "That was interrupted.", { hint: "Send it again." });
      if (answer.code === "gone")
        throw new CollectorError("not-found", "That upload is not open.", { hint: "Open it again." });
      if (answer.code === "mismatch")
        throw new CollectorError("invalid", `The bytes do not fit their digest: ${answer.message}.`, {
          hint: "The file may have changed while it was read: send it anew.",
        });
      throw new CollectorError("internal", `A file could not be kept: ${answer.message}`);
    },
    hold() {
      holders++;
      return () => {
        holders--;
        stopLater();
      };
    },
    close: stop,
  };
}
