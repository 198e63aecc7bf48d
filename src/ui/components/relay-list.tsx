/** @jsxImportSource hono/jsx */
import type { Child } from "hono/jsx";
import type { DeadLetter, DeadLetterPage, Relay, RelayDrop, RelayList } from "../../relay/schema.ts";
import { formatCount, formatTime, plural } from "../format.ts";
import {
  amountWords,
  backlogWords,
  contentWords,
  dropRange,
  historyWords,
  kindWords,
  rateWords,
  relayWords,
} from "../relay-view.ts";
import { DeadLetters } from "./dead-letters.tsx";
import { Compass, Icon } from "./icon.tsx";
import { Snippet } from "./snippet.tsx";
import { StreamLink } from "./stream-link.tsx";
import { Ago } from "./time.tsx";
import { Words } from "./words.tsx";

export interface RelayPageState {
  list: RelayList;
  now: number;
}

export interface RelayListProps extends RelayPageState {
  /** By destination, where they are open. */
  letters?: ReadonlyMap<string, DeadLetterPage>;
  busy?: boolean;
  problem?: string | undefined;
  onRetry?: (name: string) => void;
  /** Opens or closes what it refused. */
  onLetters?: (name: string) => void;
  onMoreLetters?: (name: string) => void;
  onSettle?: (name: string, action: "requeue" | "discard", letter?: DeadLetter) => void;
}

/** Where everything that is recorded here goes on to. */
export function RelayDestinations(props: RelayListProps) {
  const { list, problem } = props;
  return (
    <>
      <div class="list-head">
        <h1>Relay</h1>
        <span class="count num" role="status">
          {list.relays.length > 0 ? plural(list.relays.length, "destination") : ""}
        </span>
      </div>
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      {list.relays.length === 0 ? (
        <NoDestination />
      ) : (
        <div class="devices">
          {list.relays.map((relay) => (
            <Destination key={relay.name} {...props} relay={relay} />
          ))}
        </div>
      )}
      {list.drops.length > 0 && <Drops drops={list.drops} />}
      {list.relays.length > 0 && (
        <p class="faint relay-id">
          This installation is <code>{list.installation.id}</code>, epoch{" "}
          {formatCount(list.installation.epoch)}.
        </p>
      )}
    </>
  );
}

const Destination = (props: RelayListProps & { relay: Relay }) => {
  const { relay, now, letters, busy } = props;
  const { name } = relay;
  const words = relayWords(relay, now);
  const history = historyWords(relay);
  const titleId = `relay-${name}`;
  const page = letters?.get(name);
  return (
    <article class="card relay" data-tone={words.tone} data-relay={name} aria-labelledby={titleId}>
      <header>
        <h2 id={titleId}>
          <bdi>{name}</bdi>
        </h2>
        <span class="relay-state" data-tone={words.tone} role="status">
          {words.word}
        </span>
        <span class="faint mono clip-line" title={relay.url}>
          {relay.url}
        </span>
        <button
          class={props.onRetry ? "button small" : "button small waiting"}
          type="button"
          onClick={() => props.onRetry?.(name)}
          disabled={busy}
          aria-label={`Try ${name} again now`}
          hidden={words.tone !== "bad" && words.tone !== "warn"}
        >
          <Icon name="reset" size={14} /> Try again now
        </button>
      </header>
      {words.problem !== null && (
        <p class={words.tone === "bad" ? "notice bad" : "notice"}>
          <span>
            <Words text={words.problem} />
            {words.advice !== null && (
              <>
                {" "}
                <b>
                  <Words text={words.advice} />
                </b>
              </>
            )}
            {words.next !== null && <span class="soft"> {words.next}</span>}
          </span>
        </p>
      )}
      {relay.notice !== null && (
        <p class="notice">
          <span>
            <Words text={relay.notice.message} />
            {relay.notice.hint !== null && (
              <>
                {" "}
                <Words text={relay.notice.hint} />
              </>
            )}{" "}
            <span class="faint">
              <Ago time={relay.notice.at} now={now} />
            </span>
          </span>
        </p>
      )}
      {history !== null && (
        <p class="relay-history">
          <span class="soft num">{history.text}</span>
          {history.share !== null && (
            <svg
              class="bar"
              viewBox="0 0 100 4"
              preserveAspectRatio="none"
              aria-hidden="true"
              focusable="false"
            >
              <rect class="bar-whole" width="100" height="4" />
              <rect class="bar-part" width={(history.share * 100).toFixed(1)} height="4" />
            </svg>
          )}
        </p>
      )}
      <dl class="relay-facts num">
        <Figure label="Still to arrive">{backlogWords(relay) ?? <span class="soft">nothing</span>}</Figure>
        <Figure label="Oldest of it">
          {relay.backlog.oldest === null ? <None /> : <Ago time={relay.backlog.oldest} now={now} />}
        </Figure>
        <Figure label="Rate">{rateWords(relay) ?? <None />}</Figure>
        <Figure label="Files still to send">
          {contentWords(relay) ?? <None />}
          {relay.content?.error && <span class="relay-warn"> {relay.content.error}</span>}
        </Figure>
        <Figure label="Last taken">
          {relay.acked_at === null ? (
            <span class="soft">nothing yet</span>
          ) : (
            <Ago time={relay.acked_at} now={now} />
          )}
        </Figure>
        <Figure label="Gets">
          {relay.from === "history" ? "everything" : "what is new"},{" "}
          {relay.kind === "platform" ? "exactly once" : "at least once"}
        </Figure>
        {relay.dropped.records > 0 && (
          <Figure label="Dropped">
            <span class="relay-warn">{amountWords(relay.dropped)}</span>
          </Figure>
        )}
      </dl>
      {relay.dead_letters > 0 && (
        <DeadLetters
          relay={relay}
          page={page}
          busy={busy ?? false}
          onToggle={() => props.onLetters?.(name)}
          onMore={() => props.onMoreLetters?.(name)}
          onSettle={(action, letter) => props.onSettle?.(name, action, letter)}
        />
      )}
    </article>
  );
};

