/** @jsxImportSource hono/jsx/dom */
import { memo, useEffect, useRef, useState } from "hono/jsx/dom";
import type { MetricSummary } from "../../metric/schema.ts";
import { Icon } from "../components/icon.tsx";
import { showValue } from "../components/latest-metrics.tsx";
import { formatCount, formatDuration, formatNumber, formatTime, plural } from "../format.ts";
import { axisOf, type MetricGroup, type MetricsView } from "../metrics-view.ts";
import { readCollapsed, rememberCollapsed } from "./collapsed.ts";
import { MetricChart, type Reading } from "./metric-chart.ts";
import { MAX_COLORS } from "./plot.ts";
import { cards, observe } from "./visible-charts.ts";

interface Shared {
  view: MetricsView;
  /** The view as it is when a card comes into sight, which may be long after it was put on the page. */
  currentView: () => MetricsView;
  path: string;
  started: number;
  onZoom: (axis: string, from: number, to: number) => void;
  onReset: () => void;
}

/** Cards of one group put on the page at first, and with each "Show more". */
const PAGE = 60;

type GroupProps = Shared & { group: MetricGroup; open: boolean };

/** Smoothing, scale and zoom are drawn by the charts themselves: a slider must not build hundreds of cards anew. */
const isSameView = (a: Shared, b: Shared) => a.view.x === b.view.x && a.view.allRanks === b.view.allRanks;

export const ChartGroup = memo(Group, (a, b) => a.group === b.group && a.open === b.open && isSameView(a, b));

function Group({ group, open, ...shared }: GroupProps) {
  /** What a person decided for this group; else what there is room for. */
  const [chosen, setChosen] = useState<boolean | undefined>(() => {
    const collapsed = readCollapsed()[group.name];
    return collapsed === undefined ? undefined : !collapsed;
  });
  const expanded = chosen ?? open;
  const [limit, setLimit] = useState(PAGE);
  const toggle = () => {
    rememberCollapsed(group.name, expanded);
    setChosen(!expanded);
  };
  return (
    <section class="chart-group" aria-label={group.name || "Ungrouped metrics"}>
      <h2>
        <button
          type="button"
          class="group-toggle"
          aria-expanded={expanded ? "true" : "false"}
          onClick={toggle}
        >
          <Icon name={expanded ? "down" : "right"} size={14} />
          <bdi>{group.name || "Metrics"}</bdi>
          <span class="num faint">{formatCount(group.metrics.length)}</span>
        </button>
      </h2>
      {expanded && (
        <div class="chart-grid">
          {group.metrics.slice(0, limit).map((metric) => (
            <ChartCard key={metric.name} metric={metric} {...shared} />
          ))}
        </div>
      )}
      {expanded && group.metrics.length > limit && (
        <p class="more">
          <button class="button" type="button" onClick={() => setLimit(limit + PAGE)}>
            Show {formatCount(Math.min(PAGE, group.metrics.length - limit))} more
          </button>
        </p>
      )}
    </section>
  );
}

function showX(x: number, axis: string): string {
  if (axis === "time") return formatTime(x, { millis: false });
  if (axis === "relative") return formatDuration(x);
  return `${axis} ${formatNumber(x)}`;
}

type CardProps = Shared & { metric: MetricSummary };

const ChartCard = memo(Card, (a, b) => a.metric === b.metric && isSameView(a, b));

function Card({ metric, view, currentView, path, started, onZoom, onReset }: CardProps) {
  const host = useRef<HTMLDivElement>(null);
  const [wide, setWide] = useState(false);
  const [reading, setReading] = useState<Reading | undefined>(undefined);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const [points, setPoints] = useState<number | undefined>(undefined);
  const rankCount = metric.ranks.length;

  useEffect(() => {
    const element = host.current;
    if (!element) return undefined;
    let chart: MetricChart | undefined;
    const card = {
      name: metric.name,
      setView: (next: MetricsView) => chart?.setView(next),
      append: (live: Parameters<MetricChart["append"]>[0]) => chart?.append(live),
      refresh: () => chart?.refresh(),
      recolor: () => chart?.recolor(),
    };
    const hide = () => {
      cards.delete(card);
      chart?.destroy();
      chart = undefined;
    };
    const unobserve = observe(element, (visible) => {
      if (!visible) hide();
      else if (!chart) {
        chart = new MetricChart({
          path,
          started,
          metric,
          view: currentView(),
          host: element,
          events: {
            onReading: setReading,
            onZoom,
            onReset,
            onProblem: setProblem,
            onData: setPoints,
          },
        });
        cards.add(card);
      }
    });
    return () => {
      unobserve();
      hide();
    };
  }, [metric.name, metric.ranks.join(), metric.x]);

  const axis = axisOf(metric, view);
  const first = reading?.ranks[0];
  return (
    <figure class={wide ? "card chart-card wide" : "card chart-card"} data-metric={metric.name}>
      <figcaption>
        <h3 title={metric.name}>
          <bdi>{metric.name}</bdi>
        </h3>
        <span class="reading num" aria-hidden="true">
          {reading && first ? (
            <>
              <span class="faint">{showX(reading.x, axis)}</span>{" "}
              {reading.ranks.length === 1 && <strong>{showReading(first)}</strong>}
            </>
          ) : points === undefined ? (
            ""
          ) : (
            <span class="faint">{plural(points, "point")}</span>
          )}
        </span>
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
      <div class="plot" ref={host} role="img" aria-label={describe(metric)} />
      {view.allRanks && rankCount > 1 && (
        <ul class="ranks num" aria-hidden="true">
          {metric.ranks.slice(0, 16).map((rank, i) => (
            <li key={rank} data-color={(i % MAX_COLORS) + 1}>
              {rank}
              {reading?.ranks[i] && <span> {showReading(reading.ranks[i])}</span>}
            </li>
          ))}
        </ul>
      )}
      {problem !== undefined && <p class="chart-problem">{problem}</p>}
    </figure>
  );
}

type RankReading = Reading["ranks"][number];

function showReading({ value, min, max, note }: RankReading): string {
  const band =
    min !== null && max !== null && min !== max ? ` (${formatNumber(min)} to ${formatNumber(max)})` : "";
  const text = value === null ? "" : formatNumber(value) + band;
  return [text, note].filter(Boolean).join(", ") || "—";
}

/** What a chart says to those who do not see it. */
function describe({ name, count, min, max, last }: MetricSummary): string {
  const extremes = min === null ? "" : `, from ${showValue(min)} to ${showValue(max)}`;
  return `Chart of ${name}: ${plural(count, "point")}${extremes}, last ${showValue(last)}`;
}
