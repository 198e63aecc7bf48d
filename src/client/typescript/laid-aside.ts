import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { CollectorError } from "../../error.ts";
import type { SpoolLine } from "./spool.ts";

/** So much is kept, for a person to look at. */
const LIMIT_BYTES = 64 * 1024 * 1024;

/** What the collector will never take: counted, and kept beside the spool file. */
export class LaidAside {
  count = 0;
  /** Where it lies; undefined where nothing does, or the disk refused. */
  file: string | undefined;
  readonly #path: string;
  #last: string | undefined;

  constructor(spool: string) {
    this.#path = `${spool}.refused`;
  }

  /**
   * Once, though a batch comes again whose number could not be filled. Of a run that was deleted nothing is kept. Returns whether
   * it is the first.
   */
  async add(line: SpoolLine, error: unknown): Promise<boolean> {
    const { seq } = line.body;
    const batch = seq === undefined ? undefined : `${line.path} ${String(seq)}`;
    if (batch !== undefined && batch === this.#last) return false;
    this.#last = batch;
    this.count++;
    if (!(error instanceof CollectorError && error.code === "gone"))
      await this.#append(Buffer.from(`${JSON.stringify(line)}\n`)).catch(() => {});
    return this.count === 1;
  }

  async #append(bytes: Buffer): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    const file = await open(this.#path, "a", 0o600);
    try {
      if ((await file.stat()).size + bytes.length > LIMIT_BYTES) return;
      await file.appendFile(bytes);
      this.file = this.#path;
    } finally {
      await file.close();
    }
  }
}
