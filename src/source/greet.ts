import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { MAX_PARTIAL, type Cursor, type Hello } from "../relay/contract.ts";
import { prepared } from "../store/prepared.ts";
import { greet } from "./accept.ts";
import { KINDS } from "./kinds.ts";
import { Renew } from "./plan.ts";
import { commitWrites, findSource, hold, inSourceTurn, refusal, writeOfState, type Held } from "./state.ts";

/** Of one token: more is a mistake, or worse. */
const MAX_SOURCES = 10_000;

/** A source says who it is; it hears how far what is here of it has come. `name`: of its token. */
export function greetSource(collector: Collector, name: string, id: string, hello: Hello): Promise<Cursor> {
  return inSourceTurn(collector, id, async () => {
    const known = findOwnSource(collector, name, id);
    const now = collector.now();
    const greeted = greet(known?.state, hello, { own: collector.installation.id, now });
    if ("refused" in greeted) throw refusal(greeted);
    const { state, cut } = greeted;
    const held = known ?? addSource(collector, name, id, hello, now);
    const { host, version } = hello;
    const skew = now - hello.sent_at;
    commitWrites(collector, [
      writeOfState(id, state, { path: hello.path, skew, entries: 0, records: 0, bytes: 0 }),
      { sql: "UPDATE source SET host = ?, version = ? WHERE id = ?", params: [host, version, id] },
      ...(cut === undefined
        ? []
        : [
            {
              sql: `UPDATE source_run SET next_ordinal = NULL, next_line = NULL, renew = CASE
                  WHEN renew IN (${Renew.always}, ${Renew.partial}) THEN renew
                  WHEN history > ?2 THEN ${Renew.always} ELSE ${Renew.byHistory} END
                WHERE source = ?1 AND seq > ?2`,
              params: [id, cut],
            },
          ]),
    ]);
    held.state = state;
    held.path = JSON.stringify(hello.path);
    held.told = hello.last;
    return cursorOf(collector, held);
  });
}

export function getCursor(collector: Collector, name: string, id: string): Cursor {
  const known = findOwnSource(collector, name, id);
  if (known) return cursorOf(collector, known);
  throw new CollectorError("not-found", "This source is not known here.", { hint: "Greet first." });
}

/** An id belongs to the name whose token first used it. */
export function findOwnSource(collector: Collector, name: string, id: string): Held | undefined {
  const known = findSource(collector, id);
  if (known && known.name !== name)
    throw new CollectorError("forbidden", "This id belongs to a source with another token.", {
      hint: `Use a token that was made for ${known.name}: binnacle source add ${known.name}`,
    });
  return known;
}

function addSource(
  collector: Collector,
  name: string,
  id: string,
  { epoch, nonce, turn }: Hello,
  now: number,
): Held {
  if (id === collector.installation.id)
    throw new CollectorError("circle", "That is this platform's own id.", {
      hint: "Remove the relay that leads here.",
    });
  const { connection } = collector;
  const { count } = connection.prepare("SELECT count(*) AS count FROM source WHERE name = ?").get(name) as {
    count: number;
  };
  if (count >= MAX_SOURCES)
    throw new CollectorError("forbidden", `${count} installations have come with the token of ${name}.`, {
      hint: "Make a token for each place: binnacle source add NAME",
    });
  const isTaken = connection.prepare("SELECT 1 FROM source WHERE label = ?");
  let label = name;
  for (let number = 2; isTaken.get(label) !== undefined; number++) label = `${name}-${number}`;
  prepared(
    connection,
    `INSERT INTO source (id, name, label, epoch, acked, nonce, turn, first_seen, last_seen)
      VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)`,
  ).run(id, name, label, epoch, nonce, turn, now, now);
  const state = { epoch, acked: 0, reach: 0, digest: null, nonce, turn, openings: [], doubt: 0, heard: now };
  return hold(collector, { id, name, label, state, path: "[]", told: undefined });
}

function cursorOf({ connection, installation }: Collector, { id, state }: Held): Cursor {
  const partial = prepared(
    connection,
    `SELECT run FROM source_run WHERE source = ? AND renew = ${Renew.partial} LIMIT ${MAX_PARTIAL}`,
  ).all(id) as { run: string }[];
  const { epoch, acked, reach, digest, turn } = state;
  return {
    source: id,
    turn,
    epoch,
    acked,
    reach,
    digest,
    partial: partial.map(({ run }) => run),
    platform: installation.id,
    kinds: KINDS,
  };
}
