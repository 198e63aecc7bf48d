/** One value of a nested configuration, with the way to it. */
export interface ConfigRow {
  path: string[];
  value: string;
  kind: "text" | "number" | "other";
}

export const MAX_CONFIG_ROWS = 2000;

/**
 * A configuration as rows: objects open up, lists of plain values stay on one line. Depth first without recursion: a
 * thousand levels are a valid configuration and no reason to run out of stack.
 */
export function configRows(config: object): { rows: ConfigRow[]; left: number } {
  const rows: ConfigRow[] = [];
  let left = 0;
  const pending: { path: string[]; value: unknown }[] = [];
  const push = (path: string[], entries: [string, unknown][]) => {
    for (const [key, value] of entries.reverse()) pending.push({ path: [...path, key], value });
  };
  push([], Object.entries(config));
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { path, value } = next;
    const isBranch = typeof value === "object" && value !== null && !isPlainList(value);
    const entries = isBranch ? Object.entries(value) : [];
    if (entries.length > 0 && path.length < 32) push(path, entries);
    else if (rows.length < MAX_CONFIG_ROWS) rows.push({ path, ...describe(value) });
    else left++;
  }
  return { rows, left };
}

const isPlainList = (value: object) =>
  Array.isArray(value) && value.every((item) => typeof item !== "object" || item === null);

function describe(value: unknown): Pick<ConfigRow, "value" | "kind"> {
  if (typeof value === "string") return { value, kind: "text" };
  if (typeof value === "number" || typeof value === "bigint") return { value: String(value), kind: "number" };
  if (Array.isArray(value) && isPlainList(value))
    return { value: `[${value.map(String).join(", ")}]`, kind: "other" };
  return { value: JSON.stringify(value) ?? "", kind: "other" };
}
