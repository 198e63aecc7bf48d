/**
 * The control plane, on one page. Foreign keys all point to `run`; no relations(), so no import cycles.
 * Journal, series and chunks are read and written by store/ alone, as prepared statements: their
 * columns stand in migrations/.
 */
import { sqliteTable, text, integer, real, primaryKey } from "drizzle-orm/sqlite-core";
import type { ArtifactKind, ArtifactVersion, LogArtifact } from "../artifact/schema.ts";
import type { DeviceFacts, RunDevice } from "../device/schema.ts";
import type { Config, RunStatus, WriterRole } from "../run/schema.ts";
import type { DeviceEvent, EventKind } from "../sample/schema.ts";

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
