import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { loudly } from "./binary.ts";
import { debianProgram, unpacked } from "./debian.ts";

const command = find();

/** Why not, where nobody can overlook it, if calls of a process can't be made to fail here. */
export const noStrace =
  spawnSync(command[0]!, [...command.slice(1), "-f", "-e", "inject=fsync:error=EIO:when=1", "true"])
    .status !== 0 &&
  loudly("no call of the system fails: no strace that may trace here (Debian: apt install strace)");

/** The beginning of a command line that runs another one under strace. */
export const strace = (...options: string[]): string[] => [...command, ...options];

function find(): string[] {
  const program = debianProgram("strace");
  if (!program?.startsWith(unpacked)) return [program ?? "strace"];
  // Unpacked beside it are its libraries, which are nothing for the program that it runs.
  const folder = join(unpacked, "../lib");
  const libraries = existsSync(folder)
    ? readdirSync(folder).filter((name) => name.endsWith("-linux-gnu"))
    : [];
  const path = libraries.map((name) => join(folder, name)).join(":");
  return ["env", `LD_LIBRARY_PATH=${path}`, program, "-E", "LD_LIBRARY_PATH"];
}
