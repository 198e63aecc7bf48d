/** What the pages of models and artifacts show; the server embeds it and the browser keeps it up to date. */
import type { ArtifactCounts } from "../artifact/count.ts";
import type {
  Announced,
  Artifact,
  ArtifactKind,
  ArtifactVersion,
  FilePage,
  RunArtifact,
} from "../artifact/schema.ts";
import type { MetricSummary } from "../metric/schema.ts";
import type { RunStatus } from "../run/schema.ts";
import type { ModelsView } from "./artifact-view.ts";
import type { WireNumber } from "./format.ts";

export interface RunLabel {
  name: string;
  status: RunStatus;
}

/** By id; a run that is not here was deleted. */
export type RunLabels = Record<string, RunLabel>;

/** /models: every name. */
export interface ModelsState {
  view: ModelsView;
  artifacts: Artifact[];
  next: number | null;
  counts: ArtifactCounts;
  /** Labels of those who relay here. */
  sources: string[];
  runs: RunLabels;
  now: number;
}

/** /models/{id}: the versions of a name. */
export interface ModelState {
  artifact: Artifact;
  versions: ArtifactVersion[];
  next: string | null;
  runs: RunLabels;
  /** Last values by run and metric, of the runs that made the versions. */
  metrics: Record<string, Record<string, WireNumber>>;
  /** Of all those runs, those that most of them have first. */
  metricNames: string[];
  now: number;
}

/** /models/{id}/{version}. */
export interface VersionState {
  artifact: Artifact;
  version: ArtifactVersion;
  files: FilePage;
  runs: RunLabels;
  /** Of the run that made it first. */
  metrics: MetricSummary[] | undefined;
  /** Files whose bytes are still on their way from the source. */
  pending: number;
  now: number;
}

/** The tabs Models and Artifacts of a run. */
export interface RunFilesState {
  kind: ArtifactKind;
  /** The newest first. */
  outputs: RunArtifact[];
  inputs: RunArtifact[];
  /** What it says it has logged, and what is not here. */
  announced: Announced[];
  /** How many there are of each, all told. */
  totals: { outputs: number; inputs: number };
  /** The path of the file, by row, of versions that have but one. */
  onlyFiles: Record<string, string>;
  /** When their names were first and last logged, by id. */
  names: Record<number, { created: string; updated: string }>;
  runs: RunLabels;
  counts: ArtifactCounts;
  now: number;
}
