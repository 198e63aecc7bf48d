/**
 * `bun run build:client` → dist/client (or the folder named): the TypeScript client for Node as one file, index.js, and its
 * types. (Bun and Deno import src/client/typescript/index.ts as it is.)
 */
import { spawnSync } from "node:child_process";
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "../..");
const source = join(root, "src/client/typescript/index.ts");
const target = resolve(process.argv[2] ?? join(root, "dist/client"));

rmSync(target, { recursive: true, force: true });
const built = await Bun.build({
  entrypoints: [source],
  outdir: target,
  target: "node",
  format: "esm",
  minify: { syntax: true, whitespace: true },
});
if (!built.success) throw new AggregateError(built.logs, "The client can't be built.");

const types = join(target, "types");
const flags =
  "--ignoreConfig --declaration --emitDeclarationOnly --target esnext --module esnext --moduleResolution bundler " +
  "--strict --skipLibCheck --allowImportingTsExtensions --types node --lib ESNext,DOM,DOM.Iterable";
const { status, stdout } = spawnSync(
  join(root, "node_modules/.bin/tsc"),
  [...flags.split(" "), "--outDir", types, "--rootDir", join(root, "src"), source],
  { encoding: "utf8" },
);
if (status !== 0) throw new Error(`The client's types can't be written.\n${stdout}`);
for (const file of globSync(join(types, "**/*.d.ts"))) {
  const text = readFileSync(file, "utf8")
    // A declaration that imports "./run.ts" would send the compiler to look for the source.
    .replaceAll(/(from "\.[^"]*)\.ts"/g, '$1.js"')
    // What the compiler writes for a member of this name is an error to itself.
    .replaceAll("[-Infinity]:", '"-Infinity":');
  writeFileSync(file, text);
}
writeFileSync(join(target, "index.d.ts"), 'export * from "./types/client/typescript/index.js";\n');
