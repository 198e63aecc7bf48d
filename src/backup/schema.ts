import { z } from "zod";

export const BACKUP_FORMAT = "binnacle-backup";
export const BACKUP_VERSION = 1;

export const backupPaths = {
  description: "backup.json",
  database: "binnacle.db",
  file: (sha256: string) => `blobs/${sha256}`,
};

/** In the data folder while its database is one that was put back: the next start begins a new epoch and removes it. */
export const RESTORED_FILE = "restored";

/** A destination that the backup does not have, and the next start adds again; its secrets have stayed in their file. */
export const KeptDestination = z.object({
  name: z.string(),
  kind: z.enum(["platform", "otlp", "fedml"]),
  url: z.string(),
  from: z.enum(["history", "now"]),
  created: z.number(),
  /** The nonce that it answered to last. */
  answered: z.string().nullable(),
});
export type KeptDestination = z.infer<typeof KeptDestination>;

/** What stands in it. */
export const RestoredMark = z.object({ destinations: z.array(KeptDestination) });

/** The digest that a file's name in a backup is; undefined for the other two. */
export const digestOfPath = (path: string): string | undefined => /^blobs\/([0-9a-f]{64})$/.exec(path)?.[1];

export const isBackupPath = (path: string): boolean =>
  path === backupPaths.description || path === backupPaths.database || digestOfPath(path) !== undefined;

/** backup.json, the last file of a backup. */
export const BackupDescription = z.object({
  format: z.literal(BACKUP_FORMAT),
  version: z.literal(BACKUP_VERSION),
  /** Version of the binnacle that made it. */
  binnacle: z.string(),
  /** RFC 3339 UTC with ms. */
  created: z.string(),
  host: z.string(),
  /** Names of the migrations its database has. */
  migrations: z.array(z.string()),
  /** Highest seq of its journal. */
  last: z.int().min(0),
  database: z.object({ size: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  files: z.int().min(0),
  bytes: z.int().min(0),
  /** Digests of files that were not there to be copied: `binnacle doctor` had told of them. */
  missing: z.array(z.string()),
});
export type BackupDescription = z.infer<typeof BackupDescription>;
