import { existsSync, mkdtempSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, resolve } from "node:path";
import { isAlias, isMap, isScalar, isSeq, parseDocument, type Document } from "yaml";
import { z } from "zod";
import { CollectorError } from "../error.ts";
import { sayIssue } from "../issue.ts";
import { Label, type Config } from "../run/schema.ts";

/** What a job file says, as far as it can be done on this machine. */
export interface Job {
  /** Shell text; `bootstrap` has been put before it. */
  script: string;
  /** Where it runs: an absolute path. */
  workspace: string;
  name: string | undefined;
  project: string | undefined;
  /** Its parameters: every map that is not about the job itself. */
  config: Config;
  /** FEDML_ENV_… of every scalar in the file. */
  env: Record<string, string>;
  /** Keys that have no effect on the job here, though somebody may expect one. */
  ignored: string[];
}

/** Shell text, or one for each platform. */
const Script = z.union([
  z.string(),
  z.object({ run_on_posix: z.string().nullish(), run_on_windows: z.string().nullish() }),
  z.null(),
]);

/** YAML reads the name 2024 as a number. */
const Name = z.union([Label, z.number(), z.bigint()]);

const JobFile = z.looseObject({
  job: Script,
  bootstrap: Script.optional(),
  workspace: z.string().nullish(),
  job_name: Name.nullish(),
  fedml_env: z.looseObject({ project_name: Name.nullish() }).nullish(),
});

/** Keys that mean something elsewhere: `project_name` inside fedml_env, variables as FEDML_ENV_… They are kept, and named. */
const MISPLACED_KEYS = new Set(["project_name", "environment_variables"]);

/** Keys that place, price or federate a job: there is no cloud here to do it. */
const CLOUD_KEYS = new Set([
  "computing",
  "containerize",
  "docker",
  "server_job",
  "serving_args",
  "job_args",
  "expert_mode",
  "framework_type",
  "job_type",
  "task_type",
  "job_subtype",
  "task_subtype",
]);
const JOB_KEYS = new Set(["job", "bootstrap", "workspace", "job_name", "fedml_env"]);

/** Reads a job file of `fedml launch`. */
export function readJob(path: string): Job {
  const { document, value } = parse(path);
  const parsed = JobFile.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue!.path.join(".");
    throw broken(path, where ? `${where}: ${sayIssue(issue!)}` : "it is no map of keys");
  }
  const file = parsed.data;
  const script = posix(file.job);
  if (!script?.trim()) throw broken(path, "job: there is no shell text to run");

  const env: Record<string, string> = {};
  collectEnv(document, document.contents, [], env);
  const bootstrap = posix(file.bootstrap ?? null)?.trim();
  const text = [...(bootstrap ? [bootstrap] : []), script].join("\n");
  const known = Object.entries(file).filter(([key]) => !JOB_KEYS.has(key));
  return {
    script: replaceVariables(text, env),
    workspace: findWorkspace(path, file.workspace),
    name:
      textOf(file.job_name) ??
      (file.workspace ? basename(resolve(dirname(path), file.workspace)) : undefined),
    project: textOf(file.fedml_env?.project_name),
    config: Object.fromEntries(
      known.filter(([key]) => !CLOUD_KEYS.has(key)).map(([key, value]) => [key, toJson(value)]),
    ),
    env,
    ignored: [
      ...known.map(([key]) => key).filter((key) => CLOUD_KEYS.has(key) || MISPLACED_KEYS.has(key)),
      ...Object.keys(file.fedml_env ?? {})
        .filter((key) => key !== "project_name")
        .map((key) => `fedml_env.${key}`),
      ...(["job", "bootstrap"] as const)
        .filter((key) => hasWindows(file[key]))
        .map((key) => `${key}.run_on_windows`),
    ],
  };
}

function parse(path: string): { document: Document; value: unknown } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CollectorError(
      "invalid",
      `The job file ${path} ${code === "ENOENT" ? "does not exist" : `can't be read (${code})`}.`,
      {
        hint: "To run a command, put it behind --: binnacle launch -- COMMAND.",
        cause: error,
      },
    );
  }
  // Big integers, so that ids and seeds above 2^53 keep their digits.
  const document = parseDocument(text, { intAsBigInt: true, merge: true });
  const [error] = document.errors;
  if (error) throw broken(path, error.message.split("\n")[0]!.replace(/:$/, ""));
  try {
    return { document, value: document.toJS() };
  } catch (cause) {
    // Aliases: unknown ones, or so many that they are meant to fill the memory.
    throw broken(path, (cause as Error).message);
  }
}

function broken(path: string, reason: string): CollectorError {
  return new CollectorError("invalid", `The job file ${path} cannot be used: ${reason}.`, {
    hint: "It wants at least `job: |` with the shell text to run.",
  });
}

const posix = (script: z.infer<typeof Script>) =>
  script === null || typeof script === "string" ? script : script.run_on_posix;

const hasWindows = (script: z.infer<typeof Script> | undefined) =>
  typeof script === "object" && script !== null && script.run_on_windows != null;

const textOf = (value: string | number | bigint | null | undefined) =>
  value === null || value === undefined ? undefined : String(value);

function findWorkspace(path: string, workspace: string | null | undefined): string {
  if (!workspace?.trim()) return mkdtempSync(`${tmpdir()}/binnacle-job-`);
  const folder = resolve(dirname(path), workspace);
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new CollectorError(
      "invalid",
      `The job file ${path} cannot be used: workspace: there is no folder ${folder}.`,
      { hint: "A workspace is looked for beside the job file." },
    );
  return folder;
}

/**
 * `training_params: {learning_rate: 0.1}` → FEDML_ENV_TRAINING_PARAMS_LEARNING_RATE=0.1. Numbers as they are spelled in
 * the file, truth as Python spells it: that is what scripts compare with.
 */
function collectEnv(document: Document, node: unknown, path: string[], env: Record<string, string>): void {
  if (isAlias(node)) {
    collectEnv(document, node.resolve(document), path, env);
  } else if (isMap(node)) {
    const isMerge = (key: unknown) => isScalar(key) && (key.value === "<<" || typeof key.value === "symbol");
    for (const { key, value } of node.items) if (isMerge(key)) collectEnv(document, value, path, env);
    for (const { key, value } of node.items)
      if (!isMerge(key)) collectEnv(document, value, [...path, String(isScalar(key) ? key.value : key)], env);
  } else if (isSeq(node)) {
    node.items.forEach((item, index) => collectEnv(document, item, [...path, String(index)], env));
  } else if (isScalar(node) && path.length > 0) {
    const name = `FEDML_ENV_${path
      .join("_")
      .toUpperCase()
      .replace(/[^A-Z0-9_]/g, "_")}`;
    env[name] = spell(node.value, node.source)
      .replace(/\s*\n\s*$/, "")
      .replaceAll("\n", ";");
  }
}

function spell(value: unknown, source: string | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return source ?? String(value);
  return String(value);
}

/** As a run's config has it: integers that float64 cannot hold are strings, as are NaN and the infinities. */
function toJson(value: unknown): Config[string] {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]));
  return typeof value === "string" || typeof value === "boolean" ? value : null;
}

/** `$NAME` and `${NAME}` of these variables; longer names first, since one may be the beginning of another. */
function replaceVariables(text: string, env: Record<string, string>): string {
  return text.replace(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (whole, braced?: string, bare?: string) => env[braced ?? bare!] ?? whole,
  );
}
