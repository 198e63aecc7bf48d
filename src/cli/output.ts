import { once } from "node:events";

/** The reader of our output went away (`| head`): not a failure, and nothing to say about it. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

let broken = false;

/** Without a listener the EPIPE of a closed pipe would be an uncaught exception with a stack trace. */
export function watchPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      broken = true;
    });
}

/** Resolves when the reader has room again, so a long listing never piles up in memory. */
export async function print(chunk: string | Uint8Array): Promise<void> {
  if (broken) throw new BrokenPipe();
  if (process.stdout.write(chunk)) return;
  await Promise.race([once(process.stdout, "drain"), once(process.stdout, "close")]).catch(() => {});
  if (broken) throw new BrokenPipe();
}

export const printJson = (value: unknown) => print(`${JSON.stringify(value, null, 2)}\n`);

/** Everything written so far has left the process; only then may it exit. */
export async function flushOutput(): Promise<void> {
  if (broken) return;
  await new Promise<void>((resolve) => {
    process.stdout.once("error", () => resolve());
    process.stdout.write("", () => resolve());
  });
}

/** Plain columns, two spaces apart; the last one is not padded. */
export function columns(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, cell.length)));
  return rows
    .map(
      (row) =>
        `${row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index]!))).join("  ")}\n`,
    )
    .join("");
}
