import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
let built: string | undefined;

/** dist/binnacle, built first if it is older than the sources. */
export function binaryPath(): string {
  if (built !== undefined) return built;
  const { exitCode, stderr } = Bun.spawnSync(["node", join(root, ".ci/setup.mjs")], { cwd: root });
  if (exitCode !== 0) throw new Error(stderr.toString());
  return (built = join(root, "dist/binnacle"));
}

/** A folder outside /tmp, which some tests make unusable. */
export function varFolder(prefix = "binnacle-"): string {
  return mkdtempSync(join("/var/tmp", prefix));
}

export function temporaryFolder(prefix = "binnacle-"): string {
  return mkdtempSync(join(tmpdir(), prefix));
}

/** A copy of the binary that any user may run: the checkout may be closed to others, or hidden by a mount over /tmp. */
export function binaryForAnyone(): { path: string; folder: string } {
  const folder = varFolder();
  const path = join(folder, "binnacle");
  copyFileSync(binaryPath(), path);
  chmodSync(folder, 0o755);
  chmodSync(path, 0o755);
  return { path, folder };
}

export interface StartOptions {
  dataDir: string;
  cwd?: string;
  /** The whole environment but for BINNACLE_DATA. */
  env?: Record<string, string>;
  /** Words before the binary's name: `setpriv …`, `unshare …`. */
  wrap?: string[];
  args?: string[];
  /** What is started in the place of dist/binnacle. */
  program?: string[];
}

export interface RunningBinary {
  url: string;
  token: string;
  process: Bun.Subprocess;
  /** What it has printed so far. */
  output(): string;
  request(path: string, body?: unknown): Promise<Response>;
  /** SIGTERM, and its exit code. */
  stop(): Promise<number>;
}

/** Starts `binnacle start` on a port of the system's choice and waits until it has printed its link. */
export async function startBinary({
  dataDir,
  cwd = dataDir,
  env = {},
  wrap = [],
  args = [],
  program = [binaryPath()],
}: StartOptions): Promise<RunningBinary> {
  const command = [...wrap, ...program, "start", "--port", "0", ...args];
  const child = Bun.spawn(command, {
    cwd,
    env: { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", BINNACLE_DATA: dataDir, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  let output = "";
  const link = Promise.withResolvers<string>();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      output += decoder.decode(chunk, { stream: true });
      const found = /https?:\/\/[^\s/]+:\d+/.exec(output);
      if (found !== null) link.resolve(found[0]);
    }
  };
  const ended = Promise.all([read(child.stdout), read(child.stderr)]);
  void child.exited.then(async (code) => {
    await ended;
    link.reject(new Error(`${command.join(" ")} ended with ${code}:\n${output}`));
  });
  const url = await link.promise;
  const token = await Bun.file(join(dataDir, "token")).text();
  return {
    url,
    token: token.trim(),
    process: child,
    output: () => output,
    request: (path, body) =>
      fetch(url + path, {
        headers: {
          authorization: `Bearer ${token.trim()}`,
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
      }),
    async stop() {
      child.kill("SIGTERM");
      return child.exited;
    },
  };
}

/** Posts a run of `values` for one key and reads them back, arrival order. */
export async function postAndRead(collector: RunningBinary, id: string, values: number[]): Promise<number[]> {
  const answered = async (response: Response) => {
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response.json();
  };
  await answered(await collector.request("/api/v1/runs", { id }));
  const client = crypto.randomUUID().replaceAll("-", "");
  await answered(
    await collector.request(`/api/v1/runs/${id}/records`, {
      client,
      seq: 1,
      items: values.map((loss) => ({ metrics: { loss } })),
    }),
  );
  return readBack(collector, id);
}

export async function readBack(collector: RunningBinary, id: string): Promise<number[]> {
  const response = await collector.request(`/api/v1/runs/${id}/points?key=loss`);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  const { points } = (await response.json()) as { points: [number, number][] };
  return points.map(([, y]) => y);
}

export const remove = (...folders: string[]) =>
  folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));

/** `bun run verify` tests what needs no network. */
export const offline = process.env["OFFLINE"] !== undefined;

/** Says why a test can't run here, where nobody can overlook it. */
export function loudly(reason: string): true {
  process.stderr.write(`\n*** SKIPPED: ${reason} ***\n`);
  return true;
}
