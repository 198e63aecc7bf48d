/** @jsxImportSource hono/jsx */
import type { Source, SourceList, SourceToken } from "../../source/schema.ts";
import { formatCount, formatTime, plural } from "../format.ts";
import { listHref, noView } from "../list-view.ts";
import { skewWords, tokenState, tokenWords, voiceOf, voiceWords } from "../source-view.ts";
import { formatReading } from "../units.ts";
import { Compass } from "./icon.tsx";
import { Snippet } from "./snippet.tsx";
import { Ago } from "./time.tsx";

export interface SourcePageState {
  list: SourceList;
  now: number;
  /** Where this platform is reached. */
  origin: string;
}

/** Who relays here. */
export const SourceTable = ({ list, now, origin }: SourcePageState) => {
  const { sources, tokens } = list;
  const silent = sources.filter((source) => voiceOf(source, now) === "silent").length;
  return (
    <>
      <div class="list-head">
        <h1>Sources</h1>
        <span class="count num" role="status">
          {sources.length === 0
            ? ""
            : `${plural(sources.length, "source")}${silent > 0 ? `, ${formatCount(silent)} silent` : ""}`}
        </span>
      </div>
      {sources.length === 0 ? <NoSource origin={origin} /> : <Table sources={sources} now={now} />}
      {tokens.length > 0 && <Tokens tokens={tokens} now={now} />}
    </>
  );
};

const columns = ["Source", "Last heard", "Behind", "Received", "Runs", "Devices", "Files on their way"];

const Table = ({ sources, now }: { sources: readonly Source[]; now: number }) => (
  <div class="card table-wrap">
    <table class="runs sources" role="table">
      <caption class="unseen">Sources</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((label) => (
            <th key={label} scope="col" role="columnheader">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {sources.map((source) => (
          <Row key={source.id} source={source} now={now} />
        ))}
      </tbody>
    </table>
  </div>
);

const Row = ({ source, now }: { source: Source; now: number }) => {
  const { label, host, version, through, pending } = source;
  const voice = voiceOf(source, now);
  const skew = skewWords(source.skew);
  return (
    <tr role="row" data-source={label}>
      <td class="cell-name" role="cell">
        <span class="run-name" title={`${label}, ${source.id}`}>
          <bdi>{label}</bdi>
        </span>
        <span class="run-sub">
          {host !== null && (
            <>
              <bdi>{host}</bdi>
              {version !== null && " · "}
            </>
          )}
          {version !== null && <bdi>binnacle {version}</bdi>}
          {through.length > 0 && (
            <>
              {" "}
              · with data of <bdi>{through.join(", ")}</bdi>
            </>
          )}
        </span>
      </td>
      <td class="cell-status" role="cell">
        <span
          class="fresh"
          data-fresh={voice === "heard" ? "live" : "offline"}
          title={formatTime(Date.parse(source.last_seen))}
        >
          {voiceWords(source, now)}
        </span>
        {skew !== null && <span class="run-sub relay-warn">{skew}</span>}
      </td>
      <td class="num cell-behind" role="cell" data-quiet={source.behind ? undefined : "true"}>
        {source.behind === null ? (
          <span class="faint">—</span>
        ) : source.behind === 0 ? (
          <span class="soft">nothing</span>
        ) : (
          <>
            {plural(source.behind, "entry", "entries")}
            <span class="only-phone"> behind</span>
          </>
        )}
      </td>
      <td class="num cell-received" role="cell">
        <span title={plural(source.entries, "entry", "entries")}>{plural(source.records, "record")}</span>
        <span class="run-sub">{formatReading("B", source.bytes)}</span>
      </td>
      <td class="num cell-runs" role="cell">
        <a href={listHref({ ...noView, source: label })}>
          {formatCount(source.runs)}
          <span class="only-phone">{source.runs === 1 ? " run" : " runs"}</span>
        </a>
      </td>
      <td class="num cell-devices" role="cell">
        <a href={`/devices?${new URLSearchParams({ source: label })}`}>
          {formatCount(source.devices)}
          <span class="only-phone">{source.devices === 1 ? " device" : " devices"}</span>
        </a>
      </td>
      <td class="num cell-pending" role="cell" data-quiet={pending.files === 0 ? "true" : undefined}>
        {pending.files === 0 ? (
          <span class="soft">none</span>
        ) : (
          <>
            {plural(pending.files, "file")}
            <span class="only-phone"> on their way</span>
            <span class="run-sub">{formatReading("B", pending.bytes)}</span>
          </>
        )}
      </td>
    </tr>
  );
};

const Tokens = ({ tokens, now }: { tokens: readonly SourceToken[]; now: number }) => (
  <section class="card panel source-tokens" aria-labelledby="tokens">
    <h2 id="tokens">
      Tokens <span class="faint num">{formatCount(tokens.length)}</span>
    </h2>
    <div class="table-wrap">
      <table class="small-table stacked" role="table">
        <caption class="unseen">Tokens that were given out</caption>
        <thead role="rowgroup">
          <tr role="row">
            {["Name", "State", "Given out", "Last used", "Expires"].map((label) => (
              <th key={label} scope="col" role="columnheader">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {tokens.map((token) => {
            const state = tokenState(token, now);
            return (
              <tr key={`${token.name} ${token.created}`} role="row">
                <td role="cell">
                  <bdi>{token.name}</bdi>
                </td>
                <td role="cell" class={state === "used" ? "" : "soft"}>
                  {tokenWords[state]}
                </td>
                <td role="cell" class="num nowrap">
                  <span class="only-phone">given out </span>
                  {formatTime(Date.parse(token.created))}
                </td>
                <td role="cell" class="num nowrap">
                  {token.used === null ? (
                    <span class="soft">
                      <span class="only-phone">used </span>never
                    </span>
                  ) : (
                    <>
                      <span class="only-phone">used </span>
                      <Ago time={token.used} now={now} />
                    </>
                  )}
                </td>
                <td role="cell" class="num nowrap">
                  <span class="only-phone">expires </span>
                  {token.expires === null ? (
                    <span class="soft">never</span>
                  ) : (
                    formatTime(Date.parse(token.expires))
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
    <p class="faint">
      Only their digests are kept. <code>binnacle source revoke NAME</code> ends one; what it brought stays.
    </p>
  </section>
);

const NoSource = ({ origin }: { origin: string }) => (
  <section class="card empty" aria-labelledby="no-source">
    <div class="rose">
      <Compass size={44} />
    </div>
    <h2 id="no-source">Nobody relays here yet</h2>
    <p class="soft">
      This is a platform: other collectors send all that they record on to it, and it shows the runs, devices
      and models of them all.
    </p>
    <Snippet title="Here: a token for each of them" code="binnacle source add NAME > token" />
    <Snippet
      title="On the other machine, with that file"
      code={`binnacle relay add platform ${origin} --token-file token`}
    />
  </section>
);
