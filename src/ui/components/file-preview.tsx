/** @jsxImportSource hono/jsx */
import { downloadHref, previewHref } from "../artifact-view.ts";
import { formatCount, plural } from "../format.ts";
import { boundText, delimiterOf, parseTable, prettyJson, textKind, type TextTable } from "../preview-text.ts";
import { formatReading } from "../units.ts";
import { Icon } from "./icon.tsx";

/** What is known of the file that is looked at. */
export type Preview =
  | { kind: "loading" }
  /** `whole`: its size where the text is only its beginning. */
  | { kind: "text"; text: string; whole: number | undefined }
  | { kind: "image" }
  | { kind: "none"; reason: string };

export interface FilePreviewProps {
  id: number;
  version: string;
  path: string;
  preview: Preview;
  /** A table or JSON as the text it is. */
  isPlain: boolean;
  onPlain: (isPlain: boolean) => void;
  onClose: () => void;
}

const words = { json: "Formatted", table: "Table" } as const;

/** A file's content. Text stands here as text, whatever it says; a picture comes from the route that looked into it. */
export const FilePreview = ({ id, version, path, preview, isPlain, onPlain, onClose }: FilePreviewProps) => {
  const kind = preview.kind === "text" ? textKind(path) : "text";
  return (
    <section class="preview" aria-labelledby="preview">
      <div class="preview-head">
        <h3 id="preview" title={path}>
          <bdi>{path}</bdi>
        </h3>
        <div class="preview-tools">
          {kind !== "text" &&
            [false, true].map((plain) => (
              <button
                key={String(plain)}
                class="button small"
                type="button"
                aria-pressed={isPlain === plain ? "true" : "false"}
                onClick={() => onPlain(plain)}
              >
                {plain ? "Text" : words[kind]}
              </button>
            ))}
          <a class="button small" href={downloadHref(id, version, path)} download>
            <Icon name="download" size={14} /> Download
          </a>
          <button class="icon-button quiet" type="button" onClick={onClose} aria-label="Close the preview">
            <Icon name="close" size={13} />
          </button>
        </div>
      </div>
      <div class="preview-body" tabindex={0} role="group" aria-label={`Content of ${path}`}>
        {preview.kind === "loading" ? (
          <p class="faint preview-word" role="status">
            Loading…
          </p>
        ) : preview.kind === "none" ? (
          <p class="soft preview-word" role="status">
            {preview.reason}
          </p>
        ) : preview.kind === "image" ? (
          <img src={previewHref(id, version, path)} alt={`Picture ${path}`} />
        ) : (
          <Text path={path} text={preview.text} whole={preview.whole} kind={isPlain ? "text" : kind} />
        )}
      </div>
    </section>
  );
};

interface TextProps {
  path: string;
  text: string;
  whole: number | undefined;
  kind: "json" | "table" | "text";
}

const Text = ({ path, text, whole, kind }: TextProps) => {
  if (text === "") return <p class="faint preview-word">This file is empty.</p>;
  const isCut = whole !== undefined;
  const table = kind === "table" ? parseTable(text, { delimiter: delimiterOf(path), isCut }) : undefined;
  if (table) return <Table table={table} whole={whole} />;
  const pretty = kind === "json" && !isCut ? prettyJson(text) : undefined;
  const shown = boundText(pretty ?? text);
  const notes = [
    ...(isCut ? [`The beginning of ${formatReading("B", whole)}`] : []),
    ...(shown.isCut ? ["long lines or later ones are left out"] : []),
    ...(kind === "json" && pretty === undefined
      ? [isCut ? "not formatted" : "not valid JSON, as it is"]
      : []),
  ];
  return (
    <>
      <Note text={notes.join("; ")} />
      <pre class="preview-text">{shown.text}</pre>
    </>
  );
};

const Note = ({ text }: { text: string }) =>
  text === "" ? null : (
    <p class="preview-note">{text[0]!.toUpperCase() + text.slice(1)}. Download it to have it all.</p>
  );

const isNumber = (cell: string) => /^\s*[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i.test(cell);

const Table = ({ table, whole }: { table: TextTable; whole: number | undefined }) => {
  const { head, rows, hasMoreRows, hasMoreColumns } = table;
  const numeric = head.map(
    (_, column) => rows.length > 0 && rows.every((row) => isNumber(row[column] ?? "0")),
  );
  const notes = [
    ...(hasMoreRows
      ? [
          `the first ${plural(rows.length, "row")}${whole === undefined ? "" : ` of a file of ${formatReading("B", whole)}`}`,
        ]
      : []),
    ...(hasMoreColumns ? [`the first ${formatCount(head.length)} columns`] : []),
  ];
  return (
    <>
      <Note text={notes.join(", ")} />
      <table class="preview-table">
        <thead>
          <tr>
            <th scope="col" class="num faint">
              <span class="unseen">Row</span>
            </th>
            {head.map((cell, column) => (
              <th key={column} scope="col" class={numeric[column] ? "right" : undefined}>
                {cell}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>
              <th scope="row" class="num faint">
                {formatCount(index + 1)}
              </th>
              {head.map((_, column) => (
                <td key={column} class={numeric[column] ? "right num" : undefined}>
                  {row[column] ?? ""}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
};
