/** @jsxImportSource hono/jsx/dom */
import { memo, useEffect, useRef, useState } from "hono/jsx/dom";
import { Icon } from "../components/icon.tsx";
import { formatDuration, formatTime, plural } from "../format.ts";
import type { HardwareChart, Line } from "../hardware-charts.ts";
import type { Gap, GapFacts } from "../hardware-gaps.ts";
import type { Summary } from "../hardware-lines.ts";
import type { Window } from "../hardware-view.ts";
import { formatReading, formatReadings } from "../units.ts";
import { SampleChart, type ChartReading, type ChartState, type LineReading } from "./sample-chart.ts";
import type { SampleSource } from "./sample-source.ts";
import { observe } from "./visible-charts.ts";

/** Charts that are on screen. */
export const shownCharts = new Set<SampleChart>();

export interface CardShared {
  source: SampleSource;
  window: () => Window;
  facts: () => GapFacts;
  onZoom: (from: number, to: number) => void;
  onReset: () => void;
}

type CardProps = CardShared & { chart: HardwareChart; subjects: readonly string[] };

export const HardwareCard = memo(
  Card,
  (a, b) => a.chart === b.chart && a.source === b.source && a.subjects === b.subjects,
);

function Card({ chart, subjects, source, window, facts, onZoom, onReset }: CardProps) {
  const host = useRef<HTMLDivElement>(null);
  const drawing = useRef<SampleChart | undefined>(undefined);
  const [wide, setWide] = useState(false);
  const [table, setTable] = useState(false);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set<string>());
  const [reading, setReading] = useState<ChartReading | undefined>(undefined);
  const [state, setState] = useState<ChartState | undefined>(undefined);
  const [problem, setProblem] = useState<string | undefined>(undefined);

  useEffect(() => {
    const element = host.current;
    if (!element) return undefined;
    const hide = () => {
      const shown = drawing.current;
      drawing.current = undefined;
      if (!shown) return;
      shownCharts.delete(shown);
      shown.destroy();
    };
    const unobserve = observe(element, (visible) => {
      if (!visible) hide();
      else if (!drawing.current) {
        drawing.current = new SampleChart({
          chart,
          source,
          subjects,
          window,
          facts,
          hidden,
          host: element,
          events: { onReading: setReading, onState: setState, onProblem: setProblem, onZoom, onReset },
        });
        shownCharts.add(drawing.current);
      }
    });
    return () => {
      unobserve();
      hide();
    };
  }, [chart, source, subjects]);

  const toggle = (key: string) => {
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    setHidden(next);
    drawing.current?.hide(next);
  };
  return (
    <figure class={`card chart-card${wide ? " wide" : ""}${table ? " tabled" : ""}`} data-chart={chart.id}>
      <figcaption>
        <h3 title={chart.title}>{chart.title}</h3>
        <span class="reading num faint" aria-hidden="true">
          {reading && clock(reading.at, window())}
        </span>
        <button
          class="icon-button quiet"
          type="button"
          onClick={() => setTable(!table)}
          aria-label={`${chart.title} as a table`}
          aria-pressed={table ? "true" : "false"}
        >
          <Icon name="table" size={13} />
        </button>
        <button
          class="icon-button quiet"
          type="button"
          onClick={() => setWide(!wide)}
          aria-label={wide ? "Smaller chart" : "Larger chart"}
          aria-pressed={wide ? "true" : "false"}
        >
          <Icon name={wide ? "close" : "expand"} size={13} />
        </button>
      </figcaption>
      <div class="plot" ref={host} role="img" aria-label={describe(chart, state)} />
      <p class="chart-note" aria-hidden="true" title={reading?.note}>
        {reading?.note}
      </p>
      <ul class="legend num" data-section={chart.section} aria-label={`Lines of ${chart.title}`}>
        {(chart.shape === "spans" ? [] : chart.lines).map((line) => (
          <li key={line.key} data-color={line.color} data-dashed={line.dashed ? "true" : undefined}>
            <button
              type="button"
              title={line.label}
              aria-pressed={hidden.has(line.key) ? "false" : "true"}
              onClick={() => toggle(line.key)}
            >
              <bdi>{line.short}</bdi>
              <span aria-hidden="true">{legendValue(chart, line, reading, state)}</span>
            </button>
          </li>
        ))}
      </ul>
      {(chart.common !== undefined || chart.left > 0) && (
        <p class="legend-note faint">
          {chart.common}
          {chart.left > 0 && ` and ${plural(chart.left, "more line")}, not drawn`}
        </p>
      )}
      {table && <ChartTable chart={chart} state={state} />}
      {problem !== undefined && <p class="chart-problem">{problem}</p>}
    </figure>
  );
}

