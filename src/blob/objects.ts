import { randomBytes } from "node:crypto";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { diskFull } from "../store/journal.ts";
import type { Part } from "./intake.ts";

/** Where an object stands. `scope`: the run by whose keys it came, "" for keys that are no run's. */
export interface ObjectPlace {
  scope: string;
  bucket: string;
  key: string;
}

export interface StoredObject {
  sha256: string;
  size: number;
  /** ms since the epoch. */
  time: number;
}

/** Bytes under names of their clients' own: what S3 calls objects. The newest under a name is the one that is there. */
export interface Objects {
  find(place: ObjectPlace): StoredObject | undefined;
  /** Its bytes are here. */
  put(place: ObjectPlace, blob: { sha256: string; size: number }): StoredObject;
  remove(place: ObjectPlace): void;
  /** It was logged by this run with these bytes, and goes with it, unless it has others by now. */
  tie(place: ObjectPlace, run: string, sha256: string): void;
  /** Those that came before and that no run has logged. */
  unclaimed(before: number): ObjectPlace[];
  removeUnclaimed(before: number): void;
  /** Begins an object that comes in parts; the id of its upload. */
  begin(place: ObjectPlace): string;
  isOpen(place: ObjectPlace, upload: string): boolean;
  /** Resolves when what came before under this number is gone. */
  putPart(place: ObjectPlace, upload: string, number: number, part: Part): Promise<void>;
  partsOf(upload: string): Map<number, Part>;
  /** Makes it of these parts. Asked again it answers the same. */
  complete(place: ObjectPlace, upload: string, parts: readonly Part[]): Promise<StoredObject>;
  /** What was completed under this upload a while ago; undefined where that is not known. */
  completed(place: ObjectPlace, upload: string): Promise<StoredObject> | undefined;
  abort(place: ObjectPlace, upload: string): Promise<void>;
}

/** Uploads of one scope that may be open: a row and its parts' each. */
const MAX_UPLOADS = 1000;
/** Completed uploads that are remembered: who did not hear the answer asks again. */
const MAX_COMPLETED = 1000;

const noSuchUpload = () =>
  new CollectorError("not-found", "There is no such upload.", {
    hint: "It was completed, aborted, or nothing was heard of it for a day: begin it anew.",
  });

