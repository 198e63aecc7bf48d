/**
 * The control plane, on one page. Foreign keys all point to `run`; no relations(), so no import cycles.
 * Journal, series and chunks are read and written by store/ alone, as prepared statements: their
 * columns stand in migrations/.
 */
import { sqliteTable, text, integer, real, blob, primaryKey } from "drizzle-orm/sqlite-core";
import type { ArtifactKind, ArtifactVersion, LogArtifact } from "../artifact/schema.ts";
import type { DeviceFacts, RunDevice } from "../device/schema.ts";
import type { KeptOpening } from "../relay/openings.ts";
import type { Config, RunStatus, WriterRole } from "../run/schema.ts";
import type { DeviceEvent, EventKind } from "../sample/schema.ts";
import type { KnownOpening } from "../source/accept.ts";
import type { EditedVersion } from "./source-edit.ts";

export const run = sqliteTable("run", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  project: text("project").notNull(),
  status: text("status").$type<RunStatus>().notNull(),
  reason: text("reason"),
  config: text("config", { mode: "json" }).$type<Config>().notNull(),
  tags: text("tags", { mode: "json" }).$type<string[]>().notNull(),
  notes: text("notes"),
  command: text("command"),
  device: text("device"),
  exitCode: integer("exit_code"),
  /** ms since the epoch, as are all times here. */
  created: real("created").notNull(),
  started: real("started"),
  finished: real("finished"),
  /** Ended because its writers vanished, not because one of them said so: later data reopens it. */
  presumed: integer("presumed", { mode: "boolean" }).notNull().default(false),
  deleted: integer("deleted", { mode: "boolean" }).notNull().default(false),
  /** The source that relayed it (its `source.id`); null: logged here. */
  source: text("source"),
  /** Whose it is where its source relays it, too: labels, the last one's own; null: its source's. */
  origin: text("origin"),
  /** When its source deleted it; it stays here. Of one that was deleted here by a person: when. */
  deletedAtSource: real("deleted_at_source"),
  /** Counters as of the journal entries already deleted; store/counters.ts adds those still there. */
  nextOrdinal: integer("next_ordinal").notNull().default(0),
  nextLine: integer("next_line").notNull().default(1),
});

export const writer = sqliteTable(
  "writer",
  {
    run: text("run")
      .notNull()
      .references(() => run.id, { onDelete: "cascade" }),
    client: text("client").notNull(),
    role: text("role").$type<WriterRole>().notNull().default("client"),
    rank: integer("rank").notNull().default(0),
    device: text("device"),
    pid: integer("pid"),
    boot: text("boot"),
    start: integer("start"),
    /** null while it lives; else how it ended. */
    outcome: text("outcome").$type<RunStatus>(),
    /** It was taken for dead, and has not shown itself since. */
    presumed: integer("presumed", { mode: "boolean" }).notNull().default(false),
    /** Unused: `counter` has it. */
    seq: integer("seq").notNull().default(0),
    /** Step of its first record that brings none. */
    nextStep: real("next_step").notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.run, table.client] })],
);

export const device = sqliteTable("device", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  facts: text("facts", { mode: "json" }).$type<DeviceFacts>().notNull(),
  firstSeen: real("first_seen").notNull(),
  lastSeen: real("last_seen").notNull(),
  /** The source that relayed it; null: seen here. */
  source: text("source"),
});

/** What a run used of one GPU. */
export type GpuUse = Omit<RunDevice["gpus"][number], "uuid">;

export const runDevice = sqliteTable(
  "run_device",
  {
    run: text("run")
      .notNull()
      .references(() => run.id, { onDelete: "cascade" }),
    device: text("device").notNull(),
    from: real("from").notNull(),
    /** null while it is live. */
    to: real("to"),
    attribution: text("attribution").$type<RunDevice["attribution"]>(),
    cpuSeconds: real("cpu_seconds").notNull().default(0),
    gpus: text("gpus", { mode: "json" }).$type<Record<string, GpuUse>>().notNull().default({}),
    note: text("note"),
  },
  (table) => [primaryKey({ columns: [table.run, table.device] })],
);

export const deviceEvent = sqliteTable("device_event", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  device: text("device").notNull(),
  subject: text("subject").notNull(),
  time: real("time").notNull(),
  kind: text("kind").$type<EventKind>().notNull(),
  text: text("text").notNull(),
  detail: text("detail", { mode: "json" }).$type<DeviceEvent["detail"]>().notNull().default({}),
});

export const artifact = sqliteTable("artifact", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  kind: text("kind").$type<ArtifactKind>().notNull(),
  name: text("name").notNull(),
  type: text("type").notNull(),
  description: text("description"),
  created: real("created").notNull(),
  updated: real("updated").notNull(),
  nextVersion: integer("next_version").notNull().default(1),
  /** The source whose name it is; "": our own. */
  source: text("source").notNull().default(""),
});

export const artifactVersion = sqliteTable(
  "artifact_version",
  {
    artifact: integer("artifact").notNull(),
    version: integer("version").notNull(),
    digest: text("digest").notNull(),
    size: integer("size").notNull(),
    files: integer("files").notNull(),
    description: text("description"),
    metadata: text("metadata", { mode: "json" }).$type<ArtifactVersion["metadata"]>().notNull().default({}),
    created: real("created").notNull(),
    /** Its source's number for it, where that one was taken here; null: the same. */
    sourceVersion: integer("source_version"),
    /** null: its artifact's. */
    type: text("type"),
    /** What its source had said before a person changed it here (source-edit.ts). */
    edited: text("edited", { mode: "json" }).$type<EditedVersion>(),
  },
  (table) => [primaryKey({ columns: [table.artifact, table.version] })],
);

