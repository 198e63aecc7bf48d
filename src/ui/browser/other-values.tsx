/** @jsxImportSource hono/jsx/dom */
import type { MetricSummary } from "../../metric/schema.ts";
import { showValue } from "../components/latest-metrics.tsx";
import { formatCount, formatNumber } from "../format.ts";

const MAX_ROWS = 200;

/** What was logged and is no number: kept and shown, not charted. */
export const OtherValues = ({ metrics }: { metrics: MetricSummary[] }) =>
  metrics.length === 0 ? null : (
    <section class="card panel other-values" aria-labelledby="other-values">
      <h2 id="other-values">
        Other values <span class="faint num">{formatCount(metrics.length)}</span>
      </h2>
      <div class="table-wrap">
        <table class="small-table">
          <caption class="unseen">Metrics that are not numbers, with their last value</caption>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Last value</th>
              <th scope="col" class="right">
                Step
              </th>
              <th scope="col" class="right">
                Values
              </th>
            </tr>
          </thead>
          <tbody>
            {metrics.slice(0, MAX_ROWS).map((metric) => (
              <tr key={metric.name}>
                <th scope="row">
                  <bdi>{metric.name}</bdi>
                </th>
                <td class="value">{showValue(metric.last).slice(0, 2000)}</td>
                <td class="right num">{metric.last_step === null ? "—" : formatNumber(metric.last_step)}</td>
                <td class="right num soft">{formatCount(metric.count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
