import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sendBatches, TEN_KEYS } from "./load.ts";
import type { Figures, Options } from "./measures.ts";
import { startServer } from "./server.ts";

/** From starting the process until it answers on a folder with `million` × 5 KB stored (5 GB at full size), disk cache dropped. */
export async function measureStored({ million }: Options): Promise<Figures> {
  const dataDir = mkdtempSync(join(tmpdir(), "binnacle-stored-"));
  try {
    const goal = million * 5_000;
    for (let round = 0; databaseBytes(dataDir) < goal; round++) {
      const server = await startServer(dataDir);
      const runs = Array.from({ length: 4 }, (_, index) => `stored-${round}-${index}`);
      for (const run of runs) await server.createRun(run);
      await Promise.all(
        runs.map((run, index) =>
          sendBatches(server, {
            run,
            client: "fill",
            records: 1000,
            keys: TEN_KEYS,
            seconds: 60,
            seed: index,
          }),
        ),
      );
      await new Promise((resolve) => setTimeout(resolve, 3000));
      await server.stop({ keep: true });
      console.error(`stored: ${(databaseBytes(dataDir) / 1e9).toFixed(1)} of ${(goal / 1e9).toFixed(1)} GB`);
    }
    const starts: number[] = [];
    for (let index = 0; index < 3; index++) {
      dropCaches();
      const server = await startServer(dataDir);
      starts.push(server.startedIn);
      await server.stop({ keep: true });
    }
    return { start: starts.toSorted((a, b) => a - b)[1]!, gigabytes: databaseBytes(dataDir) / 1e9 };
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

function databaseBytes(folder: string): number {
  const output = execFileSync("du", ["-sb", folder], { encoding: "utf8" });
  return Number(output.split("\t")[0]);
}

function dropCaches(): void {
  try {
    execFileSync("sh", ["-c", "sync; echo 3 > /proc/sys/vm/drop_caches"], { stdio: "ignore" });
  } catch {
    console.error("stored: the disk cache could not be dropped (not root): the start is a warm one");
  }
}
