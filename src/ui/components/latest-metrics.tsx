/** @jsxImportSource hono/jsx */
import type { MetricSummary } from "../../metric/schema.ts";
import { formatCount, formatNumber, isWireNumber, toNumber } from "../format.ts";

/** Any last value on one line: a number short, anything else as JSON. */
export function showValue(value: unknown): string {
  if (isWireNumber(value)) return formatNumber(toNumber(value));
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A filter for this name and no other. */
const exactly = (name: string) => `^${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;

const MAX_ROWS = 300;

export interface LatestMetricsProps {
  metrics: MetricSummary[] | undefined;
  runId: string;
}

export const LatestMetrics = ({ metrics, runId }: LatestMetricsProps) => (
  <section class="card panel" aria-labelledby="latest">
    <h2 id="latest">
      Latest metrics <span class="faint num">{metrics?.length ? formatCount(metrics.length) : ""}</span>
    </h2>
    {metrics === undefined ? (
      <p class="faint">Loading…</p>
    ) : metrics.length === 0 ? (
      <p class="faint">
        None yet.{" "}
        <code>
          binnacle.log({"{"}"loss": 0.5{"}"})
        </code>{" "}
        makes the first.
      </p>
    ) : (
      <div class="table-wrap">
        <table class="small-table latest">
          <caption class="unseen">Last value, extremes and count of each metric</caption>
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col" class="right">
                Last
              </th>
              <th scope="col" class="right">
                Min
              </th>
              <th scope="col" class="right">
                Max
              </th>
              <th scope="col" class="right">
                Points
              </th>
            </tr>
          </thead>
          <tbody>
            {metrics.slice(0, MAX_ROWS).map((metric) => (
              <tr key={metric.name}>
                <th scope="row">
                  <a
                    title={metric.name}
                    href={`/runs/${runId}/metrics?filter=${encodeURIComponent(exactly(metric.name))}`}
                  >
                    <bdi>{metric.name}</bdi>
                  </a>
                </th>
                <td class="right num strong">
                  <span class="clip" title={showValue(metric.last)}>
                    {showValue(metric.last)}
                  </span>
                </td>
                <td class="right num">{metric.min === null ? "—" : showValue(metric.min)}</td>
                <td class="right num">{metric.max === null ? "—" : showValue(metric.max)}</td>
                <td class="right num soft">{formatCount(metric.count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    )}
    {metrics !== undefined && metrics.length > MAX_ROWS && (
      <p class="faint">
        <a href={`/runs/${runId}/metrics`}>and {formatCount(metrics.length - MAX_ROWS)} more</a>
      </p>
    )}
  </section>
);
