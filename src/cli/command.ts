import { parseArgs, type ParseArgsConfig } from "node:util";
import { UsageError } from "./error.ts";

/** One flag of a command, as the parser reads it and --help prints it. Its name is its key: `--run-id`. */
export interface Flag {
  type: "string" | "boolean";
  /** One letter: `-n`. */
  short?: string;
  /** Other spellings. Longer ones work with one dash too, as FedML's command line has them: `-rid`. */
  aliases?: string[];
  /** May be given several times. */
  multiple?: boolean;
  /** Works, but --help does not speak of it. */
  hidden?: boolean;
  /** What --help calls the value. */
  value?: string;
  help: string;
}

export type Flags = Record<string, Flag>;

type Value<F extends Flag> = F["type"] extends "boolean"
  ? boolean
  : F extends { multiple: true }
    ? string[]
    : string | undefined;

export interface Invocation<F extends Flags = Flags> {
  values: { [Name in keyof F]: Value<F[Name]> };
  positionals: string[];
  /** What stood behind `--`; undefined where there was none. */
  rest: string[] | undefined;
  /** How the program was called: "binnacle", or "fedml" through a link of that name. */
  program: string;
  /** Every command there is; for completions. */
  loadCommands: () => Promise<AnyCommand[]>;
}

export interface Command<F extends Flags = Flags> {
  /** Without the program's name: "run list". */
  name: string;
  /** What follows the name: "[KEY]". */
  usage?: string;
  summary: string;
  /** More than the summary says, in lines. */
  description?: string;
  flags: F;
  /** Most positionals taken (default 0); a command that takes `--` says so with `takesRest`. */
  maxPositionals?: number;
  takesRest?: boolean;
  /** Without the program's name; with what each does. */
  examples: [command: string, does: string][];
  /** Resolves with the exit code. */
  run(invocation: Invocation<F>): Promise<number>;
}

/** A command whose flags are not known where it is handled: the table, the parser, --help. */
export interface AnyCommand extends Omit<Command, "flags" | "run"> {
  flags: Flags;
  run(invocation: never): Promise<number>;
}

/** Keeps the flags' literal types, so that `run` sees a string where it declared one. */
export function defineCommand<const F extends Flags>(command: Command<F>): Command<F> {
  return command;
}

/** Flags of every command that talks to a collector. */
export const connectionFlags = {
  url: { type: "string", value: "URL", help: "the collector to ask (else $BINNACLE_URL)" },
  data: { type: "string", value: "DIR", help: "data folder of the collector (else $BINNACLE_DATA)" },
} as const satisfies Flags;

/** For commands that ask no collector: a script may put these before any command. */
export const idleConnectionFlags = {
  url: { ...connectionFlags.url, hidden: true },
  data: { ...connectionFlags.data, hidden: true },
} as const satisfies Flags;

export const jsonFlag = {
  json: { type: "boolean", help: "print JSON with stable fields" },
} as const satisfies Flags;

export const runFlag = {
  "run-id": {
    type: "string",
    aliases: ["rid", "run_id"],
    value: "ID",
    help: "the run, by its id or the beginning of it; also -rid ID",
  },
} as const satisfies Flags;

export const sourceFlag = {
  source: {
    type: "string",
    value: "LABEL",
    help: "of this source, by its label; a dot is what was logged here",
  },
} as const satisfies Flags;

export const helpFlag = { help: { type: "boolean", short: "h", help: "show this" } } as const satisfies Flags;

