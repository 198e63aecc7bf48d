/** @jsxImportSource hono/jsx/dom */
import type { LogLevel } from "../../log/schema.ts";
import { Icon } from "../components/icon.tsx";
import { formatCount, plural } from "../format.ts";
import { levels, type LogsView } from "../logs-view.ts";
import { MAX_MATCHES } from "./log-search.ts";

export interface LogToolsProps {
  view: LogsView;
  ranks: number[];
  total: number;
  /** Lines the filter lets through, so far. */
  shown: number;
  note: string;
  following: boolean;
  /** Lines that came since the view stands still. */
  fresh: number;
  matches: { count: number; current: number; complete: boolean } | undefined;
  problem: string | undefined;
  downloadHref: string;
  onView: (change: Partial<LogsView>) => void;
  onMove: (by: number) => void;
  onFollow: () => void;
}

const value = (event: Event) => (event.target as HTMLInputElement | HTMLSelectElement).value;

const levelNames: Record<LogLevel, string> = {
  DEBUG: "Debug and worse",
  INFO: "Info and worse",
  WARNING: "Warnings and worse",
  ERROR: "Errors and worse",
  CRITICAL: "Critical",
};

export const LogTools = (props: LogToolsProps) => {
  const { view, ranks, matches, problem, following, fresh, onView, onMove } = props;
  return (
    <>
      <div class="toolbar log-tools" role="toolbar" aria-label="Output">
        <label class="search">
          <span class="unseen">Search, a regular expression</span>
          <Icon name="search" />
          <input
            class="field"
            type="search"
            id="log-search"
            value={view.search}
            placeholder="Search, e.g. error|nan"
            autocomplete="off"
            spellcheck={false}
            aria-keyshortcuts="/"
            aria-invalid={problem === undefined ? "false" : "true"}
            onInput={(event: Event) => onView({ search: value(event) })}
            onKeydown={(event: KeyboardEvent) => {
              if (event.key === "Enter") onMove(event.shiftKey ? -1 : 1);
            }}
          />
        </label>
        {matches && (
          <span class="log-matches num">
            <span role="status">{countMatches(matches)}</span>
            <button class="icon-button" type="button" aria-label="Previous match" onClick={() => onMove(-1)}>
              <Icon name="up" />
            </button>
            <button class="icon-button" type="button" aria-label="Next match" onClick={() => onMove(1)}>
              <Icon name="down" />
            </button>
          </span>
        )}
        {view.search !== "" && (
          <button
            class="button"
            type="button"
            id="only-matches"
            aria-pressed={view.only ? "true" : "false"}
            onClick={() => onView({ only: !view.only })}
          >
            Only matches
          </button>
        )}
        <label>
          <span class="unseen">Level</span>
          <select
            class="field"
            id="level"
            value={view.level}
            onChange={(event: Event) => onView({ level: value(event) as LogsView["level"] })}
          >
            <option value="">All levels</option>
            {levels.map((level) => (
              <option key={level} value={level} selected={view.level === level}>
                {levelNames[level]}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span class="unseen">Stream</span>
          <select
            class="field"
            id="stream"
            value={view.stream}
            onChange={(event: Event) => onView({ stream: value(event) as LogsView["stream"] })}
          >
            <option value="">stdout and stderr</option>
            <option value="stdout" selected={view.stream === "stdout"}>
              stdout
            </option>
            <option value="stderr" selected={view.stream === "stderr"}>
              stderr
            </option>
          </select>
        </label>
        {ranks.length > 1 && (
          <label>
            <span class="unseen">Rank</span>
            <select
              class="field"
              id="rank"
              value={view.rank}
              onChange={(event: Event) => onView({ rank: value(event) })}
            >
              <option value="">All ranks</option>
              {ranks.map((rank) => (
                <option key={rank} value={String(rank)} selected={view.rank === String(rank)}>
                  Rank {rank}
                </option>
              ))}
            </select>
          </label>
        )}
        <button
          class="button"
          type="button"
          id="times"
          aria-pressed={view.time ? "true" : "false"}
          onClick={() => onView({ time: !view.time })}
        >
          <Icon name="clock" size={14} /> Times
        </button>
        <a class="button" id="download" href={props.downloadHref} download>
          <Icon name="download" size={14} /> Download
        </a>
      </div>
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      <p class="log-status num faint">
        <span id="log-count">{describeCount(props)}</span>
        <button
          class="button small"
          type="button"
          id="follow"
          aria-pressed={following ? "true" : "false"}
          onClick={props.onFollow}
        >
          {following ? "Following" : fresh > 0 ? `Follow, ${formatCount(fresh)} new` : "Follow"}
        </button>
      </p>
    </>
  );
};

function describeCount({ view, total, shown, note }: LogToolsProps): string {
  if (total === 0) return "Nothing was printed yet.";
  const filtered = view.level || view.stream || view.rank || (view.only && view.search);
  if (!filtered) return plural(total, "line");
  return `${formatCount(shown)} of ${plural(total, "line")}${note ? `, ${note}` : ""}`;
}

function countMatches({ count, current, complete }: NonNullable<LogToolsProps["matches"]>): string {
  if (count === 0) return complete ? "No match" : "Searching…";
  const all = count >= MAX_MATCHES ? `${formatCount(count)}+` : formatCount(count);
  return current < 0 ? `${all} lines` : `${formatCount(current + 1)} of ${all}${complete ? "" : "…"}`;
}