export function createObjects({ connection, blobs, now, quota }: Collector): Objects {
  const select = connection.prepare(
    "SELECT sha256, size, time FROM object WHERE scope = ? AND bucket = ? AND key = ?",
  );
  // A run that has logged what was there before goes without what is there now; the same bytes, sent again, stay its own.
  const insert = connection.prepare(
    `INSERT INTO object (scope, bucket, key, sha256, size, time) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET sha256 = excluded.sha256, size = excluded.size, time = excluded.time,
       run = iif(sha256 = excluded.sha256, run, NULL)`,
  );
  const remove = connection.prepare("DELETE FROM object WHERE scope = ? AND bucket = ? AND key = ?");
  const tie = connection.prepare(
    "UPDATE object SET run = ? WHERE scope = ? AND bucket = ? AND key = ? AND sha256 = ?",
  );
  const unclaimed = connection.prepare(
    "SELECT scope, bucket, key FROM object WHERE run IS NULL AND time < ?",
  );
  const removeUnclaimed = connection.prepare("DELETE FROM object WHERE run IS NULL AND time < ?");
  const countUploads = connection.prepare("SELECT count(*) FROM object_upload WHERE scope = ?").raw(true);
  const insertUpload = connection.prepare(
    "INSERT INTO object_upload (id, scope, bucket, key, touched) VALUES (?, ?, ?, ?, ?)",
  );
  const selectUpload = connection
    .prepare("SELECT 1 FROM object_upload WHERE id = ? AND scope = ? AND bucket = ? AND key = ?")
    .raw(true);
  const touchUpload = connection.prepare("UPDATE object_upload SET touched = ? WHERE id = ?");
  const removeUpload = connection.prepare("DELETE FROM object_upload WHERE id = ?");
  const selectPart = connection
    .prepare("SELECT file FROM object_part WHERE upload = ? AND number = ?")
    .raw(true);
  const selectParts = connection.prepare(
    "SELECT number, file, size, sha256 FROM object_part WHERE upload = ? ORDER BY number",
  );
  const insertPart = connection.prepare(
    `INSERT INTO object_part (upload, number, file, size, sha256) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET file = excluded.file, size = excluded.size, sha256 = excluded.sha256`,
  );
  const completing = new Map<string, Promise<StoredObject>>();

  const columns = ({ scope, bucket, key }: ObjectPlace) => [scope, bucket, key] as const;

  function write(statements: () => void): void {
    connection.exec("BEGIN IMMEDIATE");
    try {
      statements();
      connection.exec("COMMIT");
    } catch (error) {
      if (connection.inTransaction) connection.exec("ROLLBACK");
      if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
      quota.full();
      throw diskFull(error);
    }
  }

  const isOpen = (place: ObjectPlace, upload: string) =>
    selectUpload.get(upload, ...columns(place)) !== undefined;

  function requireOpen(place: ObjectPlace, upload: string): void {
    if (!isOpen(place, upload)) throw noSuchUpload();
  }

  const keyOf = (place: ObjectPlace, upload: string) => JSON.stringify([upload, ...columns(place)]);

  function partsOf(upload: string): Map<number, Part> {
    const rows = selectParts.all(upload) as { number: number; file: string; size: number; sha256: string }[];
    return new Map(rows.map(({ number, file, size, sha256 }) => [number, { id: file, size, sha256 }]));
  }

  /** Rows first: a file without one is only space, and is found by its name. */
  async function close(upload: string, also: () => void = () => {}): Promise<void> {
    const parts = [...partsOf(upload).values()].map(({ id }) => id);
    write(() => {
      also();
      removeUpload.run(upload);
    });
    await blobs.intake.drop(parts);
  }

  async function join(place: ObjectPlace, upload: string, parts: readonly Part[]): Promise<StoredObject> {
    const { sha256, size } = await blobs.intake.join(parts);
    requireOpen(place, upload);
    const time = now();
    await close(upload, () => insert.run(...columns(place), sha256, size, time));
    return { sha256, size, time };
  }

  return {
    find: (place) => select.get(...columns(place)) as StoredObject | undefined,
    put(place, { sha256, size }) {
      const time = now();
      write(() => insert.run(...columns(place), sha256, size, time));
      return { sha256, size, time };
    },
    remove: (place) => write(() => remove.run(...columns(place))),
    tie: (place, run, sha256) => write(() => tie.run(run, ...columns(place), sha256)),
    unclaimed: (before) => unclaimed.all(before) as ObjectPlace[],
    removeUnclaimed: (before) => write(() => removeUnclaimed.run(before)),
    begin(place) {
      if ((countUploads.get(place.scope) as [number])[0] >= MAX_UPLOADS)
        throw new CollectorError("busy", "Too many uploads are open.", {
          hint: "Complete or abort some of them.",
        });
      const id = randomBytes(16).toString("hex");
      write(() => insertUpload.run(id, ...columns(place), now()));
      return id;
    },
    isOpen,
    async putPart(place, upload, number, part) {
      // It may have been completed or aborted while the part came.
      if (!isOpen(place, upload)) {
        await blobs.intake.drop([part.id]);
        throw noSuchUpload();
      }
      const [before] = (selectPart.get(upload, number) as [string] | undefined) ?? [];
      write(() => {
        insertPart.run(upload, number, part.id, part.size, part.sha256);
        touchUpload.run(now(), upload);
      });
      if (before !== undefined) await blobs.intake.drop([before]);
    },
    partsOf,
    async complete(place, upload, parts) {
      const key = keyOf(place, upload);
      const known = completing.get(key);
      if (known) return known;
      requireOpen(place, upload);
      const completed = join(place, upload, parts);
      completing.set(key, completed);
      for (const [oldest] of completing) if (completing.size > MAX_COMPLETED) completing.delete(oldest);
      // What failed may be tried again.
      completed.catch(() => completing.delete(key));
      return completed;
    },
    completed: (place, upload) => completing.get(keyOf(place, upload)),
    async abort(place, upload) {
      requireOpen(place, upload);
      await close(upload);
    },
  };
}
