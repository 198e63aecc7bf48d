import type { Buckets } from "../metric/schema.ts";

const bars = "▁▂▃▄▅▆▇█";

/** A series in one line of text: a bar a bucket, `!` where it holds a NaN or an infinity and nothing else. */
export function sparkline({ mean, last }: Pick<Buckets, "mean" | "last">, width: number): string {
  const values = mean.map((value, index) => value ?? last[index]!);
  const finite = values.filter(
    (value): value is number => typeof value === "number" && Number.isFinite(value),
  );
  const low = Math.min(...finite);
  const range = Math.max(...finite) - low;
  return thin(values, width)
    .map((value) => {
      if (typeof value !== "number" || !Number.isFinite(value)) return "!";
      const level = range > 0 ? (value - low) / range : 0.5;
      return bars[Math.min(bars.length - 1, Math.floor(level * bars.length))];
    })
    .join("");
}

function thin<T>(values: T[], width: number): T[] {
  if (values.length <= width) return values;
  return Array.from({ length: width }, (_, index) => values[Math.floor((index * values.length) / width)]!);
}
