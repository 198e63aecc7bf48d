import type {
  Artifact,
  ArtifactKind,
  ArtifactVersion,
  RunArtifact,
  RunArtifacts,
} from "../artifact/schema.ts";
import { listArtifacts, listVersions } from "../client/typescript/artifacts.ts";
import { requestJson } from "../client/typescript/http.ts";
import { findNamed, publicVersion, requireName } from "./artifact-name.ts";
import { cutMiddle, oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag, runFlag, sourceFlag } from "./command.ts";
import { ANSWER_WITHIN_MS, connect, findRun, runPath } from "./connect.ts";
import { columns, print, printJson, printText } from "./output.ts";
import { localTime } from "./text.ts";
import { bytes } from "./units.ts";
import { UsageError } from "./error.ts";

export const ofKind = (kind: ArtifactKind) =>
  defineCommand({
    name: `${kind} list`,
    usage: "[NAME]",
    maxPositionals: 1,
    summary: `List ${kind}s, the versions of one, or what a run logged and used.`,
    flags: {
      ...runFlag,
      search: { type: "string", value: "TEXT", help: `only ${kind}s whose name or type has this in it` },
      ...sourceFlag,
      ...jsonFlag,
      ...connectionFlags,
    },
    examples: [
      [`${kind} list`, `show every ${kind} with its newest version`],
      [`${kind} list digits`, "show all versions of digits"],
      [`${kind} list -rid 483`, "show what the run whose id begins with 483 logged and used"],
    ],
    async run({ values, positionals: [name] }) {
      const connection = connect(values);
      const id = values["run-id"];
      if ([name, id, values.search].filter((given) => given !== undefined).length > 1)
        throw new UsageError("Give a name, -rid ID or --search TEXT: one of them.");

      if (id !== undefined) {
        const run = await findRun(connection, id, `${kind} list`);
        const all = await requestJson<RunArtifacts>(connection, runPath(run.id, "/artifacts"));
        const rows = [...withRole(all.outputs, "output"), ...withRole(all.inputs, "input")].filter(
          (row) => row.kind === kind,
        );
        if (values.json) await printJson(rows.map(publicRunArtifact));
        else await printText(rows.length === 0 ? `This run has no ${kind}s.\n` : runTable(rows));
      } else if (name !== undefined) {
        const { artifact } = await findNamed(
          connection,
          kind,
          requireName(name, `${kind} list`),
          values.source,
        );
        const versions = await collect(listVersions(connection, artifact.id));
        if (values.json) await printJson(versions.map(publicVersion));
        else await printText(versionTable(versions));
      } else {
        const query = { kind, search: values.search, source: values.source };
        const artifacts = await collect(listArtifacts(connection, query, ANSWER_WITHIN_MS));
        if (values.json) await printJson(artifacts.map(publicArtifact));
        else if (artifacts.length > 0) await printText(artifactTable(artifacts));
        else await print(`No ${kind}s. Keep one with \`binnacle ${kind} put NAME PATH\`.\n`);
      }
      return 0;
    },
  });

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

type Role = "output" | "input";
type RunRow = RunArtifact & { role: Role };

const withRole = (rows: RunArtifact[], role: Role): RunRow[] => rows.map((row) => ({ ...row, role }));

/** The documented fields and no others. */
function publicArtifact({ latest, ...artifact }: Artifact): Artifact {
  const { id, kind, name, type, description, created, updated, versions, source } = artifact;
  const about = { type, description, created, updated, versions, source };
  return { id, kind, name, ...about, latest: publicVersion(latest) };
}

const publicRunArtifact = (row: RunRow) => ({
  ...publicVersion(row),
  role: row.role,
  time: row.time,
  origin: row.origin,
});

const aliasesOf = ({ aliases }: ArtifactVersion) => short(aliases.join(" ")) || "-";
const runsOf = (runs: string[]) => short(runs.join(" ")) || "-";

/** On a terminal one long name would push all the other columns out of sight; a program gets all of it. */
const short = (text: string) =>
  process.stdout.isTTY ? cutMiddle(text, Math.max(24, Math.floor((process.stdout.columns || 80) / 3))) : text;
const nameOf = (text: string) => short(oneLine(text));

function artifactTable(artifacts: Artifact[]): string {
  const withSource = artifacts.some(({ source }) => source !== null);
  return columns([
    [
      "NAME",
      "TYPE",
      "NEWEST",
      "ALIASES",
      "FILES",
      "SIZE",
      "UPDATED",
      "RUN",
      ...(withSource ? ["SOURCE"] : []),
    ],
    ...artifacts.map(({ name, type, updated, latest, source }) => [
      nameOf(name),
      nameOf(type),
      latest.version,
      aliasesOf(latest),
      String(latest.files),
      bytes(latest.size),
      localTime(updated),
      runsOf(latest.produced_by),
      ...(withSource ? [nameOf(source ?? "-")] : []),
    ]),
  ]);
}

const versionTable = (versions: ArtifactVersion[]) =>
  columns([
    ["VERSION", "ALIASES", "FILES", "SIZE", "DIGEST", "CREATED", "RUN", "USED BY"],
    ...versions.map((version) => [
      version.version,
      aliasesOf(version),
      String(version.files),
      bytes(version.size),
      version.digest.slice(0, 12),
      localTime(version.created),
      runsOf(version.produced_by),
      runsOf(version.used_by),
    ]),
  ]);

const runTable = (rows: RunRow[]) =>
  columns([
    ["", "NAME", "VERSION", "ALIASES", "FILES", "SIZE", "TIME"],
    ...rows.map((row) => [
      row.role === "output" ? "logged" : "used",
      nameOf(row.name),
      row.version,
      aliasesOf(row),
      String(row.files),
      bytes(row.size),
      localTime(row.time),
    ]),
  ]);
