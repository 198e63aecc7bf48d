import type { MetricSummary } from "../metric/schema.ts";
import { isWireNumber } from "./format.ts";

/** What the URL of the metrics tab says. */
export interface MetricsView {
  filter: string;
  /** "auto": each metric's own; else "step", "time", "relative" or a metric's name. */
  x: string;
  /** 0 (none) to 0.99. */
  smoothing: number;
  log: boolean;
  allRanks: boolean;
  /** Zoomed range of x; undefined: all. It holds for charts with the axis `on`. */
  zoom: { on: string; from: number; to: number } | undefined;
}

export function parseMetricsView(params: URLSearchParams): MetricsView {
  const smoothing = Number(params.get("smooth") ?? 0);
  const from = Number(params.get("from") ?? NaN);
  const to = Number(params.get("to") ?? NaN);
  const on = params.get("on");
  return {
    filter: (params.get("filter") ?? "").slice(0, 500),
    x: params.get("x") || "auto",
    smoothing: smoothing >= 0 && smoothing <= 0.99 ? smoothing : 0,
    log: params.get("log") === "1",
    allRanks: params.get("ranks") === "all",
    zoom:
      on !== null && Number.isFinite(from) && Number.isFinite(to) && from < to ? { on, from, to } : undefined,
  };
}

export function metricsQuery(view: MetricsView): string {
  const params = new URLSearchParams();
  if (view.filter) params.set("filter", view.filter);
  if (view.x !== "auto") params.set("x", view.x);
  if (view.smoothing > 0) params.set("smooth", String(view.smoothing));
  if (view.log) params.set("log", "1");
  if (view.allRanks) params.set("ranks", "all");
  if (view.zoom) {
    params.set("on", view.zoom.on);
    params.set("from", String(view.zoom.from));
    params.set("to", String(view.zoom.to));
  }
  const query = params.toString();
  return query ? `?${query}` : "";
}

/** The axis a metric is drawn over. */
export const axisOf = (metric: MetricSummary, view: MetricsView): string =>
  view.x === "auto" ? (metric.x ?? "step") : view.x;

export interface MetricGroup {
  /** What stands before the first slash; "" for names without one. */
  name: string;
  metrics: MetricSummary[];
}

/** Names without a slash come first, the other groups in the order of their first metric. */
export function groupMetrics(metrics: MetricSummary[]): MetricGroup[] {
  const byName = new Map<string, MetricSummary[]>([["", []]]);
  for (const metric of metrics) {
    const slash = metric.name.indexOf("/");
    const name = slash > 0 ? metric.name.slice(0, slash) : "";
    const group = byName.get(name);
    if (group) group.push(metric);
    else byName.set(name, [metric]);
  }
  return [...byName]
    .filter(([, group]) => group.length > 0)
    .map(([name, group]) => ({ name, metrics: group }));
}

/** A regular expression without regard to case; text that is none is looked for as it stands. */
export function createFilter(filter: string): (name: string) => boolean {
  if (!filter) return () => true;
  try {
    const pattern = new RegExp(filter, "i");
    return (name) => pattern.test(name);
  } catch {
    const text = filter.toLowerCase();
    return (name) => name.toLowerCase().includes(text);
  }
}

/** Whether there is anything to draw: a metric that only ever was text has no chart. */
export const isCharted = (metric: MetricSummary): boolean => metric.min !== null || isWireNumber(metric.last);
