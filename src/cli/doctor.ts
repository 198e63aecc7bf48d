import { existsSync } from "node:fs";
import {
  findDataDir,
  isLoopback,
  readCollectorFile,
  type Connection,
} from "../client/typescript/connection.ts";
import { request } from "../client/typescript/http.ts";
import { checkDisk, checkFolder } from "../doctor/folder.ts";
import type {
  Check,
  DamagedFile,
  Examination,
  ExaminationLine,
  ExaminationProgress,
} from "../doctor/schema.ts";
import { CollectorError, type ErrorCode } from "../error.ts";
import { isProcessAlive, readBootId } from "../run/machine.ts";
import { VERSION } from "../version.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { ANSWER_WITHIN_MS, connect } from "./connect.ts";
import { ExitCode } from "./error.ts";
import { printJson, printText } from "./output.ts";
import { createProgress, type Progress } from "./progress.ts";
import { bytes } from "./units.ts";

/** It tells twice a second how far it has come. */
const SILENCE_MS = 60_000;
/** Clocks of two machines differ; by more, times of runs are hard to compare. */
const SKEW_MS = 5_000;

export const command = defineCommand({
  name: "doctor",
  summary: "Look for what is wrong, and say what to do about it.",
  description:
    "The collector reads every file it keeps and compares its digest, looks through the database while it goes on\n" +
    "working, and looks at its folder, the disk, the GPUs' reader and the clock. Exits with 1 where something is\n" +
    "wrong, and with 4 where no collector answers; then it looks at what it can by itself. Needs the admin's token.",
  flags: {
    quick: { type: "boolean", help: "read neither every file nor the whole database" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["doctor", "look at everything"],
    ["doctor --quick --json", "what takes no time, for a script"],
  ],
  async run({ values, program }) {
    const connection = connect(values);
    const progress = createProgress({ stream: process.stderr, program });
    const { examination, isThere } = await examineThere(connection, values.quick, progress)
      .finally(() => progress.close())
      .catch((error: unknown) => examineHere(connection, values, error));
    const isWrong = examination.checks.some(({ status }) => status === "problem");
    if (values.json)
      await printJson({ ok: !isWrong, url: connection.url, ...publicExamination(examination) });
    else await printText(text(examination));
    if (!isThere) return ExitCode.unreachable;
    return isWrong ? ExitCode.failed : ExitCode.ok;
  },
});

interface Found {
  examination: Examination;
  isThere: boolean;
}

async function examineThere(connection: Connection, quick: boolean, progress: Progress): Promise<Found> {
  const asked = Date.now();
  const silence = new AbortController();
  const giveUp = () => silence.abort();
  let timer = setTimeout(giveUp, ANSWER_WITHIN_MS);
  try {
    const response = await request(connection, "/api/v1/doctor", {
      body: { quick },
      timeout: 0,
      signal: silence.signal,
    });
    for await (const line of linesOf(response)) {
      clearTimeout(timer);
      timer = setTimeout(giveUp, SILENCE_MS);
      if ("problem" in line) throw new CollectorError(line.problem.code as ErrorCode, line.problem.message);
      if ("progress" in line) show(progress, line.progress);
      else return { examination: withCollector(line.examination, connection, asked), isThere: true };
    }
    throw new CollectorError("unreachable", `The collector at ${connection.url} ended in the middle of it.`);
  } catch (error) {
    if (error instanceof CollectorError) throw error;
    throw new CollectorError("unreachable", `The collector at ${connection.url} does not answer.`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

function show(progress: Progress, { of, done, total }: ExaminationProgress): void {
  // Nobody knows how far the database has been read: then there is no bar to show.
  if (of === "files" && total !== null) progress.show({ verb: "Reading files", done, total });
}

async function* linesOf(response: Response): AsyncGenerator<ExaminationLine> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as ExaminationLine;
  }
}

/** What only we know: that it answers, whether it is of our version, and our clock. */
function withCollector(examination: Examination, { url }: Connection, asked: number): Examination {
  const { version, time, checks } = examination;
  const isSame = version === VERSION;
  const collector: Check = {
    name: "collector",
    status: isSame ? "ok" : "warning",
    text: isSame
      ? `binnacle ${version} answers at ${url}.`
      : `binnacle ${version} answers at ${url}; this is binnacle ${VERSION}.`,
    advice: isSame ? null : "Use the same version for both: what one does not know, the other can't tell.",
  };
  // The answer took long; it was made somewhere in between.
  const skew = time < asked ? asked - time : Math.max(0, time - Date.now());
  const isOff = skew > SKEW_MS;
  return {
    ...examination,
    checks: [
      collector,
      ...checks.map((check) =>
        check.name === "clock" && check.status === "ok" && isOff
          ? {
              ...check,
              status: "warning" as const,
              text: `The collector's clock is ${Math.round(skew / 1000)} s ${time < asked ? "behind" : "ahead of"} this machine's.`,
              advice: "Let both be kept by NTP (`timedatectl set-ntp true`).",
            }
          : check,
      ),
    ],
  };
}

/** Without a collector the database stays closed; folder and disk can be looked at. */
function examineHere(
  connection: Connection,
  values: { data?: string | undefined; url?: string | undefined },
  error: unknown,
): Found {
  if (!(error instanceof CollectorError) || error.code !== "unreachable") throw error;
  const checks: Check[] = [
    { name: "collector", status: "problem", text: error.message, advice: howToStart(connection, values) },
  ];
  const dataDir = findDataDir(values.data);
  // That of another machine is not here.
  if (isLoopback(connection.url) && existsSync(dataDir))
    checks.push(checkFolder(dataDir), checkDisk(dataDir));
  return { examination: { version: VERSION, time: Date.now(), checks, damaged: [] }, isThere: false };
}

function howToStart({ url, dataDir }: Connection, values: { data?: string | undefined }): string {
  const file = readCollectorFile(dataDir);
  const isOurs = file?.url.replace(/\/+$/, "") === url;
  if (isOurs && file.boot === (readBootId() ?? "") && isProcessAlive(file.pid))
    return `Process ${file.pid} has the data folder and does not answer: look at its diagnostics, or end it (kill ${file.pid}) and start again.`;
  if (!isLoopback(url)) return "Look on its machine whether it runs; is it the right address?";
  const start = `Start it with \`binnacle start${values.data ? ` --data ${values.data}` : ""}\``;
  return isOurs
    ? `${start}: the last one ended without a word, and nothing it had accepted is lost.`
    : `${start}.`;
}

const words: Record<Check["status"], string> = {
  ok: "ok",
  warning: "warning",
  problem: "PROBLEM",
  unknown: "-",
};

function text({ checks, damaged }: Examination): string {
  const lines: string[] = [];
  for (const { name, status, text, advice } of checks) {
    lines.push(`${words[status].padEnd(7)}  ${name.padEnd(9)}  ${oneLine(text)}`);
    if (name === "files") lines.push(...damaged.flatMap(damagedLines));
    if (advice !== null) lines.push(`${" ".repeat(20)}→ ${oneLine(advice)}`);
  }
  return `${lines.join("\n")}\n`;
}

function damagedLines({ sha256, size, places }: DamagedFile): string[] {
  const indent = " ".repeat(20);
  const named = places.map(
    ({ kind, name, version, path }) => `${kind} ${oneLine(name)}:${version} ${oneLine(path)}`,
  );
  if (named.length === 0) named.push("nothing refers to it any more");
  return [`${indent}${sha256.slice(0, 12)}… (${bytes(size)})`, ...named.map((line) => `${indent}  ${line}`)];
}

const publicExamination = ({ version, time, checks, damaged }: Examination) => ({
  version,
  time: new Date(time).toISOString(),
  checks,
  damaged,
});
