/** @jsxImportSource hono/jsx */
import type { Child } from "hono/jsx";
import type { RunDetail } from "../../run/schema.ts";
import type { KnownSource } from "../../source/known.ts";
import { configRows } from "../config-rows.ts";
import { formatAgo, formatCount, formatTime } from "../format.ts";
import { listHref, noView } from "../list-view.ts";
import { voiceOf } from "../source-view.ts";
import { Icon } from "./icon.tsx";
import { Ago, isEnded } from "./time.tsx";

export const Fact = ({ label, children }: { label: string; children: Child }) => (
  <>
    <dt>{label}</dt>
    <dd>{children}</dd>
  </>
);

export const Moment = ({ time, now }: { time: string | null; now: number }) =>
  time === null ? (
    <span class="faint">—</span>
  ) : (
    <>
      <span class="num">{formatTime(Date.parse(time))}</span>{" "}
      <span class="faint">
        <Ago time={time} now={now} />
      </span>
    </>
  );

export const Facts = ({ run, now, source }: { run: RunDetail; now: number; source: KnownSource | null }) => (
  <section class="card panel" aria-labelledby="facts">
    <h2 id="facts">Run</h2>
    <dl class="facts">
      <Fact label="Created">
        <Moment time={run.created} now={now} />
      </Fact>
      <Fact label="Started">
        <Moment time={run.started} now={now} />
      </Fact>
      <Fact label="Ended">
        <Moment time={run.finished} now={now} />
      </Fact>
      {run.exit_code !== null && (
        <Fact label="Exit code">
          <span class="num">{run.exit_code}</span>
        </Fact>
      )}
      <Fact label="Device">{run.device ?? <span class="faint">—</span>}</Fact>
      {run.source !== null && (
        <Fact label="Source">
          <a href={listHref({ ...noView, source: run.source })}>
            <bdi>{run.source}</bdi>
          </a>
          {source?.host && source.host !== run.source && (
            <span class="faint">
              {" "}
              on <bdi>{source.host}</bdi>
            </span>
          )}
          {source && (
            <span class={voiceOf(source, now) === "silent" ? "relay-warn" : "faint"}>
              ,{" "}
              {voiceOf(source, now) === "silent" ? (
                <>last heard of {formatAgo(now - Date.parse(source.last_seen))}</>
              ) : (
                "connected"
              )}
            </span>
          )}
          {!isEnded(run) && <span class="faint">. It is stopped there, not here.</span>}
        </Fact>
      )}
      {run.last_step !== null && (
        <Fact label="Last step">
          <span class="num">{formatCount(run.last_step)}</span>
        </Fact>
      )}
      {run.command !== null && (
        <Fact label="Command">
          <code class="command">{run.command}</code>
        </Fact>
      )}
    </dl>
  </section>
);

export interface ConfigTableProps {
  config: object;
  title?: string;
  /** Where all of it is to be had. */
  address?: string;
}

