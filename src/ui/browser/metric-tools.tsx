/** @jsxImportSource hono/jsx/dom */
import { useMemo } from "hono/jsx/dom";
import type { MetricSummary } from "../../metric/schema.ts";
import { Icon } from "../components/icon.tsx";
import { plural } from "../format.ts";
import type { MetricsView } from "../metrics-view.ts";

export interface MetricToolsProps {
  metrics: MetricSummary[];
  matching: number;
  view: MetricsView;
  onView: (change: Partial<MetricsView>) => void;
}

const plainAxes: [string, string][] = [
  ["auto", "Each metric's own"],
  ["step", "Step"],
  ["relative", "Time since the start"],
  ["time", "Wall clock"],
];

/** Custom axes are offered before the other metrics, which serve as well. */
const axisOptions = (metrics: MetricSummary[]) =>
  metrics.toSorted((a, b) => Number(b.axis) - Number(a.axis)).slice(0, 200);

const value = (event: Event) => (event.target as HTMLInputElement | HTMLSelectElement).value;

export const MetricTools = ({ metrics, matching, view, onView }: MetricToolsProps) => {
  const ranks = metrics.reduce((most, metric) => Math.max(most, metric.ranks.length), 0);
  const axes = useMemo(() => axisOptions(metrics), [metrics]);
  return (
    <div class="toolbar metric-tools" role="toolbar" aria-label="Charts">
      <label class="search">
        <span class="unseen">Filter metrics by name, a regular expression</span>
        <Icon name="search" />
        <input
          class="field"
          type="search"
          id="filter"
          value={view.filter}
          placeholder="Filter, e.g. loss|acc"
          autocomplete="off"
          spellcheck={false}
          aria-keyshortcuts="/"
          onInput={(event: Event) => onView({ filter: value(event) })}
        />
      </label>
      <span class="unseen" role="status">
        {view.filter ? plural(matching, "metric") : ""}
      </span>
      <label class="labelled">
        <span>X axis</span>
        <select
          class="field"
          id="axis"
          value={view.x}
          onChange={(event: Event) => onView({ x: value(event) })}
        >
          {plainAxes.map(([name, label]) => (
            <option key={name} value={name} selected={view.x === name}>
              {label}
            </option>
          ))}
          <optgroup label="Metrics">
            {axes.map(({ name }) => (
              <option key={name} value={name} selected={view.x === name}>
                {name}
              </option>
            ))}
          </optgroup>
        </select>
      </label>
      <label class="labelled">
        <span>Smoothing</span>
        <input
          type="range"
          id="smoothing"
          min="0"
          max="0.99"
          step="0.01"
          value={String(view.smoothing)}
          onInput={(event: Event) => onView({ smoothing: Number(value(event)) })}
        />
        <output class="num" for="smoothing">
          {view.smoothing === 0 ? "off" : view.smoothing.toFixed(2)}
        </output>
      </label>
      <button
        class="button"
        type="button"
        id="log-scale"
        aria-pressed={view.log ? "true" : "false"}
        onClick={() => onView({ log: !view.log })}
      >
        Log scale
      </button>
      {ranks > 1 && (
        <button
          class="button"
          type="button"
          id="all-ranks"
          aria-pressed={view.allRanks ? "true" : "false"}
          onClick={() => onView({ allRanks: !view.allRanks })}
        >
          All ranks
        </button>
      )}
      {view.zoom && (
        <button class="button" type="button" id="reset-zoom" onClick={() => onView({ zoom: undefined })}>
          <Icon name="reset" size={14} /> Reset zoom
        </button>
      )}
    </div>
  );
};
