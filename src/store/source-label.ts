import type { Connection } from "./open.ts";

const selects = new WeakMap<Connection, ReturnType<Connection["prepare"]>>();

/** What a source is called here; null for what is our own. */
export function sourceLabel(connection: Connection, id: string | null): string | null {
  if (id === null || id === "") return null;
  let select = selects.get(connection);
  if (!select)
    selects.set(connection, (select = connection.prepare("SELECT label FROM source WHERE id = ?")));
  const row = select.get(id) as { label: string } | undefined;
  return row?.label ?? id;
}

/** In a filter: what no source relayed. A label begins with a letter or a digit. */
export const OWN = ".";
