import { readdirSync } from "node:fs";
import { join } from "node:path";
import { importRun } from "../client/typescript/archive.ts";
import type { Connection } from "../client/typescript/connection.ts";
import { isPermanent } from "../client/typescript/spool.ts";
import { CollectorError } from "../error.ts";

/** What became of a run's export; the file stays as it is. */
export interface ArchiveResult {
  file: string;
  /** "here": it was brought in before; "kept": it may go another time. */
  outcome: "sent" | "here" | "refused" | "kept";
  sent: number;
  refused: number;
  error: string | null;
  /** Where the run is found now; null where it was not brought in. */
  run: { id: string; exported_as: string; name: string; notes: string[] } | null;
}

export const isArchive = (file: string): boolean => file.toLowerCase().endsWith(".zip");

export const listArchives = (dir: string): string[] =>
  readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isFile() && isArchive(entry.name))
    .map(({ name }) => join(dir, name))
    .sort();

/** Brings in what `run export` wrote, of this collector or another. */
export async function sendArchive(
  file: string,
  {
    connection,
    newId,
    onProgress,
  }: {
    connection: Connection;
    newId: boolean;
    onProgress?: ((done: number, total: number | undefined) => void) | undefined;
  },
): Promise<ArchiveResult> {
  try {
    const { run, exported_as, name, notes } = await importRun(connection, file, { newId, onProgress });
    return {
      file,
      outcome: "sent",
      sent: 1,
      refused: 0,
      error: null,
      run: { id: run, exported_as, name, notes },
    };
  } catch (error) {
    // One export that is none does not keep the others from coming in.
    if (!(error instanceof CollectorError)) throw error;
    const { present, run, name } = error.details ?? {};
    if (error.code === "conflict" && present === "whole") {
      const here = { id: String(run), exported_as: String(run), name: String(name), notes: [] };
      return { file, outcome: "here", sent: 0, refused: 0, error: null, run: here };
    }
    const isRefused = isPermanent(error) || error.code === "conflict";
    const message = error.hint === undefined ? error.message : `${error.message} ${error.hint}`;
    return {
      file,
      outcome: isRefused ? "refused" : "kept",
      sent: 0,
      refused: isRefused ? 1 : 0,
      error: message,
      run: null,
    };
  }
}

export function describeArchive({ file, outcome, error, run }: ArchiveResult): string {
  switch (outcome) {
    case "sent":
      return run!.id === run!.exported_as
        ? `${file}: run ${run!.id} (${run!.name}) is here now.`
        : `${file}: run ${run!.exported_as} (${run!.name}) is here now as ${run!.id}.`;
    case "here":
      return `${file}: run ${run!.id} (${run!.name}) is here already, with all that is in it.`;
    case "refused":
      return `${file}: refused. ${error}`;
    case "kept":
      return `${file}: not brought in. ${error}`;
  }
}

/** Of several, what one would else have to count. */
export function summarizeArchives(results: readonly ArchiveResult[]): string | undefined {
  if (results.length < 2) return undefined;
  const count = (outcome: ArchiveResult["outcome"]) =>
    results.filter((result) => result.outcome === outcome).length;
  const parts = [`${count("sent")} of ${results.length} exports brought in`];
  if (count("here") > 0) parts.push(`${count("here")} here already`);
  if (count("refused") > 0) parts.push(`${count("refused")} refused`);
  if (count("kept") > 0) parts.push(`${count("kept")} to be tried again`);
  return `${parts.join(", ")}.`;
}
