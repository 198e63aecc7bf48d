import { CollectorError } from "../../error.ts";
import { createRefused, type SpoolLine } from "./spool.ts";

/** So much is kept, for a person to look at. */
const LIMIT_BYTES = 64 * 1024 * 1024;

/** What the collector will never take: counted, and kept beside the spool file. */
export class LaidAside {
  count = 0;
  /** Where it lies; undefined where nothing does, or the disk refused. */
  file: string | undefined;
  readonly #keep: (text: string) => Promise<string | undefined>;
  #last: string | undefined;

  constructor(spool: string) {
    this.#keep = createRefused(spool, LIMIT_BYTES);
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
      this.file = (await this.#keep(JSON.stringify(line)).catch(() => undefined)) ?? this.file;
    return this.count === 1;
  }
}
