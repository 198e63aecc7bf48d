import { listAnnounced } from "../artifact/announce.ts";
import { countArtifacts, countRunArtifacts } from "../artifact/count.ts";
import { getArtifact, getVersion, listFiles, resolveVersion } from "../artifact/find.ts";
import { listArtifacts, listRunArtifacts, listVersions } from "../artifact/list.ts";
import { countPending, markPending } from "../artifact/pending.ts";
import type { Artifact, ArtifactKind, ArtifactVersion } from "../artifact/schema.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { listMetrics } from "../metric/query.ts";
import { toRun } from "../run/change.ts";
import { findRow } from "../run/find.ts";
import { sourceLabels } from "../source/known.ts";
import type { ModelsState, ModelState, RunFilesState, RunLabels, VersionState } from "./artifact-state.ts";
import { rowKey, type ModelsView } from "./artifact-view.ts";
import { isWireNumber } from "./format.ts";

const PAGE = 100;
const MAX_RUN_ROWS = 1000;
const FILES = 1000;
/** Names of metrics that may stand beside versions, and runs whose metrics are looked up. */
const MAX_METRICS = 100;
const MAX_METRICS_OF_RUN = 2000;
/** Of a version that many runs made or used, the page names so many. */
const MAX_LINKED = 200;

async function runLabels(collector: Collector, ids: Iterable<string>): Promise<RunLabels> {
  const rows = await Promise.all([...new Set(ids)].map((id) => findRow(collector, id)));
  const found = rows.filter((row) => row !== undefined && !row.deleted).map((row) => toRun(collector, row!));
  return Object.fromEntries(found.map(({ id, name, status }) => [id, { name, status }]));
}

/** Runs that a row of a listing names. */
const linkedRuns = (versions: readonly ArtifactVersion[]) =>
  versions.flatMap(({ produced_by, used_by }) => [...produced_by.slice(0, 3), ...used_by.slice(0, 3)]);

export async function modelsState(
  collector: Collector,
  view: ModelsView,
  after?: number,
): Promise<ModelsState> {
  const { kind, search } = view;
  const source = view.source === "" ? undefined : view.source;
  const query = { kind, source, ...(search && { search }), limit: PAGE + 1, after };
  const found = await listArtifacts(collector, query);
  const artifacts = found.slice(0, PAGE);
  return {
    view,
    artifacts,
    next: found.length > PAGE ? artifacts.at(-1)!.id : null,
    counts: await countArtifacts(collector, source),
    sources: await sourceLabels(collector),
    runs: await runLabels(collector, linkedRuns(artifacts.map(({ latest }) => latest))),
    now: collector.now(),
  };
}

async function findArtifact(collector: Collector, id: number): Promise<Artifact> {
  const [artifact] = await listArtifacts(collector, { id });
  if (artifact) return artifact;
  throw new CollectorError("not-found", "There is no such model or artifact.", {
    hint: "It may have been deleted.",
  });
}

/** `limit`: as many as a page shows already, when it is brought up to date. */
export async function modelState(
  collector: Collector,
  id: number,
  { before, limit = PAGE }: { before?: number | undefined; limit?: number | undefined } = {},
): Promise<ModelState> {
  const artifact = await findArtifact(collector, id);
  const found = await listVersions(collector, id, { limit: limit + 1, ...(before && { before }) });
  const versions = found.slice(0, limit);
  const makers = [...new Set(versions.flatMap(({ produced_by }) => produced_by.slice(0, 1)))];
  const runs = await runLabels(collector, linkedRuns(versions));
  const metrics: ModelState["metrics"] = {};
  const countByName = new Map<string, number>();
  for (const run of makers) {
    if (!runs[run]) continue;
    const numbers = (await listMetrics(collector, run)).metrics.slice(0, MAX_METRICS_OF_RUN);
    metrics[run] = {};
    for (const { name, last } of numbers) {
      if (!isWireNumber(last)) continue;
      metrics[run][name] = last;
      countByName.set(name, (countByName.get(name) ?? 0) + 1);
    }
  }
  const metricNames = [...countByName]
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .slice(0, MAX_METRICS)
    .map(([name]) => name);
  const kept = new Set(metricNames);
  for (const [run, all] of Object.entries(metrics))
    metrics[run] = Object.fromEntries(Object.entries(all).filter(([name]) => kept.has(name)));
  return {
    artifact,
    versions,
    next: found.length > limit ? versions.at(-1)!.version : null,
    runs,
    metrics,
    metricNames,
    now: collector.now(),
  };
}

export async function versionState(collector: Collector, id: number, word: string): Promise<VersionState> {
  const artifact = await findArtifact(collector, id);
  const number = await resolveVersion(collector, id, word);
  const version = await getVersion(collector, id, number);
  const { produced_by, used_by } = version;
  const runs = await runLabels(collector, [
    ...produced_by.slice(0, MAX_LINKED),
    ...used_by.slice(0, MAX_LINKED),
  ]);
  const maker = produced_by.find((run) => runs[run]);
  const files = await listFiles(collector, id, number, { limit: FILES + 1 });
  return {
    artifact,
    version,
    pending: artifact.source === null ? 0 : countPending(collector, id, number),
    files: {
      files: markPending(collector, files.slice(0, FILES)),
      next: files.length > FILES ? files[FILES - 1]!.path : null,
    },
    runs,
    metrics:
      maker === undefined ? undefined : (await listMetrics(collector, maker)).metrics.slice(0, MAX_METRICS),
    now: collector.now(),
  };
}

export async function runFilesState(
  collector: Collector,
  run: string,
  kind: ArtifactKind,
): Promise<RunFilesState> {
  const all = (await listRunArtifacts(collector, run)).filter(({ version }) => version.kind === kind);
  const of = (role: "output" | "input") =>
    all
      .filter((each) => each.role === role)
      .toReversed()
      .map(({ version, time, origin }) => ({ ...version, time, origin }));
  const [outputs, inputs] = [of("output"), of("input")];
  const shown = [...outputs.slice(0, MAX_RUN_ROWS), ...inputs.slice(0, MAX_RUN_ROWS)];
  const rows = await Promise.all(
    [...new Set(shown.map(({ id }) => id))].map((id) => getArtifact(collector, id)),
  );
  const onlyFiles: RunFilesState["onlyFiles"] = {};
  for (const version of shown) {
    if (version.files !== 1) continue;
    const [file] = await listFiles(collector, version.id, Number(version.version.slice(1)), { limit: 1 });
    if (file) onlyFiles[rowKey(version)] = file.path;
  }
  return {
    kind,
    onlyFiles,
    outputs: outputs.slice(0, MAX_RUN_ROWS),
    inputs: inputs.slice(0, MAX_RUN_ROWS),
    announced: listAnnounced(collector, run)
      .filter((each) => each.kind === kind)
      .slice(0, MAX_RUN_ROWS),
    totals: { outputs: outputs.length, inputs: inputs.length },
    names: Object.fromEntries(
      rows.map(({ id, created, updated }) => [
        id,
        { created: new Date(created).toISOString(), updated: new Date(updated).toISOString() },
      ]),
    ),
    runs: await runLabels(collector, linkedRuns(shown)),
    counts: countRunArtifacts(collector, run),
    now: collector.now(),
  };
}