export const artifactFile = sqliteTable(
  "artifact_file",
  {
    artifact: integer("artifact").notNull(),
    version: integer("version").notNull(),
    path: text("path").notNull(),
    size: integer("size").notNull(),
    sha256: text("sha256").notNull(),
  },
  (table) => [primaryKey({ columns: [table.artifact, table.version, table.path] })],
);

export const artifactAlias = sqliteTable(
  "artifact_alias",
  {
    artifact: integer("artifact").notNull(),
    alias: text("alias").notNull(),
    version: integer("version").notNull(),
  },
  (table) => [primaryKey({ columns: [table.artifact, table.alias] })],
);

export const runArtifact = sqliteTable(
  "run_artifact",
  {
    run: text("run").notNull(),
    artifact: integer("artifact").notNull(),
    version: integer("version").notNull(),
    role: text("role").$type<"output" | "input">().notNull(),
    time: real("time").notNull(),
    origin: text("origin", { mode: "json" }).$type<LogArtifact["origin"]>().notNull().default({}),
  },
  (table) => [primaryKey({ columns: [table.run, table.artifact, table.version, table.role] })],
);

/** This installation, as platforms see it: one row. */
export const installation = sqliteTable("installation", {
  id: text("id").primaryKey(),
  epoch: integer("epoch").notNull(),
  nonce: text("nonce").notNull(),
  created: real("created").notNull(),
});

export const destination = sqliteTable("destination", {
  name: text("name").primaryKey(),
  kind: text("kind").$type<"platform" | "otlp" | "fedml">().notNull(),
  url: text("url").notNull(),
  from: text("from").$type<"history" | "now">().notNull(),
  created: real("created").notNull(),
  /** The epoch that `acked` counts in; 0 before the first answer. */
  epoch: integer("epoch").notNull().default(0),
  acked: integer("acked").notNull().default(0),
  skip: integer("skip").notNull().default(0),
  openings: text("openings", { mode: "json" }).$type<KeptOpening[]>().notNull().default([]),
  answered: text("answered"),
  paused: text("paused"),
  lacksAfter: integer("lacks_after"),
  lacksFrom: real("lacks_from"),
});

export const deadLetter = sqliteTable("dead_letter", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  destination: text("destination").notNull(),
  epoch: integer("epoch").notNull(),
  seq: integer("seq").notNull(),
  kind: text("kind").notNull(),
  run: text("run").notNull(),
  ordinal: integer("ordinal").notNull(),
  time: real("time").notNull(),
  records: integer("records").notNull(),
  frame: blob("frame", { mode: "buffer" }).notNull(),
  type: text("type").notNull(),
  detail: text("detail").notNull(),
  at: real("at").notNull(),
});

export const relayDrop = sqliteTable("relay_drop", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  destination: text("destination").notNull(),
  stream: text("stream").notNull(),
  kind: text("kind").notNull(),
  firstSeq: integer("first_seq"),
  lastSeq: integer("last_seq"),
  firstTime: real("first_time"),
  lastTime: real("last_time"),
  records: integer("records").notNull(),
  bytes: integer("bytes").notNull(),
  reason: text("reason").notNull(),
  at: real("at").notNull(),
});

/** Installations that relay here. */
export const source = sqliteTable("source", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  label: text("label").notNull(),
  epoch: integer("epoch").notNull(),
  acked: integer("acked").notNull(),
  reach: integer("reach").notNull().default(0),
  digest: text("digest"),
  nonce: text("nonce").notNull(),
  turn: integer("turn").notNull().default(0),
  openings: text("openings", { mode: "json" }).$type<KnownOpening[]>().notNull().default([]),
  doubt: integer("doubt").notNull().default(0),
  host: text("host"),
  version: text("version"),
  path: text("path", { mode: "json" }).$type<string[]>().notNull().default([]),
  firstSeen: real("first_seen").notNull(),
  lastSeen: real("last_seen").notNull(),
  skew: real("skew"),
  entries: integer("entries").notNull().default(0),
  records: integer("records").notNull().default(0),
  bytes: integer("bytes").notNull().default(0),
});

export const sourceToken = sqliteTable("source_token", {
  hash: text("hash").primaryKey(),
  name: text("name").notNull(),
  created: real("created").notNull(),
  expires: real("expires"),
  revoked: real("revoked"),
  used: real("used"),
});

export const sourceRun = sqliteTable(
  "source_run",
  {
    source: text("source").notNull(),
    run: text("run").notNull(),
    local: text("local").notNull(),
    seq: integer("seq").notNull().default(0),
    history: integer("history").notNull().default(0),
    renew: integer("renew").notNull().default(0),
    nextOrdinal: integer("next_ordinal").default(0),
    nextLine: integer("next_line").default(1),
    ordinalShift: integer("ordinal_shift").notNull().default(0),
    lineShift: integer("line_shift").notNull().default(0),
    edited: text("edited"),
  },
  (table) => [primaryKey({ columns: [table.source, table.run] })],
);

export const sourceDeleted = sqliteTable(
  "source_deleted",
  {
    source: text("source").notNull(),
    kind: text("kind").notNull(),
    name: text("name").notNull(),
    version: integer("version").notNull(),
    digest: text("digest").notNull(),
  },
  (table) => [primaryKey({ columns: [table.source, table.kind, table.name, table.version, table.digest] })],
);

export const sourceDevice = sqliteTable(
  "source_device",
  {
    source: text("source").notNull(),
    device: text("device").notNull(),
    local: text("local").notNull(),
    upto: real("upto"),
  },
  (table) => [primaryKey({ columns: [table.source, table.device] })],
);
