/** Addresses and words of models and artifacts. Pure. */
import type { ArtifactKind, ArtifactVersion } from "../artifact/schema.ts";

/** Numbers, not names, stand in paths: a name may hold anything. */
export const artifactHref = (id: number): string => `/models/${id}`;
export const versionHref = (id: number, version: string): string => `/models/${id}/${version}`;
export const fileHref = (id: number, version: string, path: string): string =>
  `${versionHref(id, version)}?file=${encodeURIComponent(path)}`;

export const artifactApi = (id: number): string => `/api/v1/artifacts/${id}`;
export const versionApi = (id: number, version: string): string => `${artifactApi(id)}/versions/${version}`;

export const downloadHref = (id: number, version: string, path: string): string =>
  `${versionApi(id, version)}/file?path=${encodeURIComponent(path)}`;
/** All its files at once. */
export const zipHref = (id: number, version: string): string => `${versionApi(id, version)}/zip`;
export const previewHref = (id: number, version: string, path: string): string =>
  `${versionApi(id, version)}/preview?path=${encodeURIComponent(path)}`;

export const shortDigest = (digest: string): string => digest.slice(0, 12);

/** A word as a POSIX shell reads it. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** What brings these files to another machine. */
export function getCommand(
  { kind, name, version }: Pick<ArtifactVersion, "kind" | "name" | "version">,
  source: string | null = null,
): string {
  const word = shellWord(`${name}:${version}`);
  const from = source === null ? "" : `--source ${shellWord(source)} `;
  return `binnacle ${kind} get ${from}${word.startsWith("-") ? "-- " : ""}${word}`;
}

export const kindTitles: Record<ArtifactKind, string> = { model: "Models", artifact: "Artifacts" };

/** What the URL of the list of names says. */
export interface ModelsView {
  kind: ArtifactKind;
  search: string;
  /** Label of a source; ".": this collector's own; "": whatever. */
  source: string;
}

export const parseModelsView = (params: URLSearchParams): ModelsView => ({
  kind: params.get("kind") === "artifact" ? "artifact" : "model",
  search: (params.get("search") ?? "").slice(0, 250),
  source: (params.get("source") ?? "").slice(0, 250),
});

export function modelsHref(
  { kind, search = "", source = "" }: Pick<ModelsView, "kind"> & Partial<ModelsView>,
  after?: number,
): string {
  const params = new URLSearchParams();
  if (kind !== "model") params.set("kind", kind);
  if (search) params.set("search", search);
  if (source) params.set("source", source);
  if (after !== undefined) params.set("after", String(after));
  const query = params.toString();
  return query ? `/models?${query}` : "/models";
}

/** Metrics beside the versions of a name: undefined is what the page chooses, an empty list is none. */
export interface ModelView {
  metrics: string[] | undefined;
}

const MAX_COLUMNS = 8;

export function parseModelView(params: URLSearchParams): ModelView {
  const metrics = params.getAll("metric");
  if (metrics.length === 0) return { metrics: undefined };
  return { metrics: [...new Set(metrics.filter((name) => name !== ""))].slice(0, MAX_COLUMNS) };
}

export function modelQuery({ metrics }: ModelView): string {
  if (metrics === undefined) return "";
  const params = new URLSearchParams();
  for (const metric of metrics.length === 0 ? [""] : metrics) params.append("metric", metric);
  return `?${params}`;
}

const USUAL_COLUMNS = 3;

/** What people judge a model by stands before what a training loop counts. */
const weightOf = (name: string): number =>
  /\b(val|valid|validation|test|eval)/i.test(name)
    ? 0
    : /(acc|loss|score|f1|auc|bleu|perplexity|error)/i.test(name)
      ? 1
      : 2;

export function usualMetrics(names: readonly string[]): string[] {
  return names.toSorted((a, b) => weightOf(a) - weightOf(b)).slice(0, USUAL_COLUMNS);
}

/** Which rows of a run's tab are open: "3.v2"; among its inputs "in.3.v2". */
export const rowKey = ({ id, version }: Pick<ArtifactVersion, "id" | "version">): string =>
  `${id}.${version}`;

/** What stands alone is open from the start. */
export function openRows(
  params: URLSearchParams,
  { outputs, inputs }: { outputs: readonly ArtifactVersion[]; inputs: readonly ArtifactVersion[] },
): Set<string> {
  const [only] = outputs;
  const usual = only && outputs.length + inputs.length === 1 ? [rowKey(only)] : [];
  return new Set(parseOpenRows(params) ?? usual);
}

export const parseOpenRows = (params: URLSearchParams): string[] | undefined =>
  params.has("open")
    ? params.getAll("open").filter((key) => /^(in\.)?\d{1,15}\.v\d{1,9}$/.test(key))
    : undefined;

export function openRowsQuery(open: ReadonlySet<string>): string {
  const params = new URLSearchParams();
  for (const key of open.size === 0 ? [""] : open) params.append("open", key);
  return `?${params}`;
}