/** Reads the arguments behind a command's name. */
export function parseInvocation(
  command: AnyCommand,
  args: string[],
  { program, loadCommands }: Pick<Invocation, "program" | "loadCommands">,
): { help: true } | { help: false; invocation: never } {
  const flags: Flags = { ...command.flags, ...helpFlag };
  const terminator = args.indexOf("--");
  const own = terminator < 0 ? args : args.slice(0, terminator);
  const rest = terminator < 0 ? undefined : args.slice(terminator + 1);
  const nameBySpelling = spellings(flags);

  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({
      args: own.map((argument) => doubleDash(argument, nameBySpelling)),
      options: parserOptions(flags),
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    throw new UsageError(explain(error), command.name);
  }

  if (parsed.values["help"] === true) return { help: true };
  // What begins with a dash, such as a name, stands behind '--'; other programs' words do, too, where they are taken.
  const positionals = command.takesRest ? parsed.positionals : [...parsed.positionals, ...(rest ?? [])];
  checkArity(command, positionals);
  const values = valuesOf(command.flags, parsed.values);
  return { help: false, invocation: { values, positionals, rest, program, loadCommands } as never };
}

function valuesOf(flags: Flags, parsed: Record<string, unknown>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, { type, multiple, aliases = [] }] of Object.entries(flags)) {
    const given = [name, ...aliases]
      .map((spelling) => parsed[spelling])
      .filter((value) => value !== undefined);
    if (type === "boolean") values[name] = given.includes(true);
    else values[name] = multiple ? given.flat() : given[0];
  }
  return values;
}

function checkArity(command: AnyCommand, positionals: string[]): void {
  const max = command.maxPositionals ?? 0;
  if (positionals.length > max)
    throw new UsageError(`Unexpected argument '${positionals[max]}'.`, command.name);
}

function spellings(flags: Flags): Map<string, string> {
  const nameBySpelling = new Map<string, string>();
  for (const [name, flag] of Object.entries(flags))
    for (const alias of flag.aliases ?? []) nameBySpelling.set(alias, name);
  return nameBySpelling;
}

/** `-rid X` reads as `-r -i -d X` to a POSIX parser. */
function doubleDash(argument: string, nameBySpelling: Map<string, string>): string {
  const match = /^-([A-Za-z][\w-]+)(=.*)?$/s.exec(argument);
  return match && nameBySpelling.has(match[1]!) ? `-${argument}` : argument;
}

function parserOptions(flags: Flags): NonNullable<ParseArgsConfig["options"]> {
  const options: NonNullable<ParseArgsConfig["options"]> = {};
  for (const [name, { type, short, aliases, multiple }] of Object.entries(flags)) {
    options[name] = { type, multiple: multiple ?? false, ...(short ? { short } : {}) };
    for (const alias of aliases ?? []) options[alias] = { type, multiple: multiple ?? false };
  }
  return options;
}

/** node:util's sentences are meant for developers ("To specify a positional argument…"): the first one says it all. */
function explain(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const first = message.split(/\. (?=[A-Z])|\n/)[0]!.trim();
  return first.endsWith(".") ? first : `${first}.`;
}

/** What `--help` prints. */
export function helpText(command: AnyCommand, program = "binnacle"): string {
  const usage = [program, command.name, "[flags]", command.usage].filter(Boolean).join(" ");
  const flags: Flags = { ...command.flags, ...helpFlag };
  const rows = Object.entries(flags)
    .filter(([, flag]) => !flag.hidden)
    .map(([name, flag]) => [flagSyntax(name, flag), flag.help] as const);
  const width = Math.max(...rows.map(([syntax]) => syntax.length));
  const lines = [command.summary, "", `Usage: ${usage}`, ""];
  if (command.description) lines.push(command.description.trim(), "");
  lines.push("Flags:");
  for (const [syntax, help] of rows) lines.push(`  ${syntax.padEnd(width)}  ${help}`);
  lines.push("", "Examples:");
  for (const [example, does] of command.examples) lines.push(`  ${program} ${example}`, `      ${does}`);
  return `${lines.join("\n")}\n`;
}

function flagSyntax(name: string, { short, value, type }: Flag): string {
  const long = type === "string" ? `--${name} ${value ?? "VALUE"}` : `--${name}`;
  return short ? `-${short}, ${long}` : `    ${long}`;
}
