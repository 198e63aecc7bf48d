/** Numbers and times in words, the same on the server and in the browser. Pure. */

/** A number as JSON carries it: non-finite values are strings. */
export type WireNumber = number | "NaN" | "Infinity" | "-Infinity";

export const toNumber = (value: WireNumber): number => (typeof value === "number" ? value : Number(value));

export const isWireNumber = (value: unknown): value is WireNumber =>
  typeof value === "number" || value === "NaN" || value === "Infinity" || value === "-Infinity";

/** 1234567 → "1,234,567". Integers only. */
export const formatCount = (count: number): string => {
  const digits = String(Math.abs(count));
  const grouped = /^\d+$/.test(digits) ? digits.replace(/\B(?=(\d{3})+$)/g, ",") : digits;
  return count < 0 ? `−${grouped}` : grouped;
};

/** Five significant digits, no trailing zeros, exponents only where a plain number would be unreadable. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Infinity) return "∞";
  if (value === -Infinity) return "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return formatCount(value);
  if (size >= 10_000 && size < 1e9) return formatCount(Number(value.toPrecision(5)));
  const text =
    size >= 1e9 || size < 1e-4
      ? value
          .toExponential(4)
          .replace(/\.?0+e/, "e")
          .replace("e+", "e")
      : String(Number(value.toPrecision(5)));
  return text.replace(/-/g, "−");
}

const two = (n: number) => String(n).padStart(2, "0");

/** A length of time in at most two units. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${two(Math.floor((whole % 86_400) / 3600))} h`;
}

/** How long ago, in one unit. */
export function formatAgo(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return days < 365 ? `${days} d ago` : `${Math.floor(days / 365)} y ago`;
}

/** "2026-11-23 14:26:46" in the local zone of whoever runs this: the browser's there, the server's here. */
export function formatTime(ms: number, { millis = false, zone = "local" as "local" | "utc" } = {}): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return "—";
  const shifted = zone === "utc" ? date : new Date(ms - date.getTimezoneOffset() * 60_000);
  const text = shifted.toISOString().replace("T", " ");
  return text.slice(0, millis ? 23 : 19);
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${formatCount(count)} ${count === 1 ? one : many}`;
