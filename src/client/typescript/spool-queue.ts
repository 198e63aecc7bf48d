import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { openSpool, spoolName, type SpoolFile, type SpoolLine } from "./spool.ts";

/** A client's spool file as a queue: written at its end, sent from its start while the client lives. */
export interface SpoolQueue {
  readonly path: string;
  /** Bytes not yet delivered. */
  readonly pending: number;
  /** False where it is full, until everything is delivered, or the disk refuses. A last word (`always`) may exceed the bound. */
  push(line: SpoolLine, options?: { always?: boolean }): boolean;
  /** The oldest line; undefined where there is none, or it is damaged. */
  peek(): SpoolLine | undefined;
  /** The oldest line is delivered. */
  shift(): void;
  close(options: { discard: boolean }): void;
}

export interface SpoolQueueOptions {
  /** What must be sent before anything else in the file: the creation of the run. */
  first: SpoolLine;
  maxBytes: number;
}

const READ_BYTES = 1024 * 1024;

/** The file is made when the first line comes. */
export function createSpoolQueue(
  dir: string,
  run: string,
  client: string,
  { first, maxBytes }: SpoolQueueOptions,
): SpoolQueue {
  const path = join(dir, spoolName(run, client));
  let file: SpoolFile | undefined;
  let readFd: number | undefined;
  let offset = 0;
  let full = false;
  let closed = false;
  /** Read ahead, from `offset` on. */
  let ahead = Buffer.alloc(0);
  let lineLength = 0;

  function append(lines: SpoolLine[]): boolean {
    try {
      file ??= openSpool(dir, run, client);
      file.append(lines);
      return true;
    } catch {
      return false;
    }
  }

  const pending = () => (file?.bytes ?? 0) - offset;

  /** Bytes of the oldest line, its end included, read into `ahead`. */
  function readLine(): Buffer {
    readFd ??= openSync(path, "r");
    for (let searched = 0; ;) {
      const end = ahead.indexOf(10, searched);
      if (end >= 0) return ahead.subarray(0, end + 1);
      searched = ahead.length;
      const more = Buffer.allocUnsafe(READ_BYTES);
      const length = readSync(readFd, more, 0, READ_BYTES, offset + ahead.length);
      if (length === 0) return ahead;
      ahead = Buffer.concat([ahead, more.subarray(0, length)]);
    }
  }

  return {
    path,
    get pending() {
      return pending();
    },
    push(line, { always = false } = {}) {
      if (closed || (full && !always)) return false;
      const lines = (file?.bytes ?? 0) === 0 ? [first, line] : [line];
      const taken = append(lines);
      // A disk that refused this line may take the next one.
      if (taken) full = file!.bytes >= maxBytes;
      return taken;
    },
    peek() {
      const bytes = readLine();
      lineLength = bytes.length;
      try {
        return JSON.parse(bytes.toString()) as SpoolLine;
      } catch {
        return undefined;
      }
    },
    shift() {
      if (closed) return;
      offset += lineLength;
      ahead = ahead.subarray(lineLength);
      lineLength = 0;
      if (!file || offset < file.bytes) return;
      file.truncate();
      offset = 0;
      ahead = Buffer.alloc(0);
      full = false;
    },
    close(options) {
      closed = true;
      if (readFd !== undefined) closeSync(readFd);
      file?.close(options);
    },
  };
}
