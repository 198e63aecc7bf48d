/**
 * What others do on the same machine in the same run: trackio's server, TensorBoard's data server and MLflow's server, from
 * PyPI in a throw-away virtual environment (or the one in $BENCH_PEERS_VENV). Slow to install, so only with --peers.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Connection, requestHead } from "./http-load.ts";
import { createRandom, TEN_KEYS, trainingValue } from "./load.ts";
import type { Figures, Options } from "./measures.ts";
import { freePort, until } from "./server.ts";
import { median, medians, quantile } from "./statistics.ts";

const scripts = join(import.meta.dirname, "python-peers");

/** Those that the figures in our notes were held against. */
const PACKAGES = ["trackio==0.43.0", "tensorboard==2.21.0", "tensorboardX==2.6.5", "mlflow==3.17.2"];

/** Medians of as many repetitions as ours have. */
export async function measurePeers(options: Options): Promise<Record<string, Figures>> {
  const venv = createVenv();
  const repetitions: Record<string, Figures>[] = [];
  for (let index = 0; index < options.repetitions; index++) {
    console.error(`peers ${index + 1}/${options.repetitions} …`);
    repetitions.push(await measureEach(venv, options));
  }
  const names = Object.keys(repetitions[0]!);
  return Object.fromEntries(names.map((name) => [name, medians(repetitions.map((one) => one[name]!))]));
}

async function measureEach(venv: string, options: Options): Promise<Record<string, Figures>> {
  const work = mkdtempSync(join(tmpdir(), "bench-peers-"));
  try {
    return {
      trackio: await measureTrackio(venv, work, options),
      trackioLog: measureTrackioLog(venv, work),
      mlflow: await measureMlflow(venv, work, options),
      tensorboard: await measureTensorBoard(venv, work, options),
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

export function createVenv(): string {
  const given = process.env.BENCH_PEERS_VENV;
  if (given && existsSync(join(given, "bin/python"))) return given;
  const venv = mkdtempSync(join(tmpdir(), "bench-venv-"));
  console.error(`installing ${PACKAGES.join(", ")} from PyPI …`);
  execFileSync("python3", ["-m", "venv", venv]);
  execFileSync(join(venv, "bin/pip"), ["install", "-q", ...PACKAGES], {
    stdio: "inherit",
  });
  return venv;
}

interface Peer {
  port: number;
  child: ChildProcess;
  output: () => string;
}

export function startPeer(command: string, args: string[], port: number, env: Record<string, string>): Peer {
  let output = "";
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
  child.stdout!.on("data", (chunk) => (output += chunk));
  child.stderr!.on("data", (chunk) => (output += chunk));
  return { port, child, output: () => output };
}

/** Repeats one request on `connections` connections for `seconds`; answers a second and latencies in ms. */
async function repeat(
  port: number,
  connections: number,
  seconds: number,
  request: () => { head: string; body: Buffer | undefined },
): Promise<{ rate: number; latencies: number[] }> {
  const latencies: number[] = [];
  const begun = performance.now();
  const { head, body } = request();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const connection = await Connection.open(port);
      while (performance.now() - begun < seconds * 1000) {
        const sent = performance.now();
        const reply = await connection.send(head, body);
        if (reply.status !== 200)
          throw new Error(`peer: ${reply.status} ${reply.body.toString().slice(0, 300)}`);
        latencies.push(performance.now() - sent);
      }
      connection.close();
    }),
  );
  return { rate: latencies.length / ((performance.now() - begun) / 1000), latencies };
}

async function measureTrackio(venv: string, work: string, { seconds }: Options): Promise<Figures> {
  const port = await freePort();
  const peer = startPeer(join(venv, "bin/python"), [join(scripts, "trackio_server.py"), String(port)], port, {
    TRACKIO_DIR: join(work, "trackio"),
    HOME: work,
  });
  const token = await until(
    async () => {
      const found = /^token (\S+)$/m.exec(peer.output())?.[1];
      if (!found) throw new Error(`trackio did not start: ${peer.output()}`);
      return found;
    },
    { timeout: 60_000 },
  );
  const post = (name: string, kwargs: unknown) => {
    const body = Buffer.from(JSON.stringify({ args: [], kwargs }));
    const head = requestHead("POST", `/api/${name}`, { port, token: "", length: body.length }).replace(
      "\r\n\r\n",
      `\r\nx-trackio-write-token: ${token}\r\n\r\n`,
    );
    return { head, body };
  };
  const rows = (run: string, count: number, keys: string[]) => {
    const value = trainingValue(createRandom(1));
    return Array.from({ length: count }, (_, step) => ({
      project: "bench",
      run,
      run_id: null,
      step,
      config: null,
      log_id: null,
      metrics: Object.fromEntries(keys.map((key, index) => [key, value(index, step)])),
    }));
  };
  const log = (run: string, count: number, keys: string[]) =>
    post("bulk_log", { logs: rows(run, count, keys), hf_token: null });
  try {
    const batches = await repeat(port, 4, seconds, () => log("batches", 1000, TEN_KEYS));
    const singles = await repeat(port, 64, seconds, () => log("single", 1, TEN_KEYS.slice(0, 4)));
    for (let run = 0; run < 50; run++)
      await repeat(port, 1, 0.001, () => log(`overlay-${run}`, 2000, ["a", "b", "c", "d", "e"]));
    const runs = Array.from({ length: 50 }, (_, run) => ({ run: `overlay-${run}`, run_id: null }));
    const overlay = await repeat(port, 1, 8, () =>
      post("get_logs_batch", { project: "bench", runs, max_points: 3000 }),
    );
    return {
      points: batches.rate * 10_000,
      requests: singles.rate,
      p99: quantile(singles.latencies, 0.99),
      overlayP50: median(overlay.latencies),
    };
  } finally {
    peer.child.kill("SIGKILL");
  }
}

