import { z } from "zod";
import {
  ArtifactFile,
  ArtifactKind,
  ArtifactName,
  ArtifactType,
  Alias,
  CONTROL_OR_BIDI,
  Origin,
} from "../artifact/schema.ts";
import { MAX_FILE_BYTES, Sha256 } from "../blob/schema.ts";
import { DeviceFacts, DeviceId } from "../device/schema.ts";
import { MAX_SERIES_PER_RUN, MAX_STEP, MAX_TIME, MetricKey } from "../metric/schema.ts";
import { ClientId, Config, Json, Label, RunId, RunStatus, WriterRole } from "../run/schema.ts";
import { EventKind } from "../sample/schema.ts";

export const FORMAT = "binnacle-run";
/** Of the layout. An importer reads its own and older ones. What has no spans is written as the first, for older importers. */
export const FORMAT_VERSION = 2;
const BEFORE_SPANS = 1;
export const formatOf = ({ spans }: { spans: number }): number =>
  spans === 0 ? BEFORE_SPANS : FORMAT_VERSION;

/** Where what stands in the zip. Files of artifacts have names of their own. */
export const paths = {
  manifest: "manifest.json",
  run: "run.json",
  config: "config.json",
  points: "metrics/points.parquet",
  pointsCsv: "metrics/points.csv",
  texts: "metrics/texts.ndjson",
  lines: "logs/lines.ndjson",
  output: "logs/output.txt",
  samples: "hardware/samples.parquet",
  devices: "hardware/devices.json",
  events: "hardware/events.ndjson",
  spans: "spans.ndjson",
  artifacts: "artifacts.json",
} as const;

/** What only newer archives have, and only where there is something in it. */
export const isOptional = (path: string): boolean => path === paths.spans;

const folderByKind = { model: "models", artifact: "artifacts" } as const;

/** Where the file of a version stands, should no other file have the same bytes before it. */
export const fileEntry = (kind: ArtifactKind, name: string, version: number, path: string): string =>
  `${folderByKind[kind]}/${name}/v${version}/${path}`;

const known = new Set<string>(Object.values(paths));

/** Whether a name can be one of ours: nothing that a folder could be left by, or that two systems read in two ways. */
export function isEntryName(name: string): boolean {
  if (known.has(name)) return true;
  return (
    name.length <= 1300 &&
    name.isWellFormed() &&
    /^(models|artifacts)\//.test(name) &&
    !CONTROL_OR_BIDI.test(name) &&
    !name.includes("\\") &&
    name.split("/").every((part) => part !== "" && part !== "." && part !== "..")
  );
}

export const ManifestFile = z.object({
  path: z.string().max(1300),
  size: z.int().min(0).max(MAX_FILE_BYTES),
  sha256: Sha256,
});
export type ManifestFile = z.infer<typeof ManifestFile>;

const count = z.int().min(0);
const time = z.number().min(0).max(MAX_TIME);

/** manifest.json: what the zip holds, every file with its digest. It is the last of its files. */
export const Manifest = z.object({
  format: z.literal(FORMAT),
  version: z.int().min(1),
  /** Of the program that wrote it. */
  binnacle: z.string().max(100),
  /** RFC 3339 UTC. */
  created: z.iso.datetime(),
  run: z.object({ id: RunId, name: z.string().max(1000), project: z.string().max(1000), status: RunStatus }),
  counts: z.object({
    points: count,
    texts: count,
    lines: count,
    samples: count,
    events: count,
    versions: count,
    spans: count.default(0),
  }),
  files: z.array(ManifestFile).max(500_000),
});
export type Manifest = z.infer<typeof Manifest>;

/** run.json: the run's row, its writers, and the series in the order of their first appearance. Times are ms since the epoch. */
export const ArchivedRun = z.object({
  id: RunId,
  name: Label,
  project: Label,
  status: RunStatus,
  reason: z.string().max(10_000).nullable(),
  tags: z.array(Label).max(1000),
  notes: z.string().max(100_000).nullable(),
  command: z.string().max(100_000).nullable(),
  device: z.string().max(255).nullable(),
  exit_code: z.int().min(0).max(255).nullable(),
  created: time,
  started: time.nullable(),
  finished: time.nullable(),
  presumed: z.boolean(),
  /** Records and lines that it has taken: where numbering goes on. */
  next_ordinal: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  next_line: z.int().min(1).max(Number.MAX_SAFE_INTEGER),
  writers: z
    .array(
      z.object({
        client: ClientId,
        role: WriterRole,
        rank: z.int().min(0).max(1_000_000),
        device: z.string().max(255).nullable(),
        pid: z.int().nullable(),
        boot: z.string().max(64).nullable(),
        start: z.int().nullable(),
        outcome: RunStatus.nullable(),
        first_step: z.number(),
      }),
    )
    .max(100_000),
  /** Batches taken of each client, and the step of its next record without one. */
  clients: z
    .array(
      z.object({
        client: ClientId,
        batches: z.int().min(0),
        next_step: z.number().min(-MAX_STEP).max(MAX_STEP),
      }),
    )
    .max(100_000),
  series: z
    .array(
      z.object({
        metric: MetricKey,
        rank: z.int().min(0).max(1_000_000),
        /** Custom x axis it was last logged with. */
        x: MetricKey.nullable(),
        /** It served as an x axis itself. */
        axis: z.boolean(),
      }),
    )
    .max(MAX_SERIES_PER_RUN)
    .refine(
      (series) => new Set(series.map(({ metric, rank }) => `${rank} ${metric}`)).size === series.length,
      "names a series twice",
    ),
});
export type ArchivedRun = z.infer<typeof ArchivedRun>;