const None = () => <span class="faint">—</span>;

const Figure = ({ label, children }: { label: string; children: Child }) => (
  <div>
    <dt>{label}</dt>
    <dd>{children}</dd>
  </div>
);

const Drops = ({ drops }: { drops: readonly RelayDrop[] }) => (
  <section class="card panel relay-drops" aria-labelledby="drops">
    <h2 id="drops">
      Dropped <span class="faint num">{formatCount(drops.length)}</span>
    </h2>
    <p class="soft">What will never arrive: which, how much, and why.</p>
    <div class="table-wrap">
      <table class="small-table stacked" role="table">
        <caption class="unseen">What was dropped, the newest first</caption>
        <thead role="rowgroup">
          <tr role="row">
            {["Time", "Destination", "What", "Range", "How much", "Why"].map((label) => (
              <th key={label} scope="col" role="columnheader">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {drops.map((drop) => (
            <tr key={drop.id} role="row">
              <td class="num nowrap" role="cell">
                {formatTime(Date.parse(drop.at))}
              </td>
              <td role="cell">{drop.destination === null ? "every one" : <bdi>{drop.destination}</bdi>}</td>
              <td role="cell">
                {kindWords(drop.kind)} <StreamLink stream={drop.stream} />
              </td>
              <td class="num" role="cell">
                {dropRange(drop)}
              </td>
              <td class="num nowrap" role="cell">
                {amountWords(drop)}
              </td>
              <td class="what" role="cell">
                <bdi>{drop.reason}</bdi>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  </section>
);

const NoDestination = () => (
  <section class="card empty" aria-labelledby="no-destination">
    <div class="rose">
      <Compass size={44} />
    </div>
    <h2 id="no-destination">Nothing leaves this collector</h2>
    <p class="soft">
      A relay sends all that is recorded here on to another binnacle, the platform: runs, metrics, output,
      hardware, models. Exactly once, in order, whatever breaks on the way; what is kept already goes first.
    </p>
    <Snippet title="On the platform: a token for this collector" code="binnacle source add NAME > token" />
    <Snippet
      title="Here: where to send it"
      code="binnacle relay add lab https://platform.example:7070 --token-file token"
    />
    <Snippet
      title="Or to any OpenTelemetry backend: metrics and output, at least once"
      code="binnacle relay add otel otlp+https://collector.example:4318"
    />
    <Snippet
      title="Or to TensorOpera in FedML's protocol, at least once; its MQTT is without TLS"
      code="binnacle relay add tensoropera fedml+https://open.fedml.ai"
    />
  </section>
);
