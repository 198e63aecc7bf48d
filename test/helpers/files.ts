import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { serve, type Server } from "../../src/runtime.ts";
import { createTestCollector, type TestCollector } from "./collector.ts";

/** A real collector that listens, and counts what comes. */
export interface FilesServer {
  readonly at: TestCollector;
  readonly url: string;
  /** Path and query of each request, with its method, in order. */
  readonly requests: string[];
  /** Bytes of all bodies that came. */
  readonly received: () => number;
  connection(): { url: string; token: string };
  /** Answers in the place of the collector, where it answers at all. */
  intercept(answer: ((request: Request) => Response | Promise<Response> | undefined) | undefined): void;
  stopListening(): Promise<void>;
  /** On the same port, with the same data folder. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function serveFiles(): Promise<FilesServer> {
  let at = createTestCollector();
  let answer: ((request: Request) => Response | Promise<Response> | undefined) | undefined;
  let received = 0;
  const requests: string[] = [];
  const listen = (port: number): Server =>
    serve({
      hostname: "127.0.0.1",
      port,
      fetch(request, connection) {
        const { pathname, search } = new URL(request.url);
        requests.push(`${request.method} ${pathname}${search}`);
        received += Number(request.headers.get("content-length") ?? 0);
        return answer?.(request) ?? at.app.fetch(request, connection);
      },
    });
  let server: Server | undefined = listen(0);
  const { port } = server;
  const url = `http://127.0.0.1:${port}`;
  async function stopListening(): Promise<void> {
    await server?.stop(0);
    server = undefined;
  }
  return {
    get at() {
      return at;
    },
    url,
    requests,
    received: () => received,
    connection: () => ({ url, token: at.trust.tokens.admin }),
    intercept: (next) => void (answer = next),
    stopListening,
    async restart() {
      await stopListening();
      at = await at.restart();
      server = listen(port);
    },
    async close() {
      await stopListening();
      await at.close();
    },
  };
}

export interface Folder {
  path: string;
  /** Writes a file, its folders made; returns where it lies. */
  write(name: string, content: string | Uint8Array): string;
  remove(): void;
}

export function makeFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), "binnacle-files-"));
  return {
    path,
    write(name, content) {
      const file = join(path, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, content);
      return file;
    },
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Every file below a folder, with its content's digest. */
export function filesIn(folder: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of readdirSync(folder, { recursive: true }) as string[])
    if (statSync(join(folder, name)).isFile())
      files[name] = new Bun.CryptoHasher("sha256").update(readFileSync(join(folder, name))).digest("hex");
  return files;
}

/** Bytes that differ in every chunk, and are the same for the same seed. */
export function bytesOf(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  const words = new Uint32Array(bytes.buffer, 0, size >> 2);
  let state = seed * 2654435761;
  for (let at = 0; at < words.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[at] = state;
  }
  return bytes;
}
