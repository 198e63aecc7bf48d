/** Labels and distances of axes that all charts have. */
import type uPlot from "uplot";
import { formatNumber } from "../format.ts";

const SI: [number, string][] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** Labels of one axis, all in the unit that suits the largest. */
export function shortNumbers(values: readonly (number | null)[]): string[] {
  const size = Math.max(0, ...values.map((value) => Math.abs(value ?? 0)));
  const unit = size >= 10_000 ? SI.find(([limit]) => size >= limit) : undefined;
  return values.map((value) => {
    if (value === null) return "";
    return unit && value !== 0 ? `${formatNumber(value / unit[0])}${unit[1]}` : formatNumber(value);
  });
}

function shortSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s < 60) return ms % 1000 === 0 ? `${sign}${s}s` : `${formatNumber(ms / 1000)}s`;
  if (s < 3600) return `${sign}${Math.floor(s / 60)}m${s % 60 ? ` ${s % 60}s` : ""}`;
  if (s < 86_400)
    return `${sign}${Math.floor(s / 3600)}h${s % 3600 ? ` ${Math.round((s % 3600) / 60)}m` : ""}`;
  return `${sign}${Math.floor(s / 86_400)}d${s % 86_400 ? ` ${Math.round((s % 86_400) / 3600)}h` : ""}`;
}

const SECONDS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
  604_800,
];
const RELATIVE_STEPS = [1, 10, 100, 200, 500, ...SECONDS.map((s) => s * 1000)];

/** There is nothing between step 1 and step 2. */
const WHOLE_STEPS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

/** In 24 hours; the day stands below where it begins. */
const day = "\n{D} {MMM}";
const year = "\n{YYYY}";
const CLOCK: uPlot.Axis.Values = [
  [365 * 86_400_000, "{YYYY}", null, null, null, null, null, null, 1],
  [28 * 86_400_000, "{MMM}", year, null, null, null, null, null, 1],
  [86_400_000, "{D} {MMM}", year, null, null, null, null, null, 1],
  [60_000, "{HH}:{mm}", day, null, day, null, null, null, 1],
  [1000, "{HH}:{mm}:{ss}", day, null, day, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}.{fff}", day, null, day, null, null, null, 1],
];

/** The x axis of metrics and hardware: "time", "relative", "step" or a metric's name. */
export function xAxisOf(axis: string): uPlot.Axis {
  if (axis === "time") return { size: 44, space: 72, values: CLOCK };
  if (axis === "relative")
    return {
      size: 30,
      space: 56,
      incrs: RELATIVE_STEPS,
      values: (_plot, splits) => splits.map((at) => shortSeconds(at)),
    };
  return {
    size: 30,
    space: 56,
    ...(axis === "step" && { incrs: WHOLE_STEPS }),
    values: (_plot, splits) => shortNumbers(splits),
  };
}

/** Lines between the powers of ten tell nothing where there are many of those. */
export function thinGrid(_plot: uPlot, splits: number[]): (number | null)[] {
  if (splits.length < 40) return splits;
  return splits.map((at) => (Number.isInteger(Math.round(Math.log10(at) * 1e9) / 1e9) ? at : null));
}

/** Wide enough for the widest label. */
export const axisWidth = (_plot: uPlot, labels: string[] | null): number =>
  Math.max(38, 16 + 6.6 * Math.max(0, ...(labels ?? []).map((text) => text?.length ?? 0)));
