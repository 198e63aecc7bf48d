/**
 * `bun run build` → dist/binnacle for this machine; `--all` → dist/binnacle-<target> for every platform,
 * `--target <target>` → for that one; `--into FOLDER` in the place of dist.
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { embedKoffi } from "./koffi.ts";
import { embedLibsql } from "./libsql.ts";
import { packAddon } from "./pack-addon.ts";
import { packageFolder } from "./packages.ts";

interface Target {
  bun: Bun.Build.CompileTarget;
  /** Package with Bun's own program for the platform. */
  runtime: string;
  libsql: string;
  /** Package with koffi's addons for the platform, and the one among them. */
  koffi: [name: string, addon: string];
}

const targets: Record<string, Target> = {
  "linux-x64": {
    bun: "bun-linux-x64",
    runtime: "@oven/bun-linux-x64",
    libsql: "@libsql/linux-x64-gnu",
    koffi: ["@koromix/koffi-linux-x64", "linux_x64/koffi.node"],
  },
  "linux-arm64": {
    bun: "bun-linux-arm64",
    runtime: "@oven/bun-linux-aarch64",
    libsql: "@libsql/linux-arm64-gnu",
    koffi: ["@koromix/koffi-linux-arm64", "linux_arm64/koffi.node"],
  },
  "linux-x64-musl": {
    bun: "bun-linux-x64-musl",
    runtime: "@oven/bun-linux-x64-musl",
    libsql: "@libsql/linux-x64-musl",
    koffi: ["@koromix/koffi-linux-x64", "musl_x64/koffi.node"],
  },
  "linux-arm64-musl": {
    bun: "bun-linux-arm64-musl",
    runtime: "@oven/bun-linux-aarch64-musl",
    libsql: "@libsql/linux-arm64-musl",
    koffi: ["@koromix/koffi-linux-arm64", "musl_arm64/koffi.node"],
  },
  "darwin-x64": {
    bun: "bun-darwin-x64",
    runtime: "@oven/bun-darwin-x64",
    libsql: "@libsql/darwin-x64",
    koffi: ["@koromix/koffi-darwin-x64", "darwin_x64/koffi.node"],
  },
  "darwin-arm64": {
    bun: "bun-darwin-arm64",
    runtime: "@oven/bun-darwin-aarch64",
    libsql: "@libsql/darwin-arm64",
    koffi: ["@koromix/koffi-darwin-arm64", "darwin_arm64/koffi.node"],
  },
};

const root = join(import.meta.dirname, "../..");

/** The name of the machine this runs on among `targets`. */
function hostTarget(): string {
  const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const musl = process.platform === "linux" && report.header.glibcVersionRuntime === undefined;
  return `${process.platform}-${process.arch}${musl ? "-musl" : ""}`;
}

async function build(name: string, outfile: string): Promise<void> {
  const target = targets[name];
  if (target === undefined)
    throw new Error(`No target is called ${name}; there are ${Object.keys(targets).join(", ")}.`);
  const host = name === hostTarget();
  const [libsql, koffi, runtime] = await Promise.all([
    packageFolder(target.libsql).then((folder) => join(folder, "index.node")),
    packageFolder(target.koffi[0]).then((folder) => join(folder, target.koffi[1])),
    host ? undefined : packageFolder(target.runtime).then((folder) => join(folder, "bin/bun")),
  ]);
  // Built beside the final name and renamed over it: a running binary can't be written to. Bun leaves source maps there, too.
  const temporary = mkdtempSync(join(dirname(outfile), ".build-"));
  try {
    const result = await Bun.build({
      entrypoints: ["cli/main.ts", "store/seal-worker.ts", "blob/blob-worker.ts"].map((path) =>
        join(root, "src", path),
      ),
      // Flat, so that "./seal-worker.ts" is found beside the program that src/store/seal.ts has become part of.
      naming: "[name].[ext]",
      compile: {
        target: target.bun,
        outfile: join(temporary, "binnacle"),
        ...(runtime !== undefined && { executablePath: runtime }),
        // Whatever bunfig.toml or .env lies in the current folder is not ours to run or read.
        autoloadBunfig: false,
        autoloadDotenv: false,
        autoloadTsconfig: false,
        autoloadPackageJson: false,
      },
      // Half of what a start computes is parsing: 0.12 s of processor time with it, 0.23 s without.
      bytecode: true,
      // A command maps its own code only: 8 MB less for `version`, 4 for the reader of GPUs.
      splitting: true,
      format: "esm",
      // Names stay and the map is inside, so that a stack trace speaks of the source.
      minify: { whitespace: true, syntax: true, identifiers: false },
      sourcemap: "linked",
      define: { "process.env.NODE_ENV": JSON.stringify("production") },
      plugins: [
        embedLibsql(packAddon("libsql", libsql, temporary)),
        embedKoffi(packAddon("koffi", koffi, temporary)),
      ],
    });
    for (const log of result.logs) console.error(String(log));
    renameSync(join(temporary, "binnacle"), outfile);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  console.error(`  ${relative(process.cwd(), outfile)}  ${(statSync(outfile).size / 1e6).toFixed(1)} MB`);
}

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      all: { type: "boolean", default: false },
      target: { type: "string" },
      into: { type: "string", default: join(root, "dist") },
    },
  });
  const folder = resolve(values.into);
  mkdirSync(folder, { recursive: true });
  const names = values.all ? Object.keys(targets) : values.target === undefined ? [] : [values.target];
  // While one waits for its packages, the other computes.
  const work = async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift())
      await build(name, join(folder, `binnacle-${name}`));
  };
  const isHost = names.length === 0;
  await Promise.all([work(), work()]);
  if (isHost) await build(hostTarget(), join(folder, "binnacle"));
}

await import("./generate.ts");
await main(process.argv.slice(2));