export const ConfigTable = ({
  config,
  title = "Config",
  address = "GET /api/v1/runs/…",
}: ConfigTableProps) => {
  const { rows, left } = configRows(config);
  return (
    <section class="card panel" aria-labelledby="config">
      <h2 id="config">
        {title} <span class="faint num">{rows.length > 0 ? formatCount(rows.length + left) : ""}</span>
      </h2>
      {rows.length === 0 ? (
        <p class="faint">None was given.</p>
      ) : (
        <table class="config">
          <caption class="unseen">{title}</caption>
          <thead class="unseen">
            <tr>
              <th scope="col">Key</th>
              <th scope="col">Value</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ path, value, kind }) => (
              <tr key={path.join("\n")}>
                <th scope="row">
                  {path.length > 1 && <span class="faint">{path.slice(0, -1).join(".")}.</span>}
                  <bdi>{path.at(-1)}</bdi>
                </th>
                <td class={kind}>{value === "" ? <span class="faint">(empty)</span> : value}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {left > 0 && (
        <p class="faint">
          and {formatCount(left)} more, in {address}
        </p>
      )}
    </section>
  );
};

export interface TagsProps {
  tags: string[];
  onAdd?: (tag: string) => void;
  onRemove?: (tag: string) => void;
}

export const Tags = ({ tags, onAdd, onRemove }: TagsProps) => (
  <section class="card panel" aria-labelledby="tags">
    <h2 id="tags">Tags</h2>
    <div class="tags">
      {tags.map((tag) => (
        <span class="tag" key={tag}>
          <bdi>{tag}</bdi>
          {onRemove && (
            <button type="button" onClick={() => onRemove(tag)} aria-label={`Remove the tag ${tag}`}>
              <Icon name="close" size={11} />
            </button>
          )}
        </span>
      ))}
      {tags.length === 0 && !onAdd && <span class="faint">None.</span>}
      {onAdd && (
        <form
          class="tag-add"
          onSubmit={(event: Event) => {
            event.preventDefault();
            const input = (event.target as HTMLFormElement).elements.namedItem("tag") as HTMLInputElement;
            const tag = input.value.trim();
            input.value = "";
            if (tag) onAdd(tag);
          }}
        >
          <input class="field" name="tag" placeholder="Add a tag" aria-label="Add a tag" maxlength={250} />
        </form>
      )}
    </div>
  </section>
);

export interface NotesProps {
  title?: string;
  notes: string | null;
  editing?: boolean;
  onEdit?: (() => void) | undefined;
  onSave?: ((notes: string | null) => void) | undefined;
  onCancel?: (() => void) | undefined;
}

export const Notes = ({ title = "Notes", notes, editing, onEdit, onSave, onCancel }: NotesProps) => (
  <section class="card panel" aria-labelledby="notes">
    <h2 id="notes">
      {title}
      {onEdit && !editing && (
        <button
          class="icon-button quiet"
          type="button"
          onClick={onEdit}
          aria-label={`Edit the ${title.toLowerCase()}`}
        >
          <Icon name="edit" size={14} />
        </button>
      )}
    </h2>
    {editing ? (
      <form
        onSubmit={(event: Event) => {
          event.preventDefault();
          const area = (event.target as HTMLFormElement).elements.namedItem("notes") as HTMLTextAreaElement;
          onSave?.(area.value === "" ? null : area.value);
        }}
      >
        <textarea
          class="field"
          name="notes"
          rows={6}
          aria-labelledby="notes"
          value={notes ?? ""}
          maxlength={100000}
        />
        <div class="buttons">
          <button class="button small" type="button" onClick={() => onCancel?.()}>
            Cancel
          </button>
          <button class="button small primary" type="submit">
            Save
          </button>
        </div>
      </form>
    ) : notes === null || notes === "" ? (
      <p class="faint">None yet.</p>
    ) : (
      <p class="notes">{notes}</p>
    )}
  </section>
);

export const Writers = ({ writers }: { writers: RunDetail["writers"] }) =>
  writers.length === 0 ? null : (
    <section class="card panel" aria-labelledby="writers">
      <h2 id="writers">
        Writers <span class="faint num">{formatCount(writers.length)}</span>
      </h2>
      <div class="table-wrap">
        <table class="small-table">
          <caption class="unseen">Processes that report to this run</caption>
          <thead>
            <tr>
              <th scope="col">Role</th>
              <th scope="col">Rank</th>
              <th scope="col">Device</th>
              <th scope="col">Process</th>
              <th scope="col">Connected</th>
            </tr>
          </thead>
          <tbody>
            {writers.slice(0, 200).map((writer) => (
              <tr key={writer.client} title={writer.client}>
                <td>{writer.role}</td>
                <td class="num">{writer.rank}</td>
                <td>{writer.device ?? "—"}</td>
                <td class="num">{writer.pid ?? "—"}</td>
                <td>{writer.live ? "yes" : <span class="faint">no</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
