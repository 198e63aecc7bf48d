/** @jsxImportSource hono/jsx */
import type { ArtifactCounts } from "../../artifact/count.ts";
import type { ArtifactKind } from "../../artifact/schema.ts";
import type { RunDetail } from "../../run/schema.ts";
import { formatAgo, formatCount, formatDuration, formatTime } from "../format.ts";
import { listHref, noView } from "../list-view.ts";
import type { KnownSource } from "../../source/known.ts";
import { voiceOf } from "../source-view.ts";
import type { RunTab } from "../state.ts";
import { Icon, StatusBadge } from "./icon.tsx";
import { SourceBadge } from "./place-filters.tsx";
import { Duration, isEnded } from "./time.tsx";

const tabs: { tab: RunTab; label: string; path: string; kind?: ArtifactKind }[] = [
  { tab: "overview", label: "Overview", path: "" },
  { tab: "metrics", label: "Metrics", path: "/metrics" },
  { tab: "logs", label: "Logs", path: "/logs" },
  { tab: "hardware", label: "Hardware", path: "/hardware" },
  { tab: "models", label: "Models", path: "/models", kind: "model" },
  { tab: "artifacts", label: "Artifacts", path: "/artifacts", kind: "artifact" },
  { tab: "timeline", label: "Timeline", path: "/timeline" },
];

export interface RunHeadProps {
  run: RunDetail;
  tab: RunTab;
  now: number;
  counts: ArtifactCounts;
  /** The tab Timeline is for runs that have one. */
  hasSpans: boolean;
  busy?: boolean;
  problem?: string | undefined;
  source: KnownSource | null;
  onRename?: () => void;
  onStop?: () => void;
  onDelete?: () => void;
}

export const RunHead = ({
  run,
  tab,
  now,
  counts,
  hasSpans,
  busy,
  problem,
  source,
  onRename,
  onStop,
  onDelete,
}: RunHeadProps) => (
  <>
    <nav class="crumbs" aria-label="Breadcrumb">
      <a href="/">Runs</a>
      <span aria-hidden="true">/</span>
      <a href={listHref({ ...noView, project: run.project })}>
        <bdi>{run.project}</bdi>
      </a>
    </nav>
    <div class="run-head">
      <div class="run-title">
        <h1>
          <bdi>{run.name}</bdi>
        </h1>
        <button
          class={onRename ? "icon-button quiet" : "icon-button quiet waiting"}
          type="button"
          onClick={() => onRename?.()}
          aria-label="Rename"
          title="Rename"
        >
          <Icon name="edit" size={14} />
        </button>
        <StatusBadge status={run.status} />
        <SourceBadge source={run.source} />
        <span class="soft num">
          <Duration run={run} now={now} />
        </span>
        <button class="run-id mono" type="button" data-copy={run.id} title="Copy the id">
          <span>{run.id}</span> <Icon name="copy" size={13} />
        </button>
      </div>
      <div class="run-actions">
        <a
          class="button"
          href={`/api/v1/runs/${run.id}/export`}
          title="Everything of this run as one zip: metrics, logs, hardware, models, artifacts, config"
          download
        >
          <Icon name="download" size={14} /> Export
        </a>
        {!isEnded(run) && run.source === null && (
          <button
            class={onStop ? "button" : "button waiting"}
            type="button"
            onClick={() => onStop?.()}
            disabled={busy}
          >
            <Icon name="stop" size={14} /> {run.status === "STOPPING" ? "Stopping…" : "Stop"}
          </button>
        )}
        <button
          class={onDelete ? "button danger" : "button danger waiting"}
          type="button"
          onClick={() => onDelete?.()}
          disabled={busy}
        >
          <Icon name="trash" size={14} /> Delete
        </button>
      </div>
    </div>
    {problem !== undefined && (
      <p class="notice bad" role="alert">
        {problem}
      </p>
    )}
    {run.reason !== null && (
      <p class={run.status === "FAILED" ? "notice bad" : "notice"}>
        <span>{run.reason}</span>
      </p>
    )}
    {run.deleted_at_source !== null && (
      <p class="notice">
        <span>
          Deleted at its source, <bdi>{run.source}</bdi>, on{" "}
          <span class="num">{formatTime(Date.parse(run.deleted_at_source))}</span>. Here it stays until it is
          deleted here.
        </span>
      </p>
    )}
    {source !== null && !isEnded(run) && voiceOf(source, now) === "silent" && (
      <p class="notice">
        <span>
          <bdi>{source.label}</bdi> was last heard of {formatAgo(now - Date.parse(source.last_seen))}. The run
          may well be going on there; what came since arrives when the connection is back.
        </span>
      </p>
    )}
    {run.contact_lost !== null && (
      <p class="notice">
        <span>
          No contact for {formatDuration(run.contact_lost * 1000)}. The run may well be going on: its machine
          or the network between is silent.
        </span>
      </p>
    )}
    <nav class="tabs" aria-label="Run">
      {tabs
        .filter(({ tab: name }) => name !== "timeline" || hasSpans || name === tab)
        .map(({ tab: name, label, path, kind }) => (
          <a key={name} href={`/runs/${run.id}${path}`} {...(name === tab && { "aria-current": "page" })}>
            {label}
            {kind && counts[kind] > 0 && <span class="num faint"> {formatCount(counts[kind])}</span>}
          </a>
        ))}
    </nav>
  </>
);
