import type { Collector } from "../../collector.ts";
import { bytesOf } from "../../store/chunk-table.ts";
import type { Frame } from "../contract.ts";
import { decodeFrames, encodeFrames } from "../frame.ts";

/** Versions that wait for their files to be sent, by the seq of the entry that made them. Durable. */
export interface UploadQueue {
  put(frame: Frame, files: readonly { size: number }[]): void;
  /** The first behind this one. */
  next(after: number): Frame | undefined;
  remove(seq: number): void;
  left(): { files: number; bytes: number };
}

export function createUploadQueue({ connection }: Collector, destination: string): UploadQueue {
  const insert = connection.prepare(
    "INSERT INTO relay_upload (destination, seq, frame, bytes, files) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
  );
  const select = connection.prepare(
    "SELECT frame FROM relay_upload WHERE destination = ? AND seq > ? ORDER BY seq LIMIT 1",
  );
  const remove = connection.prepare("DELETE FROM relay_upload WHERE destination = ? AND seq = ?");
  const sum = connection
    .prepare(
      "SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM relay_upload WHERE destination = ?",
    )
    .raw(true);
  return {
    put(frame, files) {
      const bytes = files.reduce((all, { size }) => all + size, 0);
      insert.run(destination, frame.seq, encodeFrames([frame]), bytes, files.length);
    },
    next(after) {
      const row = select.get(destination, after) as { frame: Uint8Array } | undefined;
      return row && decodeFrames(bytesOf(row.frame))[0]!;
    },
    remove: (seq) => void remove.run(destination, seq),
    left() {
      const [files, bytes] = sum.get(destination) as [number, number];
      return { files, bytes };
    },
  };
}
