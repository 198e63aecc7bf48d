import { type AnyCommand, helpText, parseInvocation } from "./command.ts";
import { ExitCode, UsageError, errorLine, exitCodeOf } from "./error.ts";
import { BrokenPipe, flushOutput, print, watchOutput } from "./output.ts";
import { terminalText } from "./terminal.ts";
import { fedmlArguments, programName } from "./fedml-link.ts";
import { measureHeap } from "../runtime.ts";

interface Listed {
  summary: string;
  /** Loaded when called: `run list` should not wait for the server's modules. */
  load: () => Promise<{ command: AnyCommand }>;
}

/** Every command. A new one is a file beside this and a line here. */
export const commands: Record<string, Listed> = {
  start: { summary: "start the collector and its dashboard", load: () => import("./start.ts") },
  stop: { summary: "end the collector", load: () => import("./stop.ts") },
  open: { summary: "open the dashboard", load: () => import("./open.ts") },
  token: { summary: "print a token", load: () => import("./token.ts") },
  launch: { summary: "run a command or a job file and keep what it does", load: () => import("./launch.ts") },
  "run list": { summary: "list runs", load: () => import("./run-list.ts") },
  "run status": { summary: "show one run", load: () => import("./run-status.ts") },
  "run logs": { summary: "print or follow a run's output", load: () => import("./run-logs.ts") },
  "run set": { summary: "change name, project, config, tags or notes", load: () => import("./run-set.ts") },
  "run stop": { summary: "stop a run", load: () => import("./run-stop.ts") },
  "run export": { summary: "write a run into a file", load: () => import("./run-export.ts") },
  "run import": { summary: "bring in an exported run", load: () => import("./run-import.ts") },
  "run delete": { summary: "delete runs that have ended", load: () => import("./run-delete.ts") },
  metrics: { summary: "list a run's metrics, or print one", load: () => import("./metrics.ts") },
  ...fileCommands("model"),
  ...fileCommands("artifact"),
  "device list": { summary: "list machines and GPUs", load: () => import("./device-list.ts") },
  "device top": { summary: "watch a machine, its GPUs and runs", load: () => import("./device-top.ts") },
  sync: { summary: "send what clients kept while no collector answered", load: () => import("./sync.ts") },
  "relay add": { summary: "send everything to a platform, too", load: () => import("./relay-add.ts") },
  "relay status": {
    summary: "show where everything goes on to",
    load: () => import("./relay-status.ts"),
  },
  "relay retry": { summary: "try now what it waits to try", load: () => import("./relay-retry.ts") },
  "relay dead-letters": {
    summary: "list what was refused for good",
    load: () => import("./relay-dead-letters.ts"),
  },
  "relay remove": { summary: "send nothing more there", load: () => import("./relay-remove.ts") },
  "fedml env": {
    summary: "print variables that let unmodified FedML scripts track here",
    load: () => import("./fedml-env.ts"),
  },
  python: { summary: "print the folder to put on PYTHONPATH", load: () => import("./python.ts") },
  completion: { summary: "print completions for a shell", load: () => import("./completion.ts") },
  "source add": { summary: "let another collector relay here", load: () => import("./source-add.ts") },
  "source list": { summary: "list who relays here", load: () => import("./source-list.ts") },
  "source revoke": { summary: "end the tokens of a source", load: () => import("./source-revoke.ts") },
  backup: { summary: "write everything that is kept into a file", load: () => import("./backup.ts") },
  restore: { summary: "put a backup in the place of what is kept", load: () => import("./restore.ts") },
  doctor: { summary: "look for what is wrong, and say what to do", load: () => import("./doctor.ts") },
  healthcheck: { summary: "ask the collector whether it is well", load: () => import("./healthcheck.ts") },
  version: { summary: "print the version", load: () => import("./version.ts") },
};

/** The same commands for both words: a model is an artifact in a list of its own. */
function fileCommands(kind: "model" | "artifact"): Record<string, Listed> {
  const load = (module: Promise<{ ofKind: (kind: "model" | "artifact") => AnyCommand }>) =>
    module.then(({ ofKind }) => ({ command: ofKind(kind) }));
  return {
    [`${kind} list`]: { summary: `list ${kind}s`, load: () => load(import("./artifact-list.ts")) },
    [`${kind} put`]: {
      summary: "keep files as a new version",
      load: () => load(import("./artifact-put.ts")),
    },
    [`${kind} get`]: { summary: "write a version's files", load: () => load(import("./artifact-get.ts")) },
    [`${kind} alias`]: { summary: "name a version", load: () => load(import("./artifact-alias.ts")) },
    [`${kind} rm`]: { summary: "delete a version", load: () => load(import("./artifact-rm.ts")) },
  };
}