function measureTrackioLog(venv: string, work: string): Figures {
  const output = execFileSync(join(venv, "bin/python"), [join(scripts, "trackio_log.py")], {
    env: { ...process.env, TRACKIO_DIR: join(work, "trackio-log"), HOME: work },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return JSON.parse(output.slice(output.lastIndexOf("{"))) as Figures;
}

async function measureMlflow(venv: string, work: string, { seconds }: Options): Promise<Figures> {
  const port = await freePort();
  const peer = startPeer(
    join(venv, "bin/mlflow"),
    [
      "server",
      "--backend-store-uri",
      `sqlite:///${join(work, "mlflow.db")}`,
      "--port",
      String(port),
      "--workers",
      "2",
    ],
    port,
    { HOME: work, PATH: `${join(venv, "bin")}:${process.env.PATH}` },
  );
  const api = `http://127.0.0.1:${port}/api/2.0/mlflow`;
  const call = async (path: string, body: unknown) => {
    const response = await fetch(`${api}/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`mlflow ${path}: ${response.status} ${await response.text()}`);
    return response.json() as Promise<any>;
  };
  try {
    const created = await until(() => call("runs/create", { experiment_id: "0", start_time: Date.now() }), {
      timeout: 120_000,
    }).catch((error) => {
      throw new Error(`mlflow did not start: ${peer.output()}`, { cause: error });
    });
    const id = created.run.info.run_id as string;
    // Its limit is 1,000 metrics a request; an exact repetition would be a duplicate, so each request has a time of its own.
    let time = Date.now();
    const batch = () => ({
      run_id: id,
      metrics: Array.from({ length: 1000 }, (_, index) => ({
        key: TEN_KEYS[index % 10],
        value: Math.random(),
        timestamp: time++,
        step: Math.floor(index / 10),
      })),
    });
    let points = 0;
    const begun = performance.now();
    await Promise.all(
      [0, 1, 2, 3].map(async () => {
        while (performance.now() - begun < seconds * 1000) {
          await call("runs/log-batch", batch());
          points += 1000;
        }
      }),
    );
    const took = (performance.now() - begun) / 1000;
    let requests = 0;
    const singlesBegun = performance.now();
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        while (performance.now() - singlesBegun < seconds * 1000) {
          await call("runs/log-metric", { run_id: id, key: "loss", value: 1, timestamp: time++, step: 1 });
          requests++;
        }
      }),
    );
    return { points: points / took, requests: requests / ((performance.now() - singlesBegun) / 1000) };
  } finally {
    peer.child.kill("SIGTERM");
  }
}

/** Its query for 1,000 (randomly kept) points of a series of a million; the loader is the fast one. */
async function measureTensorBoard(venv: string, work: string, { million }: Options): Promise<Figures> {
  const logs = join(work, "tensorboard");
  execFileSync(join(venv, "bin/python"), [join(scripts, "tensorboard_write.py"), logs, String(million)], {
    stdio: "inherit",
  });
  const port = await freePort();
  const peer = startPeer(
    join(venv, "bin/tensorboard"),
    ["--logdir", logs, "--port", String(port), "--load_fast", "true", "--samples_per_plugin", "scalars=1000"],
    port,
    { HOME: work },
  );
  try {
    const query = "/data/plugin/scalars/scalars?run=.&tag=loss";
    const head = requestHead("GET", query, { port, token: "" });
    await until(
      async () => {
        const connection = await Connection.open(port);
        const reply = await connection.send(head, undefined);
        connection.close();
        if (reply.status !== 200) throw new Error(`tensorboard: ${reply.status}`);
        const rows = JSON.parse(reply.body.toString()) as [number, number, number][];
        if (rows.at(-1)![1] < million - 1) throw new Error(`tensorboard is still loading: ${rows.at(-1)}`);
      },
      { timeout: 120_000, pause: 500 },
    );
    const latencies: number[] = [];
    for (let index = 0; index < 40; index++) {
      // It closes the connection after each answer; opening one is not counted.
      const connection = await Connection.open(port);
      const sent = performance.now();
      await connection.send(head, undefined);
      latencies.push(performance.now() - sent);
      connection.close();
    }
    return { p50: median(latencies), p95: quantile(latencies, 0.95) };
  } finally {
    peer.child.kill("SIGTERM");
  }
}
