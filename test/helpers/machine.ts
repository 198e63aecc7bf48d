import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const fixtures = join(import.meta.dirname, "../fixtures/machine");

/** Lays out a machine of test/fixtures/machine in a folder of its own. */
export function layOut(host: string): string {
  const root = mkdtempSync(join(tmpdir(), `machine-${host}-`));
  const [, ...entries] = readFileSync(join(fixtures, `${host}.txt`), "utf8").split(/^--- /m);
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

/** Gives a file of the machine another content, in place: whoever has it open sees it. */
export function set(root: string, path: string, content: string | ((before: string) => string)): void {
  const file = join(root, path);
  writeFileSync(file, typeof content === "string" ? content : content(readFileSync(file, "utf8")));
}