/** Started by other commands; nobody types them, and no listing has them. */
const internal: Record<string, Listed> = {
  "check-database": {
    summary: "look through a database that stands still",
    load: () => import("./check-database.ts"),
  },
  "gpu-reader": { summary: "read GPUs for the collector", load: () => import("./gpu-reader.ts") },
};

const loadCommands = () =>
  Promise.all(Object.values(commands).map(async ({ load }) => (await load()).command as AnyCommand));

/** Runs one command line; resolves with the exit code. */
export async function main(argv: string[], program: string): Promise<number> {
  try {
    return await dispatch(program === "fedml" ? fedmlArguments(argv) : argv, program);
  } catch (error) {
    if (error instanceof BrokenPipe) return ExitCode.ok;
    const line = errorLine(error, program);
    process.stderr.write(`${process.stderr.isTTY ? terminalText(line) : line}\n`);
    if (process.env["BINNACLE_DEBUG"] && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return exitCodeOf(error);
  }
}

async function dispatch(argv: string[], program: string): Promise<number> {
  const [leading, words] = splitLeadingFlags(argv);
  if (words[0] === "help") return dispatch([...words.slice(1), "--help"], program);
  if (words[0] === "--version" || words[0] === "-V") return dispatch(["version"], program);
  if (words.length === 0 || words[0] === "--help" || words[0] === "-h") {
    await print(overview(program));
    return words.length === 0 ? ExitCode.usage : ExitCode.ok;
  }

  const name = nameOf(words);
  if (name === undefined) return suggest(words, program);
  if (name === "start") measureHeap();
  const { command } = await (commands[name] ?? internal[name])!.load();
  const args = [...leading, ...words.slice(name.split(" ").length)];
  const parsed = parseInvocation(command, args, { program, loadCommands });
  if (!parsed.help) return withItsHelp(command.name, () => command.run(parsed.invocation));
  await print(helpText(command, program));
  return ExitCode.ok;
}

/** What reads a flag's value does not know whose flag it is. */
async function withItsHelp(name: string, run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof UsageError && error.command === undefined) throw new UsageError(error.message, name);
    throw error;
  }
}

/** `binnacle --data DIR run list` means what `binnacle run list --data DIR` means. */
function splitLeadingFlags(argv: string[]): [leading: string[], words: string[]] {
  const leading: string[] = [];
  let at = 0;
  for (; at < argv.length; at++) {
    if (/^--(data|url)=/.test(argv[at]!)) leading.push(argv[at]!);
    else if (/^--(data|url)$/.test(argv[at]!) && at + 1 < argv.length) leading.push(argv[at]!, argv[++at]!);
    else break;
  }
  return [leading, argv.slice(at)];
}

function nameOf(words: string[]): string | undefined {
  const candidates = [words.slice(0, 2).join(" "), words[0]!];
  return candidates.find((name) => Object.hasOwn(commands, name) || Object.hasOwn(internal, name));
}

async function suggest(words: string[], program: string): Promise<number> {
  const inGroup = Object.keys(commands).filter((name) => name.startsWith(`${words[0]} `));
  if (inGroup.length === 0) throw new UsageError(`There is no command '${words[0]}'.`);
  if (words[1] === undefined || words[1].startsWith("-")) {
    await print(overview(program, words[0]));
    return words[1] === "--help" || words[1] === "-h" ? ExitCode.ok : ExitCode.usage;
  }
  throw new UsageError(`There is no command '${words[0]} ${words[1]}'.`, words[0]);
}

function overview(program: string, group?: string): string {
  const listed = Object.entries(commands).filter(([name]) => !group || name.startsWith(`${group} `));
  const width = Math.max(...listed.map(([name]) => name.length));
  const lines = [
    group ? `Commands of ${program} ${group}.` : "Keeps everything your training runs do.",
    "",
    `Usage: ${program} ${group ? `${group} ` : ""}COMMAND [flags]`,
    "",
    "Commands:",
    ...listed.map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "Examples:",
  ];
  if (group)
    lines.push(
      `  ${program} ${listed[0]![0]} --help`,
      `      show what ${listed[0]![0]} takes, with examples`,
    );
  else
    lines.push(
      `  ${program} start`,
      "      start the collector and print the dashboard's link",
      `  ${program} launch -- python3 train.py`,
      "      run a training and watch it in the dashboard",
      `  ${program} run logs -rid 483 -f`,
      "      follow the output of the run whose id begins with 483",
      "",
      `'${program} COMMAND --help' says more. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 unreachable, 5 refused.`,
    );
  return `${lines.join("\n")}\n`;
}

if (import.meta.main) {
  // The reader of GPUs writes past these streams: without them it is 2 MB smaller.
  if (!Object.hasOwn(internal, process.argv[2] ?? "")) watchOutput();
  const exitCode = await main(process.argv.slice(2), programName(process.argv0));
  await flushOutput();
  process.exit(exitCode);
}
