import type { Run } from "../run/schema.ts";
import { print, printText } from "./output.ts";

/** A table with rules, as FedML's command line prints: cells centred, one space on either side. */
export function ruledTable(header: string[], rows: string[][]): string {
  const all = [header, ...rows];
  const widths = header.map((_, index) => Math.max(...all.map((row) => row[index]!.length)));
  const rule = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+`;
  const line = (row: string[]) =>
    `|${row.map((cell, index) => ` ${centre(cell, widths[index]!)} `).join("|")}|`;
  return `${[rule, line(header), rule, ...rows.map(line), rule].join("\n")}\n`;
}

function centre(text: string, width: number): string {
  const space = width - text.length;
  // An odd space goes to the left of an even-length text, as in the tables being followed.
  const left = text.length % 2 === 0 ? Math.ceil(space / 2) : Math.floor(space / 2);
  return " ".repeat(left) + text + " ".repeat(space - left);
}

/** How to find a launched run again. */
export const trackTable = ({ id, url }: { id: string; url: string }) =>
  ruledTable(["Run Track URL (UI)", "Run Track Command (CLI)"], [[url, `fedml run logs -rid ${id}`]]);

export async function printRunTable(runs: Run[]): Promise<void> {
  if (runs.length === 0) return print("No runs found\n");
  await print("Found the following matched runs.\n");
  const rows = runs.map((run) => [
    run.name,
    run.id,
    run.status,
    createdTime(run.created),
    hours(run),
    "0.00",
  ]);
  await printText(ruledTable(["Run Name", "Run ID", "Status", "Created", "Spend Time(hour)", "Cost"], rows));
}

const createdTime = (created: string) => created.replace(/\.\d+Z$/, "");

function hours({ started, finished }: Run): string {
  if (started === null) return "0.00";
  const ms = (finished === null ? Date.now() : Date.parse(finished)) - Date.parse(started);
  return (Math.max(0, ms) / 3_600_000).toFixed(2);
}
