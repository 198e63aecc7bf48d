import { createHash } from "node:crypto";
import type { Collector } from "../../collector.ts";
import { bytesOf } from "../../store/chunk-table.ts";
import type { Frame } from "../contract.ts";
import { decodeFrames, encodeFrames } from "../frame.ts";
import { readVersion } from "./artifact.ts";

/** Versions that wait for their files to be sent, by the seq of the entry that made them. Durable. */
export interface UploadQueue {
  put(frame: Frame): void;
  /** Of history each once, however often it is told before all of it has arrived. Within a transaction of the caller's. */
  putOnce(frame: Frame): void;
  /** The first, or the one behind `after`. */
  next(after?: number): { place: number; frame: Frame } | undefined;
  remove(place: number): void;
  left(): { files: number; bytes: number };
}

export function createUploadQueue({ connection }: Collector, destination: string): UploadQueue {
  const insert = connection.prepare(
    "INSERT INTO relay_upload (destination, seq, frame, bytes, files) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
  );
  const select = connection.prepare(
    "SELECT seq AS place, frame FROM relay_upload WHERE destination = ? AND seq > ? ORDER BY seq LIMIT 1",
  );
  // Forgotten with the other positions, once history has arrived.
  const note = connection.prepare(
    "INSERT INTO relay_position (destination, part, position) VALUES (?, ?, 1) ON CONFLICT DO NOTHING",
  );
  const remove = connection.prepare("DELETE FROM relay_upload WHERE destination = ? AND seq = ?");
  // What is told by history has no seq: it stands before all, and the last of it first.
  const selectBefore = connection
    .prepare("SELECT min(0, coalesce(min(seq), 0)) - 1 FROM relay_upload WHERE destination = ?")
    .raw(true);
  const sum = connection
    .prepare(
      "SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM relay_upload WHERE destination = ?",
    )
    .raw(true);

  function put(frame: Frame): void {
    const { files } = readVersion(frame);
    const bytes = files.reduce((all, { size }) => all + size, 0);
    const place = frame.seq === 0 ? (selectBefore.get(destination) as [number])[0] : frame.seq;
    insert.run(destination, place, encodeFrames([frame]), bytes, files.length);
  }

  return {
    put,
    putOnce(frame) {
      if (frame.seq > 0 || note.run(destination, `queued ${digestOf(frame)}`).changes > 0) put(frame);
    },
    next(after = Number.MIN_SAFE_INTEGER) {
      const row = select.get(destination, after) as { place: number; frame: Uint8Array } | undefined;
      return row && { place: row.place, frame: decodeFrames(bytesOf(row.frame))[0]! };
    },
    remove: (place) => void remove.run(destination, place),
    left() {
      const [files, bytes] = sum.get(destination) as [number, number];
      return { files, bytes };
    },
  };
}

function digestOf(frame: Frame): string {
  const { kind, name, version, time, files } = readVersion(frame);
  const of = [kind, name, version, time, files.map(({ path, sha256 }) => [path, sha256])];
  return createHash("sha256").update(JSON.stringify(of)).digest("hex");
}
