import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { binaryPath, loudly, remove, startBinary, type RunningBinary } from "./binary.ts";

const root = join(import.meta.dirname, "../..");

export const pythonFolder = join(root, "src/client/python");

export interface PythonVersion {
  version: string;
  path: string;
}

/** `python3` of the path, and what we support of pyenv's: every version, or with `few` the oldest and the newest. */
export function findPythons(few = false): PythonVersion[] {
  const found: PythonVersion[] = [{ version: "python3", path: "python3" }];
  const folder = join(homedir(), ".pyenv/versions");
  const minorOf = (name: string) => Number(/^3\.(\d+)\.\d+$/.exec(name)?.[1] ?? 0);
  const supported = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => minorOf(name) >= 8)
    .sort((a, b) => minorOf(a) - minorOf(b));
  if (supported.length === 0)
    loudly("the Python client runs on the path's python3 alone: no other versions (pyenv install 3.8 3.13)");
  for (const version of few ? new Set([supported.at(0), supported.at(-1)]) : supported)
    if (version !== undefined) found.push({ version, path: join(folder, version, "bin/python3") });
  return found;
}

export interface PythonOptions {
  python?: string;
  env?: Record<string, string | undefined>;
  /** Words after the program text. */
  args?: string[];
}

export interface PythonResult {
  code: number;
  signal: string | null;
  out: string;
  err: string;
}

export interface RunningPython {
  process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** What it has printed so far. */
  output(): string;
  /** Resolves once this text has been printed on stdout. */
  printed(text: string): Promise<void>;
  ended: Promise<PythonResult>;
}

/** Starts a script with our modules on its path. */
export function startPython(
  script: string,
  { python = "python3", env = {}, args = [] }: PythonOptions = {},
): RunningPython {
  const child = Bun.spawn([python, "-c", script, ...args], {
    env: {
      PATH: process.env["PATH"],
      HOME: process.env["HOME"],
      PYTHONPATH: pythonFolder,
      PYTHONDONTWRITEBYTECODE: "1",
      PYTHONUNBUFFERED: "1",
      // Nothing of a test may reach a collector of this machine.
      BINNACLE_URL: DEAD_URL,
      ...env,
    },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  let out = "";
  let waiting: { text: string; resolve: () => void }[] = [];
  const isDone = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      out += decoder.decode(chunk, { stream: true });
      waiting = waiting.filter(({ text, resolve }) => !out.includes(text) || resolve());
    }
  })();
  const err = new Response(child.stderr).text();
  const ended = (async () => {
    const code = await child.exited;
    await isDone;
    return { code, signal: child.signalCode as string | null, out, err: await err };
  })();
  return {
    process: child,
    output: () => out,
    ended,
    printed: (text) =>
      new Promise((resolve, reject) => {
        if (out.includes(text)) return resolve();
        waiting.push({ text, resolve });
        void ended.then(({ err: said }) =>
          reject(new Error(`It ended without printing ${text}:\n${out}\n${said}`)),
        );
      }),
  };
}

export const runPython = (script: string, options?: PythonOptions): Promise<PythonResult> => {
  const { process: child, ended } = startPython(script, options);
  void child.stdin.end();
  return ended;
};

/** Runs a script that must succeed, and returns what it printed. */
export async function python(script: string, options?: PythonOptions): Promise<string> {
  const { code, out, err } = await runPython(script, options);
  if (code !== 0) throw new Error(`exit code ${code}:\n${out}\n${err}`);
  return out;
}

/** Nobody listens on the discard port. */
export const DEAD_URL = "http://127.0.0.1:9";

export interface Item {
  step: number;
  time: number;
  x?: string[];
  metrics: Record<string, unknown>;
}

export interface Line {
  path: string;
  method?: string;
  // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
  body: any;
}

/** The requests that were kept on disk, file by file. */
export function spooled(folder: string): Line[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(".ndjson"))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1))
    .map((line) => JSON.parse(line) as Line);
}

export const spooledRecords = (folder: string): Item[] =>
  spooled(folder)
    .filter(({ path }) => path.endsWith("/records"))
    .flatMap(({ body }) => body.items as Item[]);

const fromSource = [process.execPath, join(root, "src/cli/main.ts")];

/** The binary in the place of the source: what people have. */
export const startCompiled = (): Promise<TestServer> => startServer(undefined, undefined, [binaryPath()]);

/** The real server, from source, on a data folder of its own. */
export async function startServer(
  dataDir: string = mkdtempSync(join(tmpdir(), "binnacle-python-")),
  port = "0",
  program: string[] = fromSource,
) {
  const server = await startBinary({ dataDir, program, args: ["--port", port] });
  const get = async (path: string) => {
    const response = await server.request(path);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    // eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
    return (await response.json()) as any;
  };
  return {
    ...server,
    dataDir,
    /** What a client on this machine needs to find it. */
    env: { BINNACLE_DATA: dataDir, BINNACLE_URL: undefined },
    get,
    run: (id: string) => get(`/api/v1/runs/${id}`),
    points: async (id: string, key: string, x = "step"): Promise<[number, unknown][]> =>
      (await get(`/api/v1/runs/${id}/points?key=${encodeURIComponent(key)}&x=${encodeURIComponent(x)}`))
        .points,
    keys: async (id: string): Promise<string[]> =>
      (await get(`/api/v1/runs/${id}/metrics`)).metrics.map(({ name }: { name: string }) => name),
    async remove() {
      await server.stop();
      remove(dataDir);
    },
  };
}

export type TestServer = Awaited<ReturnType<typeof startServer>> & RunningBinary;

export interface Sink {
  url: string;
  requests: { method: string; path: string; body: any }[]; // eslint-disable-line typescript/no-explicit-any
  /** How it answers from now on; undefined: as a collector would. */
  answer:
    | ((method: string, path: string, body: unknown) => Response | Promise<Response> | undefined)
    | undefined;
  stop(): void;
}

/** A stand-in that records what it receives and can be told to fail. */
export function createSink(): Sink {
  const seqByClient = new Map<string, number>();
  const sink: Sink = { url: "", requests: [], answer: undefined, stop: () => server.stop(true) };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const path = new URL(request.url).pathname;
      const body = request.method === "GET" ? undefined : ((await request.json()) as Record<string, unknown>);
      const answer = sink.answer?.(request.method, path, body);
      if (answer !== undefined) return answer;
      if (path.endsWith("/heartbeat"))
        return new Response(new ReadableStream({ start: (controller) => controller.enqueue(": \n\n") }), {
          headers: { "content-type": "text/event-stream" },
        });
      if (typeof body?.["seq"] === "number") {
        const client = String(body["client"]);
        const expected = (seqByClient.get(client) ?? 0) + 1;
        if (body["seq"] > expected) return Response.json({ title: "gap", expected }, { status: 409 });
        if (body["seq"] < expected) return Response.json({ acked: body["seq"] });
        seqByClient.set(client, expected);
      }
      sink.requests.push({ method: request.method, path, body });
      if (path === "/api/v1/runs") return Response.json({ ...body, name: "sink", next_step: 0, config: {} });
      return Response.json({});
    },
  });
  sink.url = `http://127.0.0.1:${server.port}`;
  return sink;
}
