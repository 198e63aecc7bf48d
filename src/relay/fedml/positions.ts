import type { Collector } from "../../collector.ts";
import type { Part } from "../contract.ts";
import type { Positions } from "../foreign.ts";

/** How far each part of history has come: the platform can't say. Durable. */
export function createPositions({ connection }: Collector, destination: string): Positions {
  const select = connection
    .prepare("SELECT position FROM relay_position WHERE destination = ? AND part = ?")
    .raw(true);
  const insert = connection.prepare(
    `INSERT INTO relay_position (destination, part, position) VALUES (?, ?, ?)
     ON CONFLICT (destination, part) DO UPDATE SET position = excluded.position`,
  );
  const clear = connection.prepare("DELETE FROM relay_position WHERE destination = ?");
  const nameOf = (part: Part) => JSON.stringify(part);
  return {
    of: (part) => (select.get(destination, nameOf(part)) as [number] | undefined)?.[0] ?? 0,
    set: (part, position) => void insert.run(destination, nameOf(part), position),
    clear: () => void clear.run(destination),
  };
}
