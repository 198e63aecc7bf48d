/**
 * Writes src/generated.ts: everything the program carries that is not TypeScript, as one plain module, so that
 * the same source runs on Bun, on Deno and inside the binary. (Text imports differ between the two runtimes.)
 */
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../version.ts";
import { bundleUi } from "./bundle-ui.ts";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

const migrations = readdirSync(join(root, "migrations"))
  .filter((name) => name.endsWith(".sql"))
  .sort()
  .map((name) => ({ name: name.slice(0, -".sql".length), sql: read(join("migrations", name)) }));

const pythonRoot = join(root, "src/client/python");
const python = Object.fromEntries(
  readdirSync(pythonRoot, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".py"))
    .sort()
    .map((path) => [
      path,
      readFileSync(join(pythonRoot, path), "utf8").replace(
        '__version__ = "0.0.0"',
        `__version__ = "${VERSION}"`,
      ),
    ]),
);

// Renamed into place: a process that starts meanwhile reads the old file or the new one.
const target = join(root, "src/generated.ts");
writeFileSync(
  `${target}.${process.pid}.tmp`,
  `// Written by src/build/generate.ts.
export const migrations: { name: string; sql: string }[] = ${JSON.stringify(migrations, null, 2)};
export const python: Record<string, string> = ${JSON.stringify(python, null, 2)};
export const assets: Record<string, { path: string; type: string; body: string }> = ${JSON.stringify(await bundleUi(), null, 2)};
`,
);
renameSync(`${target}.${process.pid}.tmp`, target);