export const ArchivedConfig = Config;

const Use = z.object({
  from: time,
  to: time.nullable(),
  attribution: z.enum(["cgroup", "descendants", "environment"]).nullable(),
  cpu_seconds: z.number(),
  gpus: z.record(
    z.string().max(200),
    z.object({
      index: z.number(),
      name: z.string(),
      by: z.enum(["visible", "process"]),
      energy: z.number().nullable(),
      hours: z.number(),
      peak_memory: z.number().nullable(),
      shared: z.boolean(),
    }),
  ),
  note: z.string().max(10_000).nullable(),
});

/** hardware/devices.json: the machines that the run lived on, and what it used there. */
export const ArchivedDevices = z
  .array(
    z.object({
      id: DeviceId,
      /** null: the machine never said what it is. */
      facts: DeviceFacts.nullable(),
      first_seen: time.nullable(),
      last_seen: time.nullable(),
      use: Use,
    }),
  )
  .max(10_000)
  .refine((devices) => new Set(devices.map(({ id }) => id)).size === devices.length, "names a device twice");
export type ArchivedDevices = z.infer<typeof ArchivedDevices>;

/** A line of hardware/events.ndjson. */
export const ArchivedEvent = z.object({
  device: DeviceId,
  subject: z.string().max(300),
  time,
  kind: EventKind,
  text: z.string().max(10_000),
  detail: z.record(z.string(), Json),
});
export type ArchivedEvent = z.infer<typeof ArchivedEvent>;

/** artifacts.json: versions that the run logged or used. The bytes of a file stand wherever the manifest has its digest. */
export const ArchivedVersions = z
  .array(
    z.object({
      kind: ArtifactKind,
      name: ArtifactName,
      type: ArtifactType,
      version: z.int().min(1).max(1_000_000_000),
      /** Of the name, not of this version. */
      about: z.object({ description: z.string().max(100_000).nullable(), created: time, updated: time }),
      description: z.string().max(100_000).nullable(),
      metadata: z.record(z.string().max(1000), z.json()),
      aliases: z.array(Alias).max(10_000),
      created: time,
      files: z.array(ArtifactFile).max(100_000),
      uses: z
        .array(z.object({ role: z.enum(["output", "input"]), time, origin: Origin }))
        .min(1)
        .max(2),
    }),
  )
  .max(100_000)
  .refine(
    (all) => new Set(all.map(({ kind, name, version }) => `${kind} ${version} ${name}`)).size === all.length,
    "names a version twice",
  );
export type ArchivedVersions = z.infer<typeof ArchivedVersions>;

/** A line of metrics/texts.ndjson: a value that is no number. */
export const ArchivedText = z.object({
  ordinal: count,
  rank: z.int(),
  step: z.number().min(-MAX_STEP).max(MAX_STEP),
  time,
  metric: z.string(),
  value: z.json(),
});
export type ArchivedText = z.infer<typeof ArchivedText>;

/** POST /api/v1/runs/import */
export const ImportRun = z.object({
  /** Under a new id, whatever the archive says. */
  new_id: z.enum(["true", "false"]).default("false"),
});

/** What was brought in. */
export const ImportedRun = z
  .object({
    run: z.string(),
    /** The id it had where it was exported. */
    exported_as: z.string(),
    name: z.string(),
    status: RunStatus,
    points: z.number(),
    texts: z.number(),
    lines: z.number(),
    samples: z.number(),
    events: z.number(),
    spans: z.number(),
    /** Under which version each of the archive's is found here. */
    versions: z.array(
      z.object({
        id: z.number(),
        kind: ArtifactKind,
        name: z.string(),
        exported_as: z.string(),
        version: z.string(),
        /** false: a version with the same files was here already. */
        is_new: z.boolean(),
        /** Aliases that were not set: here they lead to another version. */
        aliases_left: z.array(z.string()),
      }),
    ),
    /** What is not as it was, in words. */
    notes: z.array(z.string()),
  })
  .meta({ id: "ImportedRun" });
export type ImportedRun = z.infer<typeof ImportedRun>;
