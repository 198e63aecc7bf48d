import { bytesOf } from "./chunk-table.ts";
import type { Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";
import type { Tier } from "./sample-rollup.ts";

export interface ChunkPlace {
  device: string;
  subject: string;
  tier: Tier;
  /** Where its span begins. */
  start: number;
}

export interface OldChunk extends ChunkPlace {
  row: number;
  /** Of its rows. */
  last: number;
  count: number;
}

/** Ids of runs and of all else stand apart in the order of subjects. */
const RUNS = "run/";
const BEHIND_RUNS = "run0";

const PUT_CHUNK = `INSERT INTO sample_chunk (device, subject, tier, start, last, count, open, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (device, subject, tier, start) DO UPDATE SET last = excluded.last, count = excluded.count,
    open = excluded.open, data = excluded.data`;

/** A finished chunk as a write that stands or falls with a journal entry. */
export const writeOfChunk = (
  { device, subject, tier, start }: ChunkPlace,
  times: Float64Array,
  data: Uint8Array,
): Write => ({
  sql: PUT_CHUNK,
  params: [device, subject, tier, start, times.at(-1)!, times.length, 0, data],
});

export type SampleTable = ReturnType<typeof createSampleTable>;

/** The rows of `sample_chunk`. Everything here is one statement; transactions are the callers'. */
export function createSampleTable(connection: Connection) {
  const raw = (sql: string) => connection.prepare(sql).raw(true);
  const where = "device = ? AND subject = ? AND tier = ?";
  const put = connection.prepare(PUT_CHUNK);
  const removeDevice = connection.prepare(
    "DELETE FROM sample_chunk WHERE rowid IN (SELECT rowid FROM sample_chunk WHERE device = ? LIMIT 64)",
  );
  const selectData = raw(`SELECT data FROM sample_chunk WHERE ${where} AND start = ?`);
  const selectStarts = raw(
    `SELECT start FROM sample_chunk WHERE ${where} AND start BETWEEN ? AND ? ORDER BY start`,
  );
  const selectOpen = raw("SELECT device, subject, start FROM sample_chunk WHERE open = 1");
  const selectNextSubject = raw("SELECT min(subject) FROM sample_chunk WHERE device = ? AND subject > ?");
  const selectFirstSubject = raw("SELECT min(subject) FROM sample_chunk WHERE device = ?");
  const removeSubject = connection.prepare(
    "DELETE FROM sample_chunk WHERE rowid IN (SELECT rowid FROM sample_chunk WHERE subject = ? LIMIT 64)",
  );
  const selectOld = connection.prepare(
    `SELECT rowid AS row, device, subject, tier, start, last, count FROM sample_chunk
     WHERE tier = ? AND last < ? AND open = 0 ORDER BY last LIMIT 64`,
  );
  const removeRow = connection.prepare("DELETE FROM sample_chunk WHERE rowid = ?");
  const selectSealed = raw("SELECT seq FROM sample_sealed");
  const updateSealed = connection.prepare("UPDATE sample_sealed SET seq = ?");

  const first = (row: unknown) => (row as unknown[] | undefined)?.[0];

  return {
    /** `open`: its block is not over, or its rollups don't hold it yet. */
    put(
      { device, subject, tier, start }: ChunkPlace,
      times: Float64Array,
      open: boolean,
      data: Uint8Array,
    ): void {
      put.run(device, subject, tier, start, times.at(-1)!, times.length, open ? 1 : 0, data);
    },

    data({ device, subject, tier, start }: ChunkPlace): Uint8Array | undefined {
      const data = first(selectData.get(device, subject, tier, start));
      return data === undefined ? undefined : bytesOf(data as Uint8Array);
    },

    /** Where the chunks between two times begin. */
    starts(device: string, subject: string, tier: Tier, from: number, to: number): number[] {
      return (selectStarts.all(device, subject, tier, from, to) as number[][]).map(([start]) => start!);
    },

    open(): { device: string; subject: string; start: number }[] {
      return (selectOpen.all() as [string, string, number][]).map(([device, subject, start]) => ({
        device,
        subject,
        start,
      }));
    },

    /** Subjects of a device with anything stored, but for its runs: those can be thousands. */
    subjects(device: string): string[] {
      const subjects: string[] = [];
      let subject = first(selectFirstSubject.get(device)) as string | null | undefined;
      while (subject !== null && subject !== undefined) {
        const isRun = subject.startsWith(RUNS);
        if (!isRun) subjects.push(subject);
        subject = first(selectNextSubject.get(device, isRun ? BEHIND_RUNS : subject)) as string | null;
      }
      return subjects;
    },

    /** Part of what there is of a subject, on any device; false where nothing is left. */
    removeSubject: (subject: string): boolean => removeSubject.run(subject).changes > 0,

    /** Part of what there is of a device; false where nothing is left. */
    removeDevice: (device: string): boolean => removeDevice.run(device).changes > 0,

    /** Part of what is older, the oldest first. */
    old: (tier: Tier, before: number): OldChunk[] => selectOld.all(tier, before) as OldChunk[],
    remove: (chunk: OldChunk): void => void removeRow.run(chunk.row),

    /** Entries up to here have nothing that is not in chunks. */
    sealed: (): number => first(selectSealed.get()) as number,
    putSealed: (seq: number): void => void updateSealed.run(seq),
  };
}
