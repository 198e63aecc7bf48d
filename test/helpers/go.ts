/** Programs of others, built from their sources by Go: minutes each, so what was built once is used by every run. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const BUILD_MS = 900_000;
const STRIPPED = ["-ldflags", "-s -w"];
const built = join(import.meta.dirname, "../../node_modules/.otlp");

export interface GoProgram {
  path: string;
  command: string[];
}

export const OTELCOL = createOtelcol();
export const VICTORIA_METRICS: GoProgram = {
  path: join(built, "victoria-metrics"),
  command: [
    "install",
    ...STRIPPED,
    "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.148.0",
  ],
};

/** Named after its source: what was built of another one lacks what has come since. */
function createOtelcol(): GoProgram {
  const source = join(import.meta.dirname, "otelcol");
  const digest = createHash("sha256");
  for (const name of readdirSync(source).toSorted()) digest.update(readFileSync(join(source, name)));
  const path = join(built, `otelcol-${digest.digest("hex").slice(0, 12)}`);
  return { path, command: ["build", "-C", source, ...STRIPPED, "-mod=readonly", "-o", path, "."] };
}

/** Throws where it is not there and can't be built: Go is missing, or the way to its proxy. */
export function buildByGo({ path, command }: GoProgram): string {
  if (existsSync(path)) return path;
  const name = basename(path);
  if (Bun.which("go") === null) throw new Error(`${name} needs Go to be built`);
  mkdirSync(built, { recursive: true });
  const { exitCode, stderr } = Bun.spawnSync(["go", ...command], {
    cwd: built,
    env: { ...process.env, GOBIN: built, GOFLAGS: "-buildvcs=false" },
    timeout: BUILD_MS,
  });
  if (exitCode !== 0) throw new Error(`${name} can't be built: ${stderr.toString().trim().slice(-500)}`);
  if (!existsSync(path)) throw new Error(`${name} was built, and is not there`);
  return path;
}
