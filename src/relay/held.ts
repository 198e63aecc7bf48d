/**
 * Facts of history: what is, said whole, so that saying it again changes nothing. Payloads are JSON (Encoding.json or jsonZstd); in a
 * frame's `run` stands the run's id, "device:<id>" or "artifact:", `count` is 1, `seq` 0. Times are ms since the epoch.
 */
import { z } from "zod";
import { Alias, ArtifactFile, ArtifactKind, ArtifactName, ArtifactType, Origin } from "../artifact/schema.ts";
import { DeviceFacts, DeviceId } from "../device/schema.ts";
import { MAX_SERIES_PER_RUN, MAX_STEP, MAX_TIME, MetricKey } from "../metric/schema.ts";
import { ClientId, Config, Json, Label, RunId, RunStatus, WriterRole } from "../run/schema.ts";

export const HELD_VERSION = 1;

const time = z.number().min(0).max(MAX_TIME);

/** A row of `writer`. */
export const HeldWriter = z.object({
  client: ClientId,
  role: WriterRole,
  rank: z.int().min(0).max(1_000_000),
  device: z.string().max(255).nullable(),
  pid: z.int().nullable(),
  boot: z.string().max(64).nullable(),
  start: z.int().nullable(),
  outcome: RunStatus.nullable(),
  nextStep: z.number().min(-MAX_STEP).max(MAX_STEP),
});
export type HeldWriter = z.infer<typeof HeldWriter>;

/** What a run used of a device: the payload of `use.changed`, and a row of `run_device`. */
export const HeldUse = z.object({
  device: DeviceId,
  from: time,
  to: time.nullable(),
  attribution: z.enum(["cgroup", "descendants", "environment"]).nullable(),
  cpuSeconds: z.number(),
  gpus: z.record(
    z.string().max(200),
    z.object({
      index: z.number(),
      name: z.string().max(300),
      by: z.enum(["visible", "process"]),
      energy: z.number().nullable(),
      hours: z.number(),
      peak_memory: z.number().nullable(),
      shared: z.boolean(),
    }),
  ),
  note: z.string().max(10_000).nullable(),
});
export type HeldUse = z.infer<typeof HeldUse>;

/** Members of a run's row that travel; the others are each installation's own. Those of `run.created` and `run.changed`, too. */
export const HeldRow = z.object({
  name: Label,
  project: Label,
  status: RunStatus,
  reason: z.string().max(10_000).nullable(),
  config: Config,
  tags: z.array(Label).max(1000),
  notes: z.string().max(100_000).nullable(),
  command: z.string().max(100_000).nullable(),
  device: z.string().max(255).nullable(),
  exitCode: z.int().min(0).max(255).nullable(),
  created: time,
  started: time.nullable(),
  finished: time.nullable(),
  presumed: z.boolean(),
  /** Labels of those it comes from, the last one's own: of runs that were relayed to whoever says this. */
  origin: z.string().max(2000).nullable(),
  /** When the installation that it comes from deleted it: of runs that were relayed to whoever says this. */
  deletedAtSource: time.nullable(),
});
export type HeldRow = z.infer<typeof HeldRow>;

/** run.held: a run with all but its data. Its positions are the receiver's own: what stands here of numbers is never taken for them. */
export const HeldRun = z.object({
  id: RunId,
  row: HeldRow.extend({
    origin: HeldRow.shape.origin.default(null),
    deletedAtSource: HeldRow.shape.deletedAtSource.default(null),
  }),
  writers: z.array(HeldWriter).max(100_000),
  /** In the order of their first appearance. */
  series: z
    .array(
      z.object({
        key: MetricKey,
        rank: z.int().min(0).max(1_000_000),
        /** Custom x axis it was last logged with. */
        x: MetricKey.nullable(),
        /** It served as an x axis itself. */
        axis: z.boolean(),
        /** Ordinal of its first batch, or below 0 where an import declared it: its place among the others, also of those to come. */
        first: z.int().min(-MAX_SERIES_PER_RUN).max(Number.MAX_SAFE_INTEGER),
      }),
    )
    .max(MAX_SERIES_PER_RUN),
  uses: z.array(HeldUse).max(10_000),
});
export type HeldRun = z.infer<typeof HeldRun>;

/** device.held. */
export const HeldDevice = z.object({
  id: DeviceId,
  facts: DeviceFacts,
  firstSeen: time,
  lastSeen: time,
});
export type HeldDevice = z.infer<typeof HeldDevice>;

/**
 * The name that a change of an artifact speaks of. `from`: whose name it is where the one who relays has received it itself, as its
 * `artifact.source` says; absent: its own. Two sources may have the same name.
 */
export const ArtifactRef = z.object({
  kind: ArtifactKind,
  name: ArtifactName,
  from: z.string().max(2200).optional(),
});
export type ArtifactRef = z.infer<typeof ArtifactRef>;

/** artifact.held: one version of a name, with everything that is said of both. */
export const HeldVersion = ArtifactRef.extend({
  type: ArtifactType,
  /** Of the name, not of this version. */
  about: z.object({ description: z.string().max(100_000).nullable(), created: time, updated: time }),
  version: z.int().min(1).max(1_000_000_000),
  description: z.string().max(100_000).nullable(),
  metadata: z.record(z.string().max(1000), Json),
  created: time,
  files: z.array(ArtifactFile).max(100_000),
  /** All that lead to it: others of its receiver's that lead to it are gone. */
  aliases: z.array(Alias).max(10_000),
  /** Runs that logged or used it. One that the receiver does not know is left out there. */
  uses: z
    .array(z.object({ run: RunId, role: z.enum(["output", "input"]), time, origin: Origin }))
    .max(100_000),
});
export type HeldVersion = z.infer<typeof HeldVersion>;