/** The day is said where there are several. */
const clock = (time: number, { from, to }: Window): string =>
  to - from < 86_400_000 ? formatTime(time).slice(11) : formatTime(time).slice(0, 16);

/** Under the crosshair; without one the last value. */
function legendValue(
  chart: HardwareChart,
  { key }: Line,
  reading: ChartReading | undefined,
  state: ChartState | undefined,
): string {
  if (!reading) {
    if (state?.silent.has(key)) return "—";
    const last = state?.summaries.get(key)?.last;
    return last === null || last === undefined ? "" : show(chart, last);
  }
  const at = reading.lines.get(key);
  if (!at || at.value === null) return "—";
  // Beside many others there is room for one number; the table has the rest.
  return chart.lines.length > 2 ? show(chart, at.value) : show(chart, at.value) + bandOf(chart, at);
}

function bandOf(chart: HardwareChart, { min, max }: LineReading): string {
  if (min === null || max === null || min === max) return "";
  const [low, high] = formatReadings(chart.unit, [min, max]);
  return ` (${low?.replace(/ \S+$/, "")} to ${high})`;
}

const show = (chart: HardwareChart, value: number) =>
  chart.id === "gpu.performance_state" ? `P${Math.round(value)}` : formatReading(chart.unit, value);

/** What a chart says to those who do not see it. */
function describe(chart: HardwareChart, state: ChartState | undefined): string {
  if (!state) return `Chart of ${chart.title}`;
  if (chart.shape === "spans") return `Chart of ${chart.title}: when, is in the list of events`;
  const lines = chart.lines.map((line) => {
    const { last, mean, min, max } = state.summaries.get(line.key) ?? empty;
    if (last === null || mean === null) return `${line.label}: no values`;
    return `${line.label}: ${show(chart, mean)} on average, from ${show(chart, min!)} to ${show(chart, max!)}, last ${show(chart, last)}`;
  });
  const gaps = state.gaps.length > 0 ? `; ${plural(state.gaps.length, "gap")}, listed in its table` : "";
  return `Chart of ${chart.title}: ${lines.join("; ")}${gaps}`;
}

const empty: Summary = { last: null, mean: null, min: null, max: null };

/** The same in numbers, and why lines break where they do. */
function ChartTable({ chart, state }: { chart: HardwareChart; state: ChartState | undefined }) {
  const cell = (value: number | null) => (value === null ? "—" : show(chart, value));
  return (
    <div class="chart-table table-wrap">
      <table class="small-table">
        <caption class="unseen">{chart.title} in this window</caption>
        <thead>
          <tr>
            <th scope="col">Line</th>
            {["Last", "Mean", "Min", "Max"].map((name) => (
              <th key={name} scope="col" class="right">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {chart.lines.map((line) => {
            const { last, mean, min, max } = state?.summaries.get(line.key) ?? empty;
            return (
              <tr key={line.key}>
                <th scope="row">
                  <bdi>{line.label}</bdi>
                </th>
                <td class="right num strong">{cell(last)}</td>
                <td class="right num">{cell(mean)}</td>
                <td class="right num">{cell(min)}</td>
                <td class="right num">{cell(max)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {state !== undefined && state.gaps.length > 0 && <GapList chart={chart} gaps={state.gaps} />}
    </div>
  );
}

const GapList = ({ chart, gaps }: { chart: HardwareChart; gaps: Gap[] }) => (
  <>
    <h4>Gaps</h4>
    <ul class="gaps">
      {gaps.map(({ from, to, lines, reason }, i) => (
        // Their edges move with the width of a bucket: by place a gap stays the same row.
        <li key={i}>
          <span class="num">
            {formatTime(from)}, {formatDuration(to - from)}
          </span>
          {lines.length < chart.lines.length && (
            <span class="soft">
              {" "}
              {lines.map((key) => chart.lines.find((line) => line.key === key)?.short).join(", ")}
            </span>
          )}
          : {reason}
        </li>
      ))}
    </ul>
  </>
);
