import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { diskFull } from "../store/journal.ts";

/** A sender that is silent for so long has gone. */
const SILENCE_MS = 60_000;
/** Between two looks whether there is room. */
const LOOK_BYTES = 16 * 1024 * 1024;

/** A folder for what an import has under way; the next start removes what a crash leaves. */
export function createImportFolder({ dataDir }: Collector): { path: string; remove(): void } {
  const path = join(dataDir, "imports", randomBytes(8).toString("hex"));
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Throws where so many bytes more would not be taken. */
export function requireRoom({ quota }: Collector, bytes: number): void {
  const { refusing, freeBytes } = quota.status();
  if (refusing === null && bytes <= freeBytes) return;
  throw noRoom(
    refusing === null
      ? "The archive needs more room than the disk has."
      : `Nothing was imported: ${refusing}.`,
  );
}

const HINT = "Free some space, or delete runs (`binnacle run delete`), and import again.";
const noRoom = (message: string, cause?: unknown) =>
  new CollectorError("disk-full", message, { hint: HINT, cause });

/** What a full disk means to who imports: there is no client here that keeps the data and sends it again. */
export function asImport(error: unknown): unknown {
  if (!(error instanceof CollectorError) || error.code !== "disk-full" || error.hint === HINT) return error;
  return noRoom("The disk is full: nothing was imported.", error);
}

/** Writes what comes to a file, as fast as the disk takes it. */
export async function receive(
  collector: Collector,
  body: ReadableStream<Uint8Array>,
  path: string,
): Promise<number> {
  const descriptor = openSync(path, "wx", 0o600);
  const reader = body.getReader();
  let size = 0;
  let looked = 0;
  try {
    for (;;) {
      const { value, done } = await soon(reader.read());
      if (done) return size;
      write(descriptor, value);
      size += value.length;
      if (size - looked < LOOK_BYTES) continue;
      looked = size;
      requireRoom(collector, 0);
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch (error) {
    void reader.cancel().catch(() => {});
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("invalid", "The archive was not sent to its end.", {
      hint: "Nothing was imported. Send it again.",
      cause: error,
    });
  } finally {
    closeSync(descriptor);
  }
}

export function write(descriptor: number, bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === "ENOSPC" || code === "EDQUOT" ? diskFull(error) : error;
  }
}

async function soon<T>(read: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("silence")), SILENCE_MS);
    timer.unref();
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}
