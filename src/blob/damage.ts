import type { Connection } from "../store/open.ts";

/** Blobs found not to be what their digests say: as good as absent to who brings them. Kept, as nobody looks twice a day. */
export interface Damage {
  has(sha256: string): boolean;
  all(): string[];
  /** Of a blob that is no longer here there is nothing to remember. */
  mark(sha256: string): void;
  /** Its bytes were brought again, or turned out to be right. */
  clear(sha256: string): void;
}

export function createDamage(connection: Connection): Damage {
  const select = connection.prepare("SELECT sha256 FROM blob_damage").raw(true);
  const insert = connection.prepare(
    "INSERT OR IGNORE INTO blob_damage (sha256) SELECT sha256 FROM blob WHERE sha256 = ?",
  );
  const remove = connection.prepare("DELETE FROM blob_damage WHERE sha256 = ?");
  const known = new Set((select.all() as [string][]).map(([sha256]) => sha256));

  /** A disk that is full or broken must not hide what was found: it is known until the next start at least. */
  function noted(write: () => void): void {
    try {
      write();
    } catch {
      // The next look finds it again.
    }
  }

  return {
    has: (sha256) => known.has(sha256),
    all: () => [...known],
    mark(sha256) {
      known.add(sha256);
      noted(() => insert.run(sha256));
    },
    clear(sha256) {
      if (known.delete(sha256)) noted(() => remove.run(sha256));
    },
  };
}
