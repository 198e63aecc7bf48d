import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const fixtures = join(import.meta.dirname, "../fixtures/machine");

/** Lays out a machine of test/fixtures/machine in a folder of its own. */
export const layOut = (host: string): string =>
  layOutText(host, readFileSync(join(fixtures, `${host}.txt`), "utf8"));

/** Likewise one that was just recorded. */
export function layOutText(host: string, text: string): string {
  const root = mkdtempSync(join(tmpdir(), `machine-${host}-`));
  const [, ...entries] = text.split(/^--- /m);
  for (const entry of entries) {
    const end = entry.indexOf("\n");
    const head = entry.slice(0, end);
    const [name, target] = head.split(" -> ") as [string, string?];
    const path = join(root, name);
    mkdirSync(name.endsWith("/") ? path : dirname(path), { recursive: true });
    if (target !== undefined) symlinkSync(target, path);
    else if (!name.endsWith("/")) writeFileSync(path, entry.slice(end + 1));
  }
  return root;
}

export const recorder = join(fixtures, "record.sh");

/** What it says of the machine we are on. */
export const recordMachine = (name: string): string =>
  execFileSync("sh", [recorder, name, "The one this test runs on."], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });

/** Gives a file of the machine another content, in place: whoever has it open sees it. */
export function set(root: string, path: string, content: string | ((before: string) => string)): void {
  const file = join(root, path);
  writeFileSync(file, typeof content === "string" ? content : content(readFileSync(file, "utf8")));
}
