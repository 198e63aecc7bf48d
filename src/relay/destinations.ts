import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Journal } from "../store/journal.ts";
import type { Connection } from "../store/open.ts";
import { writePrivateFile } from "../token.ts";
import { shownAddress } from "./fedml/address.ts";
import type { KeptOpening } from "./openings.ts";

/** Where the journal goes, as far as it is durable. */
export interface Destination {
  name: string;
  kind: "platform" | "otlp" | "fedml";
  /** As it may be shown: see addressOf. */
  url: string;
  from: "history" | "now";
  /** ms since the epoch. */
  created: number;
  epoch: number;
  acked: number;
  /** Up to here it gets nothing. */
  skip: number;
  paused: string | null;
}

/** What must not be shown. `url`: the whole address, where it has a secret in it. */
const Secrets = z.object({
  token: z.string().optional(),
  ca: z.string().optional(),
  url: z.string().optional(),
});
export type Secrets = z.infer<typeof Secrets>;
const SecretsFile = z.record(z.string(), Secrets);

export interface Destinations {
  /** By name. */
  list(): Destination[];
  get(name: string): Destination | undefined;
  add(destination: Pick<Destination, "name" | "kind" | "url" | "from" | "created" | "skip">): void;
  /** With its dead letters; `drop` is written in the same transaction. */
  remove(name: string, drop: (() => void) | undefined): void;
  secretsOf(name: string): Secrets;
  /** Whole. Without its secret where that is lost. */
  addressOf(destination: Pick<Destination, "name" | "url">): string;
  setSecrets(name: string, secrets: Secrets | undefined): void;
}

const COLUMNS = `name, kind, url, "from", created, epoch, acked, skip, paused`;

/** Rows in the database, which is copied around, and what is secret in a file beside it. */
export function createDestinations(connection: Connection, dataDir: string): Destinations {
  const path = join(dataDir, "relays.json");
  const select = connection.prepare(`SELECT ${COLUMNS} FROM destination WHERE name = ?`);

  return {
    list: () => listDestinations(connection),
    get(name) {
      return select.get(name) as Destination | undefined;
    },
    add({ name, kind, url, from, created, skip }) {
      connection
        .prepare(`INSERT INTO destination (name, kind, url, "from", created, skip) VALUES (?, ?, ?, ?, ?, ?)`)
        .run(name, kind, url, from, created, skip);
    },
    remove(name, drop) {
      connection.exec("BEGIN IMMEDIATE");
      try {
        drop?.();
        connection.prepare("DELETE FROM dead_letter WHERE destination = ?").run(name);
        connection.prepare("DELETE FROM relay_upload WHERE destination = ?").run(name);
        connection.prepare("DELETE FROM relay_position WHERE destination = ?").run(name);
        connection.prepare("DELETE FROM destination WHERE name = ?").run(name);
        connection.exec("COMMIT");
      } catch (error) {
        if (connection.inTransaction) connection.exec("ROLLBACK");
        throw error;
      }
    },
    secretsOf: (name) => readSecrets(path)[name] ?? {},
    addressOf({ name, url }) {
      const whole = readSecrets(path)[name]?.url;
      // A restored database may have another one under this name.
      return whole !== undefined && shownAddress(whole) === url ? whole : url;
    },
    setSecrets(name, secrets) {
      const all = readSecrets(path);
      if (secrets === undefined) delete all[name];
      else all[name] = secrets;
      writePrivateFile(path, `${JSON.stringify(all, null, 2)}\n`);
    },
  };
}

export interface KeptDestination extends Pick<Destination, "name" | "kind" | "url" | "from" | "created"> {
  /** The nonce that it answered to last. */
  answered: string | null;
}

/** Adds what a restored database has not got: it was added since. */
export function keepDestinations(
  connection: Connection,
  journal: Journal,
  kept: readonly KeptDestination[],
): void {
  const put = connection.prepare(
    `INSERT OR IGNORE INTO destination (name, kind, url, "from", created, skip, openings) VALUES (?, ?, ?, ?, ?, ?, ?)`,
  );
  for (const destination of kept) {
    const { name, kind, url, from, created, answered } = destination;
    // It was ours, or the platform would take us for a copy and wait; what both have in common nobody vouches for.
    const openings: KeptOpening[] = answered === null ? [] : [{ nonce: answered, last: 0, answered: true }];
    put.run(name, kind, url, from, created, skipOf(destination, journal), JSON.stringify(openings));
  }
}

/** Up to where one that is added gets nothing: nothing but the journal goes to OpenTelemetry. */
export function skipOf({ kind, from }: Pick<Destination, "kind" | "from">, journal: Journal): number {
  if (from === "now") return journal.position().seq;
  return kind === "otlp" ? journal.bounds().first - 1 : 0;
}

const listDestinations = (connection: Connection): Destination[] =>
  connection.prepare(`SELECT ${COLUMNS} FROM destination ORDER BY name`).all() as Destination[];

/** A file that is damaged has no tokens: the destinations say that they are not let in. */
function readSecrets(path: string): Record<string, Secrets> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
  const parsed = SecretsFile.safeParse(json);
  return parsed.success ? parsed.data : {};
}

/** Who holds entries for a destination, in the journal's words. */
export const holderOf = (destination: string): string => `relay ${destination}`;

/** What it has not acknowledged stays; one that is behind the journal's beginning gets history, and needs none of it. */
export const heldFrom = ({ acked, skip }: Pick<Destination, "acked" | "skip">, first: number) => {
  const next = Math.max(acked, skip) + 1;
  return next < first ? undefined : next;
};

/** Before anything is trimmed, whether relays run or not. */
export function holdForDestinations(connection: Connection, journal: Journal): void {
  const { first } = journal.bounds();
  for (const destination of listDestinations(connection))
    journal.hold(holderOf(destination.name), heldFrom(destination, first));
}
