/** @jsxImportSource hono/jsx */
import type { DeadLetter, DeadLetterPage, Relay } from "../../relay/schema.ts";
import { formatCount, formatTime, plural } from "../format.ts";
import { amountWords, kindWords, streamWords } from "../relay-view.ts";
import { Icon } from "./icon.tsx";
import { StreamLink } from "./stream-link.tsx";

export interface DeadLettersProps {
  relay: Relay;
  /** undefined: closed. */
  page: DeadLetterPage | undefined;
  busy: boolean;
  onToggle: () => void;
  onMore: () => void;
  /** Without a letter: all of them. */
  onSettle: (action: "requeue" | "discard", letter?: DeadLetter) => void;
}

/** What a destination refused for good: kept whole until a person says what becomes of it. */
export const DeadLetters = ({ relay, page, busy, onToggle, onMore, onSettle }: DeadLettersProps) => (
  <section class="dead-letters" aria-label={`Refused by ${relay.name}`}>
    <div class="dead-head">
      <button class="file-open" type="button" aria-expanded={page ? "true" : "false"} onClick={onToggle}>
        <Icon name={page ? "down" : "right"} size={12} />
        <span>
          {plural(relay.dead_letters, "entry was", "entries were")} refused for good; everything else went on
        </span>
      </button>
      {page && (
        <div class="dead-tools">
          <button class="button small" type="button" disabled={busy} onClick={() => onSettle("requeue")}>
            Send all again
          </button>
          <button
            class="button small danger"
            type="button"
            disabled={busy}
            onClick={() => onSettle("discard")}
          >
            Discard all
          </button>
        </div>
      )}
    </div>
    {page && (
      <>
        <div class="table-wrap">
          <table class="small-table stacked" role="table">
            <caption class="unseen">What {relay.name} refused, the oldest first</caption>
            <thead role="rowgroup">
              <tr role="row">
                {["Time", "Entry", "What", "How much", "Why"].map((label) => (
                  <th key={label} scope="col" role="columnheader">
                    {label}
                  </th>
                ))}
                <th scope="col" role="columnheader">
                  <span class="unseen">Send again or discard</span>
                </th>
              </tr>
            </thead>
            <tbody role="rowgroup">
              {page.dead_letters.map((letter) => (
                <LetterRow
                  key={letter.id}
                  letter={letter}
                  busy={busy}
                  onSettle={(action) => onSettle(action, letter)}
                />
              ))}
            </tbody>
          </table>
        </div>
        {page.next !== null && (
          <p class="files-more">
            <button class="button small" type="button" onClick={onMore} disabled={busy}>
              Show more
            </button>{" "}
            <span class="faint num">
              {formatCount(page.dead_letters.length)} of {formatCount(relay.dead_letters)}
            </span>
          </p>
        )}
      </>
    )}
  </section>
);

interface LetterProps {
  letter: DeadLetter;
  busy: boolean;
  onSettle: (action: "requeue" | "discard") => void;
}

const LetterRow = ({ letter, busy, onSettle }: LetterProps) => {
  const words = `${kindWords(letter.kind)} ${streamWords(letter.stream).text}`;
  return (
    <tr role="row">
      <td class="num nowrap" role="cell">
        {formatTime(Date.parse(letter.at))}
      </td>
      <td class="num" role="cell">
        {letter.seq === 0 ? (
          <span class="soft nowrap">of the history</span>
        ) : (
          <>
            <span class="only-phone">entry </span>
            {formatCount(letter.seq)}
          </>
        )}
      </td>
      <td role="cell">
        {kindWords(letter.kind)} <StreamLink stream={letter.stream} />
      </td>
      <td class="num nowrap" role="cell">
        {amountWords(letter)}
      </td>
      <td class="what" role="cell">
        <bdi>{letter.detail === "" ? letter.type : letter.detail}</bdi>
      </td>
      <td class="dead-actions" role="cell">
        <button
          class="icon-button quiet"
          type="button"
          disabled={busy}
          onClick={() => onSettle("requeue")}
          aria-label={`Send again: ${words}`}
          title="Send again"
        >
          <Icon name="reset" size={14} />
        </button>
        <button
          class="icon-button quiet"
          type="button"
          disabled={busy}
          onClick={() => onSettle("discard")}
          aria-label={`Discard: ${words}`}
          title="Discard"
        >
          <Icon name="trash" size={14} />
        </button>
      </td>
    </tr>
  );
};
