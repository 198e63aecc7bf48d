/** Finds a Chromium for the browser tests, and installs one where that needs no password. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createRequire } from "node:module";
import { root, say, step, SetupError } from "./setup.mjs";

const names = [
  "chromium",
  "chromium-browser",
  "google-chrome-stable",
  "google-chrome",
  "chromium-headless-shell",
];

function onPath(...wanted) {
  for (const folder of (process.env.PATH ?? "").split(delimiter))
    for (const name of wanted) if (existsSync(join(folder, name))) return join(folder, name);
  return undefined;
}

/** Playwright's own download, if somebody has it. */
function downloaded() {
  const { chromium } = createRequire(import.meta.url)(join(root, "node_modules/playwright-core"));
  const path = chromium.executablePath();
  return existsSync(path) ? path : undefined;
}

async function attempt(...steps) {
  try {
    for (const [label, command, args, env] of steps)
      await step(label, command, args, env === undefined ? {} : { env: { ...process.env, ...env } });
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`  ${error.message}`);
  }
}

/** Path of a Chromium, or undefined after saying loudly what will be missing. */
export async function ensureChromium() {
  const found = process.env.CHROMIUM ?? onPath(...names) ?? downloaded();
  if (found !== undefined) return found;
  if (process.getuid?.() === 0 && onPath("apt-get") !== undefined) {
    const quiet = { DEBIAN_FRONTEND: "noninteractive" };
    await attempt(
      ["Updating Debian's package list, for Chromium", "apt-get", ["update", "-qq"], quiet],
      [
        "Installing Chromium from Debian (about 100 MB)",
        "apt-get",
        ["install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        quiet,
      ],
    );
  } else {
    const cli = join(root, "node_modules/playwright-core/cli.js");
    await attempt([
      "Downloading Chromium (about 100 MB)",
      process.execPath,
      [cli, "install", "chromium-headless-shell"],
    ]);
  }
  const installed = onPath(...names) ?? downloaded();
  if (installed === undefined) {
    say("┌───────────────────────────────────────────────────────────────────────────────────────────┐");
    say("│ NO CHROMIUM: the browser tests will be SKIPPED. Install one (Debian: apt install chromium) │");
    say("│ or name it: CHROMIUM=/path/to/chromium npm test                                            │");
    say("└───────────────────────────────────────────────────────────────────────────────────────────┘");
  }
  return installed;
}
