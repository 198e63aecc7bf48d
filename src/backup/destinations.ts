import { readFileSync } from "node:fs";
import Database from "libsql";
import { closeConnection, openConnection, type Connection } from "../store/open.ts";
import { KeptDestination, RestoredMark } from "./schema.ts";

/** What a restore does with destinations that were added since the backup. */
export interface AddedSince {
  /** They are added again at the next start. */
  kept: KeptDestination[];
  /** Of another collector than the backup's: what is restored was never meant for them. */
  left: KeptDestination[];
}

interface Known {
  installation: string;
  destinations: KeptDestination[];
}

/** undefined: what was there can't be read. Both databases stand still. */
export function addedSince(before: string, backup: string): AddedSince | undefined {
  const old = readFolded(before);
  if (!old) return undefined;
  // The file has just been written, and nothing may be put beside it.
  const uri = `file:${encodeURI(backup).replaceAll(/[?#]/g, encodeURIComponent)}?immutable=1`;
  const connection = new Database(uri);
  const restored = read(connection);
  connection.close();
  const names = new Set(restored?.destinations.map(({ name }) => name));
  const added = old.destinations.filter(({ name }) => !names.has(name));
  return restored?.installation === old.installation ? { kept: added, left: [] } : { kept: [], left: added };
}

/** What a restore has left to be added again. */
export function readMark(path: string): KeptDestination[] {
  try {
    return RestoredMark.parse(JSON.parse(readFileSync(path, "utf8"))).destinations;
  } catch {
    // Of a restore by an older binnacle, or a damaged one: they are added by hand.
    return [];
  }
}

/** One that was killed still has part of it in its WAL. */
function readFolded(path: string): Known | undefined {
  let connection: Connection;
  try {
    connection = openConnection(path);
  } catch {
    return undefined;
  }
  try {
    return read(connection) ?? { installation: "", destinations: [] };
  } catch {
    return undefined;
  } finally {
    closeConnection(connection);
  }
}

/** undefined: it is older than relays. */
function read(connection: Connection): Known | undefined {
  const hasRelays = connection.prepare("SELECT 1 FROM sqlite_master WHERE name = 'destination'").get();
  if (hasRelays === undefined) return undefined;
  const installation = connection.prepare("SELECT id FROM installation").get() as { id: string } | undefined;
  const rows = connection
    .prepare('SELECT name, kind, url, "from", created, answered FROM destination ORDER BY name')
    .all();
  return {
    installation: installation?.id ?? "",
    destinations: KeptDestination.strip().array().parse(rows),
  };
}
