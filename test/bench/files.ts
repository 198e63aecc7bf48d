/** Files: a large one and many small ones through the command line, beside what a disk and other servers do with them. */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { connect, createServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRandom } from "./load.ts";
import type { Figures, Options } from "./measures.ts";
import { createVenv, startPeer } from "./peers.ts";
import { freePort, startServer, until, type Server } from "./server.ts";
import { median, memoryMiB } from "./statistics.ts";

const binary = join(import.meta.dirname, "../../dist/binnacle");
const SMALL_FILES = 10_000;
const LARGE_ROUNDS = 3;

/** A gigabyte; a tenth of it with --quick. */
const largeBytes = ({ million }: Options) => million * 1000;

/**
 * In turns, on the same disk: `cp` followed by `sha256sum`, and `binnacle model put` of a file that the collector has not seen.
 */
export async function largeFile(options: Options): Promise<Figures> {
  const size = largeBytes(options);
  const work = mkdtempSync(join(tmpdir(), "bench-files-"));
  const server = await startServer();
  try {
    const file = join(work, "large.bin");
    const rates: number[] = [];
    const references: number[] = [];
    for (let round = 0; round < LARGE_ROUNDS; round++) {
      writeRandom(file, size, round);
      // What was just written is not to be paid for by whoever comes first.
      execFileSync("sync");
      references.push(
        size /
          1e6 /
          seconds(() => {
            execFileSync("cp", [file, join(work, "copy.bin")]);
            execFileSync("sha256sum", [join(work, "copy.bin")]);
          }),
      );
      rmSync(join(work, "copy.bin"));
      execFileSync("sync");
      rates.push(size / 1e6 / (await put(server, "model", "large", file)).seconds);
    }
    const { peak } = memoryMiB(server.pid);
    return {
      rate: median(rates),
      copy: median(references),
      // Of each round, as both met the same disk then.
      ratio: median(rates.map((rate, round) => rate / references[round]!)),
      peak,
      again: await bytesOfSecond(server, file),
    };
  } finally {
    await server.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/** Bytes that go to the collector, heads and all, where it has the file already; counted between the two. */
async function bytesOfSecond(server: Server, file: string): Promise<number> {
  const counter = await countingProxy(server.port);
  try {
    await put({ ...server, port: counter.port }, "model", "again", file);
    return counter.sent();
  } finally {
    counter.close();
  }
}

/** Ten thousand files of 1 to 8 KiB in a hundred folders, as one artifact. */
export async function smallFiles({ million }: Options): Promise<Figures> {
  const count = million < 1_000_000 ? SMALL_FILES / 10 : SMALL_FILES;
  const work = mkdtempSync(join(tmpdir(), "bench-files-"));
  const server = await startServer();
  try {
    writeSmall(join(work, "many"), count, 1);
    execFileSync("sync");
    const took = await put(server, "artifact", "many", join(work, "many"));
    const { peak } = memoryMiB(server.pid);
    const again = await put(server, "artifact", "again", join(work, "many"));
    execFileSync("sync");
    const fetched = await binnacle(server, ["artifact", "get", "many", "-o", join(work, "fetched")]);
    return {
      rate: count / took.seconds,
      again: count / again.seconds,
      fetched: count / fetched.seconds,
      peak,
    };
  } finally {
    await server.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/** MLflow's `log_artifact` to its own server, which keeps the files on the same disk. */
export async function measureFilePeers(options: Options): Promise<Record<string, Figures>> {
  const venv = createVenv();
  const work = mkdtempSync(join(tmpdir(), "bench-peers-"));
  const port = await freePort();
  const peer = startPeer(
    join(venv, "bin/mlflow"),
    [
      "server",
      `--backend-store-uri=sqlite:///${join(work, "mlflow.db")}`,
      `--artifacts-destination=${join(work, "artifacts")}`,
      `--port=${port}`,
      "--workers=2",
    ],
    port,
    { HOME: work, PATH: `${join(venv, "bin")}:${process.env.PATH}` },
  );
  try {
    await until(async () => void (await (await fetch(`http://127.0.0.1:${port}/health`)).text()), {
      timeout: 120_000,
    }).catch((error) => {
      throw new Error(`mlflow did not start: ${peer.output()}`, { cause: error });
    });
    const size = largeBytes(options);
    // Each file is a request that it takes long for: a hundredth of the files says as much.
    const count = SMALL_FILES / 100;
    writeRandom(join(work, "large.bin"), size, 9);
    writeSmall(join(work, "many"), count, 2);
    execFileSync("sync");
    const output = execFileSync(
      join(venv, "bin/python"),
      [join(import.meta.dirname, "python-peers/mlflow_artifacts.py"), `http://127.0.0.1:${port}`, work],
      { encoding: "utf8", env: { ...process.env, HOME: work }, stdio: ["ignore", "pipe", "inherit"] },
    );
    const took = JSON.parse(output.trim().split("\n").at(-1)!) as { large: number; small: number };
    return { mlflowFiles: { rate: size / 1e6 / took.large, small: count / took.small } };
  } finally {
    peer.child.kill("SIGTERM");
    rmSync(work, { recursive: true, force: true });
  }
}

type Where = Pick<Server, "port" | "token" | "dataDir">;

const put = (server: Where, kind: "model" | "artifact", name: string, path: string) =>
  binnacle(server, [kind, "put", name, path]);

async function binnacle({ port, token, dataDir }: Where, args: string[]): Promise<{ seconds: number }> {
  const begun = performance.now();
  // Not synchronously: the proxy that counts is in this process.
  const child = spawn(binary, args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      BINNACLE_URL: `http://127.0.0.1:${port}`,
      BINNACLE_TOKEN: token,
      BINNACLE_DATA: dataDir,
    },
  });
  const code = await new Promise((resolve) => child.once("exit", resolve));
  if (code !== 0) throw new Error(`binnacle ${args.join(" ")} ended with ${code}`);
  return { seconds: (performance.now() - begun) / 1000 };
}

function seconds(work: () => void): number {
  const begun = performance.now();
  work();
  return (performance.now() - begun) / 1000;
}

/** Bytes that nothing can make smaller, and no two pieces alike. */
function writeRandom(path: string, size: number, seed: number): void {
  const piece = Buffer.alloc(1024 * 1024);
  const file = openSync(path, "w");
  const next = createRandom(seed + 1);
  for (let at = 0; at < size; at += piece.length) {
    for (let index = 0; index < piece.length; index += 4)
      piece.writeUInt32LE((next() * 2 ** 32) >>> 0, index);
    writeSync(file, piece, 0, Math.min(piece.length, size - at));
  }
  closeSync(file);
}

function writeSmall(folder: string, count: number, seed: number): void {
  const next = createRandom(seed);
  for (let index = 0; index < count; index++) {
    const place = join(folder, String(index % 100));
    if (index < 100) mkdirSync(place, { recursive: true });
    const bytes = Buffer.alloc(1024 + Math.floor(next() * 7 * 1024));
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE((next() * 2 ** 32) >>> 0, at);
    writeFileSync(join(place, `${index}.bin`), bytes);
  }
}

/** Passes everything on, and counts what goes to the collector, and what it answers. */
export async function countingProxy(
  target: number,
): Promise<{ port: number; sent(): number; answered(): number; close(): void }> {
  let sent = 0;
  let answered = 0;
  const proxy: TcpServer = createServer((client) => {
    const upstream = connect(target, "127.0.0.1");
    client.on("data", (bytes) => void (sent += bytes.length));
    upstream.on("data", (bytes) => void (answered += bytes.length));
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream])
      socket.on("error", () => [client, upstream].forEach((s) => s.destroy()));
  });
  const port = await freePort();
  await new Promise<void>((resolve) => proxy.listen(port, "127.0.0.1", resolve));
  return { port, sent: () => sent, answered: () => answered, close: () => void proxy.close() };
}
