import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BunPlugin } from "bun";
import type { PackedAddon } from "./pack-addon.ts";

const root = join(import.meta.dirname, "../..");
/** libsql 0.5.29's index.js, whose text the replacements below were written for. */
const KNOWN_LOADER = "cc6f0fb815d302185ba69d4f749b423dfe304add1c58d6ff687842f8c1e39152";
const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");

/**
 * libsql requires its addon by a name computed at run time, which a bundler can't follow. Inside the binary it
 * loads the embedded one instead, when the first database is opened, from the folder `addons` beside that database.
 */
export function embedLibsql({ sha256, packed }: PackedAddon): BunPlugin {
  return {
    name: "embed-libsql",
    setup(build) {
      build.onLoad({ filter: /node_modules\/libsql\/index\.js$/ }, ({ path }) => {
        const text = readFileSync(path, "utf8");
        return { contents: bindOnFirstOpen(text), loader: "js" };
      });
      build.onLoad({ filter: /node_modules\/libsql\/promise\.js$/ }, ({ path }) => {
        throw new Error(`${path} would bring a second copy of the addon; use libsql's synchronous API.`);
      });
      build.onResolve({ filter: /^binnacle-addon:libsql$/ }, () => ({
        // Not "libsql": where two files import that, Bun 1.4.5 now and then takes this for it, whatever the namespace.
        path: "libsql-addon",
        namespace: "binnacle-addon",
      }));
      build.onLoad({ filter: /.*/, namespace: "binnacle-addon" }, () => ({
        contents: `
          import { dirname, join } from "node:path";
          import { loadAddon } from ${JSON.stringify(join(root, "src/addon.ts"))};
          import file from ${JSON.stringify(packed)} with { type: "file" };
          const addon = { name: "libsql", sha256: "${sha256}", file };
          const pathOf = (name) => (/^file:/.test(name) ? decodeURIComponent(name.slice(5).split("?")[0]) : name);
          export const loadBeside = (database) => loadAddon(join(dirname(pathOf(database)), "addons"), addon);`,
        loader: "js",
      }));
    },
  };
}

/** The loader with its native functions bound in the Database constructor. Fails for any text but the known one. */
export function bindOnFirstOpen(text: string): string {
  if (digestOf(text) !== KNOWN_LOADER)
    throw new Error(
      "node_modules/libsql/index.js is not the one the build knows. Read how it now loads its addon, " +
        "adapt src/build/libsql.ts, and set KNOWN_LOADER to the new digest.",
    );
  const head = /^const \{ load, currentTarget \}[\s\S]*?^const (\{[^}]*\}) = requireNative\(\);$/m.exec(text);
  const constructor = "  constructor(path, opts) {\n";
  if (head?.[1] === undefined || text.split(constructor).length !== 2)
    throw new Error("libsql's loader has the known digest but not the known parts");
  const names = head[1];
  return text
    .replace(
      head[0],
      `const { loadBeside } = require("binnacle-addon:libsql");
let ${names.slice(1, -1).trim().replace(/,$/, "")};
function bindNative(path) {
  if (databaseOpen === undefined) (${names} = loadBeside(path));
}`,
    )
    .replace(constructor, `${constructor}    bindNative(path);\n`);
}
