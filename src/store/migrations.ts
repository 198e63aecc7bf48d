import { createHash } from "node:crypto";
import { CollectorError } from "../error.ts";
import type { Connection } from "./open.ts";

/** A migration as it stands in migrations/: `name` is the file's, and the order of names is the order of application. */
export interface Migration {
  name: string;
  sql: string;
}

interface AppliedRow {
  position: number;
  name: string;
  sha256: string;
}

const digest = (text: string) => createHash("sha256").update(text).digest("hex");

/**
 * Migrations the database still lacks. Those it has must be exactly a prefix of ours, by content: drizzle's own migrator goes
 * by timestamps and silently skips one that is older than the last applied (drizzle-orm #5769).
 */
function pendingMigrations(connection: Connection, migrations: Migration[]): Migration[] {
  connection.exec(
    "CREATE TABLE IF NOT EXISTS migration (position INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL)",
  );
  const applied = connection
    .prepare("SELECT position, name, sha256 FROM migration ORDER BY position")
    .all() as AppliedRow[];
  for (const row of applied) {
    const ours = migrations[row.position];
    if (ours === undefined)
      throw new CollectorError(
        "conflict",
        `The database was written by a newer binnacle (it has migration ${row.name}).`,
        { hint: "Start the newer binnacle again, or point --data to another folder." },
      );
    if (digest(ours.sql) !== row.sha256)
      throw new CollectorError(
        "conflict",
        `Migration ${ours.name} is not the one this database was made with (${row.name}).`,
        { hint: "Use an official build, or point --data to another folder." },
      );
  }
  return migrations.slice(applied.length);
}

/** Applies what is pending, all of it or nothing. `beforeUpgrade` is called where there is something to lose. */
export function applyMigrations(
  connection: Connection,
  migrations: Migration[],
  beforeUpgrade: (to: Migration) => void,
): void {
  const pending = pendingMigrations(connection, migrations);
  if (pending.length === 0) return;
  const first = migrations.length - pending.length;
  if (first > 0) beforeUpgrade(pending.at(-1)!);
  connection.exec("BEGIN IMMEDIATE");
  try {
    const insert = connection.prepare("INSERT INTO migration (position, name, sha256) VALUES (?, ?, ?)");
    pending.forEach((migration, index) => {
      connection.exec(migration.sql);
      insert.run(first + index, migration.name, digest(migration.sql));
    });
    connection.exec("COMMIT");
  } catch (error) {
    // An I/O error has rolled it back already.
    if (connection.inTransaction) connection.exec("ROLLBACK");
    throw error;
  }
}
