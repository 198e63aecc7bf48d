import type { Connection } from "../client/typescript/connection.ts";
import { requestJson } from "../client/typescript/http.ts";
import type { LogPage } from "../log/schema.ts";
import type { RunDetail } from "../run/schema.ts";
import { runPath } from "./connect.ts";
import { ruledTable } from "./fedml-output.ts";
import { print, printText } from "./output.ts";
import { outputBytes, terminalText } from "./terminal.ts";

interface Paging {
  pageNumber: number | undefined;
  pageSize: number | undefined;
  all: boolean;
}

const PAGE = 1000;

/** `fedml run logs`: a summary, where each device's log is, then the lines; all of them unless a page is asked for. */
export async function printFedmlLogs(
  connection: Connection,
  run: RunDetail,
  { pageNumber, pageSize, all }: Paging,
): Promise<number> {
  const getPage = (after: number, limit: number) =>
    requestJson<LogPage>(connection, runPath(run.id, "/logs"), { query: { after, limit } });
  const size = pageSize || PAGE;
  const paged = !all && Boolean(pageNumber || pageSize);
  const first = await getPage(paged ? (Math.max(1, pageNumber ?? 1) - 1) * size : 0, Math.min(size, 10_000));
  if (first.total === 0) {
    await print(`No logs found for Run id: ${run.id}\n`);
    return 0;
  }

  const url = `${connection.url}/runs/${run.id}/logs`;
  await print("\nLogs summary info is as follows.\n");
  await printText(ruledTable(["Run ID", "Total Log Lines", "Log URL"], [[run.id, String(first.total), url]]));
  await print("\nLogs URL for each device is as follows.\n");
  const named = run.writers.map(({ device }) => device).filter((device) => device !== null);
  const devices = [...new Set(named.length > 0 ? named : [run.device ?? "-"])];
  await printText(
    ruledTable(
      ["Device ID", "Device Name", "Device Log URL"],
      devices.map((device) => [device, device, url]),
    ),
  );
  await print("\nAll logs is as follows.\n");
  let page = first;
  let missing = paged ? size : Infinity;
  for (;;) {
    const text = page.lines.map((line) => `${line.text}\n`).join("");
    await print(process.stdout.isTTY ? terminalText(text) : outputBytes(text));
    missing -= page.lines.length;
    if (missing <= 0 || page.next === null) return 0;
    page = await getPage(page.next, Math.min(missing, PAGE));
  }
}
