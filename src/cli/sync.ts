import { statSync } from "node:fs";
import { requestJson } from "../client/typescript/http.ts";
import { listSpool, replaySpool, type ReplayResult } from "../client/typescript/spool.ts";
import { isOrder, listOrders, sendOrder, type OrderResult } from "../client/typescript/upload-order.ts";
import { CollectorError } from "../error.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { print, printJson } from "./output.ts";
import { createProgress } from "./progress.ts";
import {
  describeArchive,
  isArchive,
  listArchives,
  sendArchive,
  summarizeArchives,
  type ArchiveResult,
} from "./sync-archive.ts";
import { terminalText } from "./terminal.ts";
import { bytes } from "./units.ts";

/** So long a collector may be away in the middle of an upload. */
const PATIENCE_MS = 60_000;

export const command = defineCommand({
  name: "sync",
  usage: "[PATH]",
  maxPositionals: 1,
  summary: "Send what clients kept on disk while no collector answered, and runs that others exported.",
  description:
    "PATH is a spool folder or one of its files; without it, the usual folder ($BINNACLE_SPOOL, else DATA/spool).\n" +
    "Files of clients that still run are left to them. What was sent is deleted; what the collector refuses for good\n" +
    "is moved to FILE.refused. Models and artifacts that were not sent are read from where they lay when they were\n" +
    "logged, if they are still what they were; what the collector has of them is not sent again.\n" +
    "PATH may also be a run's export (FILE.zip), or a folder with several: each is brought in under its id, and stays\n" +
    "where it is. One of which all is here already is passed over, one whose id another run has is refused.\n" +
    "Exits with 1 if anything stayed.",
  flags: {
    "new-id": {
      type: "boolean",
      aliases: ["new_id"],
      help: "bring exports in under new ids, as where their own are taken",
    },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["sync", "send everything in the usual spool folder"],
    ["sync /mnt/job-17/spool", "send what a job on another machine wrote"],
    ["sync exports/", "bring in all runs that another collector exported into this folder"],
  ],
  async run({ values, positionals: [path], program }) {
    const connection = connect(values);
    const files = spoolFiles(path ?? connection.spoolDir, path !== undefined);
    if (files.length > 0) await requestJson(connection, "/healthz", { timeout: ANSWER_WITHIN_MS });

    const results: (ReplayResult | OrderResult | ArchiveResult)[] = [];
    const archives: ArchiveResult[] = [];
    for (const file of files) {
      if (isArchive(file)) {
        const progress = createProgress({ stream: process.stderr, program });
        const result = await sendArchive(file, {
          connection,
          newId: values["new-id"] === true,
          onProgress: (done, total) =>
            values.json ? undefined : progress.show({ verb: "Sending", done, total: total ?? done }),
        });
        progress.close();
        results.push(result);
        archives.push(result);
        if (!values.json) await print(`${terminalText(describeArchive(result))}\n`);
        continue;
      }
      if (isOrder(file)) {
        const progress = createProgress({ stream: process.stderr, program });
        const result = await sendOrder(file, {
          connection: () => connect(values),
          patienceMs: PATIENCE_MS,
          onProgress: ({ done, bytes: total }) =>
            values.json ? undefined : progress.show({ verb: "Sending", done, total }),
          onWaiting: (error) => progress.waiting(error),
        });
        progress.close();
        results.push(result);
        if (!values.json) await print(`${describeOrder(result)}\n`);
        continue;
      }
      const result = await replaySpool(file, {
        // An answer that is no JSON is no collector's: nothing was stored.
        post: (path, body, method) => requestJson(connection, path, { method, body }),
        onProgress: values.json ? undefined : showProgress,
      });
      results.push(result);
      if (!values.json) await print(`${clearLine()}${describe(result)}\n`);
    }

    if (values.json) await printJson(results);
    else if (results.length === 0) await print("Nothing to send.\n");
    else {
      const summary = summarizeArchives(archives);
      if (summary) await print(`${summary}\n`);
    }
    return results.every(({ outcome }) => outcome === "sent" || outcome === "here") ? 0 : 1;
  },
});

function spoolFiles(path: string, named: boolean): string[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile()) return [path];
  if (!stat && named)
    throw new CollectorError("not-found", `There is no ${path}.`, {
      hint: "Name a spool folder, one of its .ndjson and .upload files, or a run's export.",
    });
  // The runs first: what is uploaded is logged as theirs.
  return [...listSpool(path), ...listOrders(path), ...(named ? listArchives(path) : [])];
}

let shownAt = 0;

function showProgress({ file, bytes, total }: { file: string; bytes: number; total: number }): void {
  if (!process.stderr.isTTY || Date.now() - shownAt < 100) return;
  shownAt = Date.now();
  process.stderr.write(
    `${clearLine()}${file}  ${Math.min(100, Math.round((100 * bytes) / Math.max(1, total)))} %`,
  );
}

const clearLine = () => (process.stderr.isTTY && shownAt > 0 ? "\r\u001b[K" : "");

function describe({ file, outcome, sent, refused, error }: ReplayResult): string {
  const aside = refused > 0 ? `, ${refused} refused for good, kept in ${file}.refused` : "";
  switch (outcome) {
    case "sent":
      return `${file}: ${sent} requests sent.`;
    case "partly":
      return `${file}: ${sent} requests sent${aside}. ${error ?? ""}`;
    case "busy":
      return `${file}: left to its client, which is still running.`;
    case "kept":
      return `${file}: kept after ${sent} requests${aside}. ${error ?? ""}`;
  }
}

function describeOrder({ file, outcome, error, upload }: OrderResult): string {
  switch (outcome) {
    case "sent":
      return `${file}: ${upload!.kind} ${upload!.name}:${upload!.version} is kept; ${bytes(upload!.bytes)} sent.`;
    case "partly":
      return `${file}: refused for good, kept in ${file}.refused. ${error ?? ""}`;
    case "busy":
      return `${file}: left to its client, which is still running.`;
    case "kept":
      return `${file}: kept. ${error ?? ""}`;
  }
}
