import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";

const ui = join(import.meta.dirname, "../ui");

/** Browser scripts by the name pages ask for them. */
const scripts = [
  "run-list",
  "run-overview",
  "run-metrics",
  "run-logs",
  "run-hardware",
  "run-files",
  "run-timeline",
  "models",
  "model",
  "version",
  "devices",
  "device",
  "relay",
  "sources",
  "plain",
];

/** In the order of the cascade. */
const styles = [
  "../../node_modules/uplot/dist/uPlot.min.css",
  ...["tokens", "base", "list", "run", "chart", "log", "device", "artifact", "file", "relay", "timeline"].map(
    (name) => `style/${name}.css`,
  ),
];

/**
 * Joined and trimmed by hand: Bun's CSS bundler rewrites light-dark() for browsers of 2023, into something longer than what it
 * replaces.
 */
const readStyle = (path: string) =>
  readFileSync(join(ui, path), "utf8")
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/\n\s*/g, "\n")
    .replace(/\n+/g, "\n")
    .trim();

/**
 * Components are written once, against hono/jsx. In the browser the same imports mean hono/jsx/dom; which is also why a
 * pragma in each file would not do: the file is the same on both sides.
 */
const domJsx: Bun.BunPlugin = {
  name: "hono-jsx-dom",
  setup(build) {
    build.onResolve({ filter: /^hono\/jsx(\/jsx-(dev-)?runtime)?$/ }, ({ path }) => ({
      path: Bun.resolveSync(path.replace("hono/jsx", "hono/jsx/dom"), ui),
    }));
  },
};

export interface BundledAsset {
  path: string;
  type: string;
  body: string;
}

/** Everything the pages load, minified, under paths that change with the content. */
export async function bundleUi(): Promise<Record<string, BundledAsset>> {
  const assets: Record<string, BundledAsset> = {};
  const javascript = await Bun.build({
    entrypoints: scripts.map((name) => join(ui, "browser", `${name}.tsx`)),
    target: "browser",
    format: "esm",
    splitting: true,
    minify: true,
    naming: { entry: "[name]-[hash].js", chunk: "part-[hash].js" },
    define: { "process.env.NODE_ENV": '"production"' },
    plugins: [domJsx],
  });
  for (const output of javascript.outputs) {
    const file = basename(output.path);
    const name = scripts.find((script) => output.kind === "entry-point" && file.startsWith(`${script}-`));
    assets[name ?? file] = {
      path: `/assets/${file}`,
      type: "text/javascript; charset=utf-8",
      body: await output.text(),
    };
  }
  assets["style"] = hashed("style", "css", "text/css; charset=utf-8", styles.map(readStyle).join("\n"));
  const icon = readFileSync(join(ui, "icon.svg"), "utf8").trim();
  assets["icon"] = hashed("icon", "svg", "image/svg+xml", icon);
  return assets;
}

function hashed(name: string, extension: string, type: string, body: string): BundledAsset {
  const hash = createHash("sha256").update(body).digest("hex").slice(0, 12);
  return { path: `/assets/${name}-${hash}.${extension}`, type, body };
}
