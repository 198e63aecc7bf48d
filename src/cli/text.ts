/** A time as people here read it: local, to the second. */
export function localTime(time: string | number | null): string {
  if (time === null) return "-";
  const date = new Date(time);
  const two = (part: number) => String(part).padStart(2, "0");
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

/** From one time to another, or until now: "3m 12s". */
export function duration(from: string | null, to: string | null, now = Date.now()): string {
  if (from === null) return "-";
  const seconds = Math.max(0, Math.round(((to === null ? now : Date.parse(to)) - Date.parse(from)) / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${seconds % 60}s` : `${seconds}s`;
}

/** A metric's value in a table: six significant digits; text in one line, cut short. */
export function cell(value: unknown): string {
  const text = shortValue(value).replace(/\s+/g, " ");
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

/** A value for the eye: six significant digits, but all of an integer's; text as it is. */
export function shortValue(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (typeof value !== "number") return typeof value === "string" ? value : JSON.stringify(value);
  return String(Number.isSafeInteger(value) ? value : Number(value.toPrecision(6)));
}
