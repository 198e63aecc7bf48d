import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BunPlugin } from "bun";
import type { PackedAddon } from "./pack-addon.ts";

const root = join(import.meta.dirname, "../..");
const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");

/** Files of koffi 3.3.4 for whose text the replacement below was written. */
const KNOWN_LOADER = {
  // Asks static.js for the addon before it looks for files of its own.
  "index.js": "b9407610a6e4a7c802b9774298debeb5a70a7ccd49bcd15f250377d928223eff",
  "src/static.js": "a2a6ea215e4d5f26d039b48eee1e7c8ca037935c4fcba8d0ec2b6e680fa7a976",
};

/**
 * koffi requires its addon from packages of which a binary has none. Inside the binary it loads the embedded one, from the
 * folder that src/machine/gpu/addons.ts names, when a process first opens NVIDIA's library.
 */
export function embedKoffi({ sha256, packed }: PackedAddon): BunPlugin {
  return {
    name: "embed-koffi",
    setup(build) {
      build.onLoad({ filter: /node_modules\/koffi\/src\/koffi\/src\/static\.js$/ }, ({ path }) => {
        assertKnownLoader((file) => readFileSync(join(path, "../..", file), "utf8"));
        return {
          contents: `
            import { loadAddon } from ${JSON.stringify(join(root, "src/addon.ts"))};
            import { addonsFolder } from ${JSON.stringify(join(root, "src/machine/gpu/addons.ts"))};
            import file from ${JSON.stringify(packed)} with { type: "file" };
            const addon = { name: "koffi", sha256: "${sha256}", file };
            export const loadStatic = () => loadAddon(addonsFolder(), addon);`,
          loader: "js",
        };
      });
      build.onLoad({ filter: /node_modules\/koffi\/.*\.cjs$/ }, ({ path }) => {
        throw new Error(`${path} would bring a second copy of koffi; import it, don't require it.`);
      });
    },
  };
}

/** Fails for any text but the known one: another might load an addon that is not the embedded one. */
export function assertKnownLoader(read: (file: string) => string): void {
  for (const [file, digest] of Object.entries(KNOWN_LOADER))
    if (digestOf(read(file)) !== digest)
      throw new Error(
        `node_modules/koffi/src/koffi/${file} is not the one the build knows. Read how it now loads its addon, ` +
          "adapt src/build/koffi.ts, and set KNOWN_LOADER to the new digest.",
      );
}
