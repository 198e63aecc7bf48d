/** (Apart from the schemas: the worker has no use for zod, which costs it megabytes.) */

/** Pieces of a file, the last one shorter. Digest, transfer and resumption go by them. */
export const CHUNK_BYTES = 8 * 1024 * 1024;
/** Files up to here travel many in a request and lie in the database: each as a file of its own would cost an fsync. */
export const SMALL_BYTES = 64 * 1024;
/** 4 TB: the digests of more pieces would not fit into the body that opens an upload. */
export const MAX_FILE_BYTES = 480_000 * CHUNK_BYTES;
