/** Readings of hardware in their units, as people write them. Pure. */
import type { Unit } from "../sample/reading.ts";
import { formatCount, formatNumber } from "./format.ts";

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const DECIMAL = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"] as const;

/** The prefix that suits a size: its name and what one of it stands for. */
function prefixOf(size: number, names: readonly string[], base: number): { name: string; factor: number } {
  let power = 0;
  while (power < names.length - 1 && size >= base ** (power + 1)) power++;
  return { name: names[power]!, factor: base ** power };
}

/** Three digits are as much as an eye compares; whole numbers stay whole. */
function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return formatCount(Math.round(value)).replace("-", "−");
  return formatNumber(Number(value.toPrecision(3)));
}

const withUnit = (value: number, unit: string) => (unit === "" ? short(value) : `${short(value)} ${unit}`);

const plainUnits: Partial<Record<Unit, string>> = {
  "/s": "/s",
  "°C": "°C",
  W: "W",
  MHz: "MHz",
  rpm: "rpm",
  cores: "cores",
};

/** One value: "87 %", "61.4 GiB", "1.2 GB/s", "412 W". */
export function formatReading(unit: Unit, value: number): string {
  return formatReadings(unit, [value])[0]!;
}

/** Labels of one axis: all in the unit that suits the largest of them. */
export function formatReadings(unit: Unit, values: readonly (number | null)[]): string[] {
  const size = Math.max(0, ...values.map((value) => Math.abs(value ?? 0)));
  const write = writerFor(unit, size);
  return values.map((value) => (value === null ? "" : write(value)));
}

function writerFor(unit: Unit, size: number): (value: number) => string {
  if (unit === "ratio")
    return (value) => `${short(Math.abs(value) < 0.1 ? value * 100 : Math.round(value * 1000) / 10)} %`;
  if (unit === "B" || unit === "B/s") {
    const { name, factor } = unit === "B" ? prefixOf(size, BINARY, 1024) : prefixOf(size, DECIMAL, 1000);
    return (value) => withUnit(value / factor, name);
  }
  if (unit === "J") {
    // Below a watt-hour joules say more, above it nobody thinks in joules.
    if (size < 3600) return (value) => withUnit(value, "J");
    return size < 3_600_000
      ? (value) => withUnit(value / 3600, "Wh")
      : (value) => withUnit(value / 3_600_000, "kWh");
  }
  return (value) => withUnit(value, plainUnits[unit] ?? "");
}

/** 1, 2, 5 times a power of ten. */
const tens = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** (from + i))).flat();

const hours = (joules: number) => joules * 3600;

/** Distances between the lines of an axis that give round labels in its unit. */
export function incrementsOf(unit: Unit, size: number): number[] {
  if (unit === "ratio") return [0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1];
  // 1, 2, 4, 8, 16 GiB; between 512 MiB and 1 GiB nothing else is round in both.
  if (unit === "B") return Array.from({ length: 52 }, (_, power) => 2 ** power);
  if (unit === "J" && size >= 3600) return tens(-2, 8).map(hours);
  if (unit === "count" || unit === "bits" || unit === "rpm" || unit === "MHz" || unit === "°C")
    return tens(0, 15);
  return tens(-4, 15);
}
