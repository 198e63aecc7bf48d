export interface SendStats {
  online: boolean;
  /** Bytes of the spool file not yet delivered. */
  spooled: number;
  /** Items that found memory and spool full (or the disk). */
  dropped: { records: number; lines: number };
  /** Batches the collector will never take, and why the first was refused. */
  refused: number;
  /** Where they lie; undefined where none does. */
  refusedFile: string | undefined;
  error: Error | undefined;
}

export interface Delivery {
  /** Everything was answered 2xx (or refused for good). */
  delivered: boolean;
  /** The file that `binnacle sync` will send; undefined where nothing is left. */
  spool: string | undefined;
  stats: SendStats;
}
