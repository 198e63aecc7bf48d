/**
 * The only file that knows which runtime this is. Everything else keeps to node: built-ins and web standards.
 */

import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

export interface ServeOptions {
  hostname: string;
  /** 0: the system chooses. */
  port: number;
  tls?: { cert: string; key: string } | undefined;
  fetch(request: Request, connection: ServedConnection): Response | Promise<Response>;
}

export interface ServedConnection {
  /** The caller's address. */
  remote: string | undefined;
  remotePort: number | undefined;
  /** Lifts the idle limit of this connection. */
  keepOpen(request: Request): void;
}

export interface Server {
  port: number;
  /** Takes no more connections; resolves when those there are have ended, at the latest after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** A request may be idle so long, in seconds; slow-drip clients are cut off by it. */
const IDLE_TIMEOUT = 15;
/** Above any limit of ours, which answers with a reason; this one only says 413. Archives of runs may be as large as the disk. */
const MAX_REQUEST_BYTES = 64 * 1024 ** 4;

interface DenoNet {
  serve(
    options: Record<string, unknown>,
    handler: (
      request: Request,
      info: { remoteAddr: { hostname: string; port: number } },
    ) => Response | Promise<Response>,
  ): { addr: { port: number }; shutdown(): Promise<void>; finished: Promise<void> };
}

export function serve(options: ServeOptions): Server {
  const { Deno } = globalThis as { Deno?: DenoNet };
  return Deno ? serveOnDeno(Deno, options) : serveOnBun(options);
}

function serveOnBun({ hostname, port, tls, fetch }: ServeOptions): Server {
  const server = Bun.serve({
    hostname,
    port,
    ...(tls && { tls }),
    idleTimeout: IDLE_TIMEOUT,
    maxRequestBodySize: MAX_REQUEST_BYTES,
    development: false,
    // Without development Bun shares the port, and a second collector would silently take half of the requests.
    reusePort: false,
    fetch(request, server) {
      return fetch(request, {
        get remote() {
          return server.requestIP(request)?.address;
        },
        get remotePort() {
          return server.requestIP(request)?.port;
        },
        keepOpen: (held) => server.timeout(held, 0),
      });
    },
  });
  return {
    port: server.port ?? port,
    async stop(graceMs) {
      await withinGrace(server.stop(false), graceMs);
      await server.stop(true);
    },
  };
}

function serveOnDeno(deno: DenoNet, { hostname, port, tls, fetch }: ServeOptions): Server {
  const ending = new AbortController();
  const server = deno.serve(
    { hostname, port, ...tls, signal: ending.signal, onListen: () => {} },
    (request, { remoteAddr }) =>
      fetch(request, { remote: remoteAddr.hostname, remotePort: remoteAddr.port, keepOpen: () => {} }),
  );
  return {
    port: server.addr.port,
    async stop(graceMs) {
      let drained = false;
      await withinGrace(
        server.shutdown().then(() => void (drained = true)),
        graceMs,
      );
      // A server that has shut down throws "Bad resource ID" when aborted.
      if (!drained) ending.abort();
      await server.finished;
    },
  };
}

function withinGrace(ended: Promise<void>, graceMs: number): Promise<void> {
  return Promise.race([ended, new Promise<void>((resolve) => setTimeout(resolve, graceMs).unref())]);
}

/** What the heap takes for the machine's memory: below a quarter of it it doubles before garbage is looked for, above it grows by less. */
const HEAP_BYTES = 256 * 1024 * 1024;
const HEAP_VARIABLE = "BUN_JSC_forceRAMSize";

/**
 * Starts the binary once more in its own place, as its heap is measured by the environment alone and at the begin: 80 MB of what a busy
 * collector holds would else be garbage. What cannot be had so goes on as it is.
 */
export function measureHeap(): void {
  const { env, argv0, argv, execPath } = process;
  if (!import.meta.url.includes("$bunfs") || env[HEAP_VARIABLE] !== undefined) return;
  const { emitWarning } = process;
  // It is said to be experimental to whoever looks at our output.
  process.emitWarning = () => {};
  try {
    process.execve?.(execPath, [argv0, ...argv.slice(2)], { ...env, [HEAP_VARIABLE]: String(HEAP_BYTES) });
  } catch {
    process.emitWarning = emitWarning;
  }
}

interface BunFile {
  file(path: string): Blob;
}

/** A part of a file as a body that is sent without passing through memory; undefined where that can't be had. */
export const fileBody = (path: string, start: number, end: number): Blob | undefined =>
  (globalThis as { Bun?: BunFile }).Bun?.file(path).slice(start, end);

interface BunZstd {
  zstdCompressSync(bytes: Uint8Array, options: { level: number }): Uint8Array;
  zstdDecompressSync(bytes: Uint8Array): Uint8Array;
}

const { Bun: bun } = globalThis as { Bun?: BunZstd };
const level = 1;
const options = { params: { [constants.ZSTD_c_compressionLevel]: level } };

/** Bun's own is two to five times as fast as its node:zlib, which sets up a stream for every call. */
export const zstdCompress = (bytes: Uint8Array): Uint8Array =>
  bun ? bun.zstdCompressSync(bytes, { level }) : zstdCompressSync(bytes, options);

export const zstdDecompress = (bytes: Uint8Array): Uint8Array =>
  bun ? bun.zstdDecompressSync(bytes) : zstdDecompressSync(bytes);

/** How a request goes out, beyond what fetch takes. */
export interface SendOptions {
  /** Trusted in the place of the system's authorities, PEM. */
  ca?: string | undefined;
  /** Past any proxy: loopback is no proxy's business. */
  direct?: boolean;
}

interface DenoClient {
  createHttpClient(options: { caCerts: string[] }): unknown;
}

const clientByCa = new Map<string, unknown>();

/** fetch as we send to other machines: no redirects, and the bytes of the answer as they came. */
export function send(url: string, init: RequestInit, { ca, direct = false }: SendOptions): Promise<Response> {
  const { Deno } = globalThis as { Deno?: DenoClient };
  const options: Record<string, unknown> = { ...init, redirect: "manual" };
  if (!Deno) {
    Object.assign(options, { decompress: false, timeout: false });
    if (ca !== undefined) options["tls"] = { ca };
    if (direct) options["proxy"] = false;
  } else if (ca !== undefined) {
    if (!clientByCa.has(ca)) clientByCa.set(ca, Deno.createHttpClient({ caCerts: [ca] }));
    options["client"] = clientByCa.get(ca);
  }
  return fetch(url, options as RequestInit);
}
