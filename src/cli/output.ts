import { CollectorError } from "../error.ts";
import { widthOf } from "./cells.ts";
import { terminalText } from "./terminal.ts";

/** The reader of our output went away (`| head`): not a failure, and nothing to say about it. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

/** Without a listener a closed pipe or a full disk would be an uncaught exception; `print` says it instead. */
export function watchOutput(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
}

/** Resolves when the reader has taken it, so a long listing never piles up in memory. */
export function print(chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, (error) => (error ? reject(outputError(error)) : resolve()));
  });
}

/** Text that others wrote: names, notes, values. On a terminal only its colours may act. */
export const printText = (text: string) => print(process.stdout.isTTY ? terminalText(text) : text);

function outputError(error: NodeJS.ErrnoException): Error {
  if (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED") return new BrokenPipe();
  return new CollectorError(
    error.code === "ENOSPC" ? "disk-full" : "internal",
    `The output can't be written: ${error.message}.`,
    {
      hint: "It is incomplete.",
      cause: error,
    },
  );
}

export const printJson = (value: unknown) => print(`${JSON.stringify(value, null, 2)}\n`);

/** Everything written so far has left the process; only then may it exit. */
export const flushOutput = () => new Promise<void>((resolve) => process.stdout.write("", () => resolve()));

/** Plain columns, two spaces apart; the last one is not padded. */
export function columns(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, widthOf(cell))));
  const padded = (cell: string, index: number, { length }: string[]) =>
    index === length - 1 ? cell : cell + " ".repeat(widths[index]! - widthOf(cell));
  return rows.map((row) => `${row.map(padded).join("  ")}\n`).join("");
}
