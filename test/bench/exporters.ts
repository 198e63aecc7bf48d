/** What shows hardware to a Prometheus, and one who asks it. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianProgram } from "../helpers/debian.ts";
import { freePort, until } from "./server.ts";
import { descendants } from "./statistics.ts";

/**
 * Asks once a second on average, as a Prometheus would at our own interval, but each time at another moment of the second: at
 * one and the same it would always find what is shown equally old.
 */
export function scrape(
  url: string,
  token?: string,
): { end: () => void; bytes: () => number; ages: () => number[] } {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const ages: number[] = [];
  const begun = performance.now();
  let bytes = 0;
  let asked = 0;
  let timer: NodeJS.Timeout;
  const ask = async () => {
    again();
    const response = await fetch(url, { headers }).catch(() => undefined);
    const text = response?.ok ? await response.text() : "";
    bytes = text.length;
    ages.push(ageOf(text));
  };
  const again = () => {
    asked += 1;
    timer = setTimeout(ask, begun + 1000 * (asked + ((asked * 0.618) % 1)) - performance.now());
  };
  again();
  return { end: () => clearTimeout(timer), bytes: () => bytes, ages: () => ages };
}

/** Seconds since what our scrape shows was read, of machine or GPUs what is older. */
function ageOf(text: string): number {
  const read = ["machine", "gpu"].map(
    (source) =>
      new RegExp(`^binnacle_last_sample_timestamp_seconds\\{source="${source}"\\} (\\S+)`, "m").exec(
        text,
      )?.[1],
  );
  return Date.now() / 1000 - Math.min(...read.map((time) => Number(time ?? -Infinity)));
}

export interface Exporter {
  pids: () => number[];
  end: () => void;
}

/** node_exporter, which reads when it is asked; and nvitop's exporter, which reads once a second. Both are asked as we are. */
export const exporters = (
  gpus: number,
): Record<string, (env: Record<string, string>) => Promise<Exporter>> => ({
  nodeExporter: () =>
    startExporter(
      (port) => ({
        command: debianProgram("prometheus-node-exporter") ?? "node_exporter (see .ci/tools.mjs)",
        args: [`--web.listen-address=127.0.0.1:${port}`],
        env: {},
      }),
      /^node_cpu_seconds_total/m,
    ),
  async nvitop(env) {
    const venv = mkdtempSync(join(tmpdir(), "bench-nvitop-"));
    const remove = () => rmSync(venv, { recursive: true, force: true });
    try {
      const python = process.env["BENCH_NVITOP_VENV"] ?? installNvitop(venv);
      const exporter = await startExporter(
        (port) => ({
          command: join(python, "bin/nvitop-exporter"),
          args: ["--port", String(port), "--interval", "1"],
          env,
        }),
        // It must see all that we see, or it has nothing to do.
        new RegExp(`^gpu_utilization_Percentage\\{.*index="${gpus - 1}"`, "m"),
      );
      return {
        ...exporter,
        end: () => {
          exporter.end();
          remove();
        },
      };
    } catch (error) {
      remove();
      throw error;
    }
  },
});

function installNvitop(venv: string): string {
  console.error("installing nvitop-exporter from PyPI …");
  execFileSync("python3", ["-m", "venv", venv]);
  execFileSync(join(venv, "bin/pip"), ["install", "-q", "nvitop-exporter"], { stdio: "inherit" });
  return venv;
}

async function startExporter(
  program: (port: number) => { command: string; args: string[]; env: Record<string, string> },
  proof: RegExp,
): Promise<Exporter> {
  const port = await freePort();
  const { command, args, env } = program(port);
  if (!existsSync(command)) throw new Error(`there is no ${command}`);
  const child: ChildProcess = spawn(command, args, { stdio: "ignore", env: { ...process.env, ...env } });
  const url = `http://127.0.0.1:${port}/metrics`;
  try {
    await until(
      async () => {
        const text = await (await fetch(url)).text();
        if (!proof.test(text)) throw new Error(`${command} does not show ${proof}`);
      },
      { timeout: 60_000, pause: 500 },
    );
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  const scraper = scrape(url);
  return {
    pids: () => [child.pid!, ...descendants(child.pid!)],
    end: () => {
      scraper.end();
      child.kill("SIGKILL");
    },
  };
}
