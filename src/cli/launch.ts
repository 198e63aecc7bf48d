import { existsSync } from "node:fs";
import { unpackPython } from "../client/python-files.ts";
import { sayIssue } from "../issue.ts";
import { launch, type LaunchPlan } from "../launch/launch.ts";
import { readJob } from "../launch/job.ts";
import { Label, RunId } from "../run/schema.ts";
import { connectionFlags, defineCommand } from "./command.ts";
import { trackTable } from "./fedml-output.ts";
import { errorLine, exitCodeOf, ExitCode, UsageError } from "./error.ts";

/** Of launch's own failures, apart from the program's: as `env`, `timeout` and `docker run` have it. */
const OWN_FAILURE = 125;

export const command = defineCommand({
  name: "launch",
  usage: "(JOB.yaml | -- COMMAND…)",
  summary: "Run a command or a job file and keep what it does.",
  description:
    "Output is shown as it comes and kept line by line. The exit code is the program's (128 + n where signal n ended it;\n" +
    "125 where launch itself fails, 126 and 127 where the program cannot be run or found). Without $BINNACLE_URL and with\n" +
    "no collector running, one is started in the background; `binnacle stop` ends it.",
  flags: {
    name: {
      type: "string",
      short: "n",
      value: "NAME",
      help: "a name for the run (default: a memorable one)",
    },
    project: { type: "string", short: "p", value: "PROJECT", help: "the project it belongs to" },
    "run-id": {
      type: "string",
      aliases: ["rid", "run_id"],
      value: "ID",
      help: "this id: a new run, or one to go on with",
    },
    tag: { type: "string", multiple: true, value: "TAG", help: "a label; may be repeated" },
    ...connectionFlags,
  },
  maxPositionals: Infinity,
  takesRest: true,
  examples: [
    ["launch -- python3 train.py --lr 0.1", "run a training"],
    ["launch -n baseline -p digits --tag nightly -- ./train.sh", "with a name, a project and a tag"],
    ["launch --run-id 483920175526711 -- python3 train.py --resume", "go on with a run that has ended"],
    ["launch job.yaml", "run a job file as FedML's, on this machine"],
  ],
  async run({ values, positionals, rest, program }) {
    const plan = planOf(positionals, rest);
    plan.name = label("--name", values.name) ?? plan.name;
    plan.project = label("--project", values.project) ?? plan.project;
    plan.tags = values.tag.map((tag) => label("--tag", tag)!);
    plan.runId = values["run-id"];
    if (plan.runId !== undefined && !RunId.safeParse(plan.runId).success)
      throw new UsageError(`'${plan.runId}' is no run id: use letters, digits, '.', '_' and '-'.`, "launch");
    try {
      return await launch(plan, {
        url: values.url,
        data: values.data,
        unpackPython,
        onRun: program === "fedml" ? (run) => process.stderr.write(trackTable(run)) : undefined,
      });
    } catch (error) {
      process.stderr.write(`${errorLine(error, program)}\n`);
      return exitCodeOf(error) === ExitCode.usage ? ExitCode.usage : OWN_FAILURE;
    }
  },
});

function planOf(positionals: string[], rest: string[] | undefined): LaunchPlan {
  if (rest !== undefined && positionals.length > 0)
    throw new UsageError(
      `Give a job file or a command behind '--', not both ('${positionals[0]}').`,
      "launch",
    );
  if (rest !== undefined) return commandPlan(rest);
  const [path, ...more] = positionals;
  if (path === undefined)
    throw new UsageError("Say what to run: a job file, or a command behind '--'.", "launch");
  if (more.length > 0 || (!existsSync(path) && !/\.ya?ml$/i.test(path)))
    throw new UsageError(`A command goes behind '--': launch -- ${positionals.join(" ")}.`, "launch");
  return jobPlan(path);
}

function commandPlan([file, ...args]: string[]): LaunchPlan {
  if (!file) throw new UsageError("There is no command behind '--'.", "launch");
  return { file, args, command: [file, ...args].map(quote).join(" "), env: process.env };
}

function jobPlan(path: string): LaunchPlan {
  const { script, workspace, name, project, config, env, ignored } = readJob(path);
  if (ignored.length > 0)
    process.stderr.write(`binnacle: ${path}: not done here, and passed over: ${ignored.join(", ")}.\n`);
  return {
    file: "bash",
    args: ["-c", `set -e\n${script}`],
    command: script,
    cwd: workspace,
    env: { ...process.env, ...env },
    name,
    project,
    config,
  };
}

function label(flag: string, given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const parsed = Label.safeParse(given);
  if (parsed.success) return given;
  throw new UsageError(`${flag} ${sayIssue(parsed.error.issues[0]!)}.`, "launch");
}

/** So that it can be pasted into a shell. */
const quote = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
