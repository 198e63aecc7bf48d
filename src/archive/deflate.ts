import { createDeflateRaw, createGzip } from "node:zlib";

/** Of what comes out. */
const PIECE = 64 * 1024;

const LEVEL = 1;

/**
 * In the place of the web's CompressionStream, which knows no levels. zip.js has a module of its own for them, which leaves a
 * hundred megabytes to the collector of garbage.
 */
export class FastCompressionStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;

  constructor(format: string) {
    const options = { level: LEVEL, chunkSize: PIECE };
    const codec = format === "gzip" ? createGzip(options) : createDeflateRaw(options);
    // Told to whoever reads; without a listener it would end the process.
    codec.on("error", () => {});
    const written = (send: (done: (error?: Error | null) => void) => void) =>
      new Promise<void>((resolve, reject) => send((error) => (error ? reject(error) : resolve())));
    this.writable = new WritableStream({
      write: (piece) => written((done) => codec.write(piece, done)),
      close: () => written((done) => codec.end(done)),
      abort: (error) => void codec.destroy(error as Error),
    });
    const pieces = codec[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.readable = new ReadableStream(
      {
        async pull(controller) {
          const { value, done } = await pieces.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => void codec.destroy(),
      },
      { highWaterMark: 0 },
    );
  }
}
