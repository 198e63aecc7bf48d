import { deviceStream } from "../entry.ts";
import type { Write } from "./journal-rows.ts";
import type { Connection } from "./open.ts";

/** A run whose import has begun and not come to its end. */
export interface Unfinished {
  run: string;
  /** Devices that only this import has brought. */
  devices: string[];
}

/** Written with the first entry of an import. */
export const beginImport = ({ run, devices }: Unfinished): Write => ({
  sql: "INSERT INTO unfinished_import (run, devices) VALUES (?, ?)",
  params: [run, JSON.stringify(devices)],
});

/** Written with the last one, which makes the run be there. */
export const endImport = (run: string): Write => ({
  sql: "DELETE FROM unfinished_import WHERE run = ?",
  params: [run],
});

/**
 * What imports have left behind whose process ended in the middle, after their journal entries are removed: those would come back
 * with every start, and with them a run that is imported again under the same id.
 */
export function dropUnfinished(connection: Connection): Unfinished[] {
  const rows = connection.prepare("SELECT run, devices FROM unfinished_import").all() as {
    run: string;
    devices: string;
  }[];
  return rows.map(({ run, devices: json }) => {
    const devices = JSON.parse(json) as string[];
    dropEntries(connection, run);
    for (const device of devices)
      if (!isKnownDevice(connection, device)) dropEntries(connection, deviceStream(device));
    return { run, devices };
  });
}

export const isKnownDevice = (connection: Connection, device: string): boolean =>
  connection.prepare("SELECT 1 FROM device WHERE id = ?").get(device) !== undefined;

export const isUnfinished = (connection: Connection, run: string): boolean =>
  connection.prepare("SELECT 1 FROM unfinished_import WHERE run = ?").get(run) !== undefined;

export const dropEntries = (connection: Connection, run: string): void =>
  void connection.prepare("DELETE FROM journal WHERE run = ?").run(run);

/** The last that is to be done of an import that failed. */
export const forgetImport = (connection: Connection, run: string): void =>
  void connection.prepare("DELETE FROM unfinished_import WHERE run = ?").run(run);
