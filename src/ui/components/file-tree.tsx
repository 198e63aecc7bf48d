/** @jsxImportSource hono/jsx */
import { memo } from "hono/jsx";
import type { FilePage } from "../../artifact/schema.ts";
import { downloadHref, fileHref } from "../artifact-view.ts";
import { buildTree, treeRows, type FileRow, type FolderRow } from "../file-tree.ts";
import { formatCount, plural } from "../format.ts";
import { Digest, Size } from "./artifact-bits.tsx";
import { Icon } from "./icon.tsx";

/** Deeper ones stand no further to the right. */
const MAX_INDENT = 8;

export interface FileTreeProps {
  id: number;
  version: string;
  /** Files in all. */
  total: number;
  page: FilePage;
  open: ReadonlySet<string>;
  /** Rows at most. */
  limit: number;
  selected?: string | undefined;
  loading?: boolean;
  problem?: string | undefined;
  onToggle?: (folder: string) => void;
  /** Shows the file on this page; without it its name leads to the version's page. */
  onSelect?: (path: string) => void;
  onMore?: () => void;
}

export const FileTree = (props: FileTreeProps) => {
  const { id, version, total, page, open, limit, loading, problem, onMore } = props;
  const hasMore = page.next !== null;
  const { rows, isCut } = treeRows(buildTree(page.files), open, { limit, hasMore });
  return (
    <>
      <div class="table-wrap">
        <table class="files" role="table">
          <caption class="unseen">Files, in folders</caption>
          <thead class="unseen" role="rowgroup">
            <tr role="row">
              {["Name", "Size", "Digest", "Download"].map((label) => (
                <th key={label} scope="col" role="columnheader">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {rows.map((row) =>
              row.kind === "folder" ? (
                <FolderLine key={`${row.path}/`} row={row} onToggle={props.onToggle} />
              ) : (
                <FileLine
                  key={row.path}
                  row={row}
                  id={id}
                  version={version}
                  isSelected={row.path === props.selected}
                  {...(props.onSelect && { onSelect: props.onSelect })}
                />
              ),
            )}
          </tbody>
        </table>
      </div>
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      {(isCut || hasMore) && (
        <p class="files-more">
          {onMore && (
            <button class="button small" type="button" onClick={onMore} disabled={loading}>
              {loading ? "Loading…" : "Show more files"}
            </button>
          )}{" "}
          <span class="faint num">
            {hasMore ? `${formatCount(page.files.length)} of ${plural(total, "file")} loaded` : ""}
          </span>
        </p>
      )}
    </>
  );
};

const indent = (depth: number) => String(Math.min(depth, MAX_INDENT));

interface FolderProps {
  row: FolderRow;
  onToggle?: ((folder: string) => void) | undefined;
}

/** Of thousands of rows only those are made anew that changed. */
const isSameFolder = ({ row: a }: FolderProps, { row: b }: FolderProps) =>
  a.path === b.path && a.isOpen === b.isOpen && a.files === b.files && a.size === b.size;

const FolderLine = memo(
  ({ row, onToggle }: FolderProps) => (
    <tr role="row" class="folder">
      <td class="file-name" role="cell" data-depth={indent(row.depth)}>
        <button
          class="file-open"
          type="button"
          aria-expanded={row.isOpen ? "true" : "false"}
          onClick={() => onToggle?.(row.path)}
        >
          <Icon name={row.isOpen ? "down" : "right"} size={12} />
          <Icon name="folder" size={14} />
          <bdi>{row.name}/</bdi>
          {row.files !== undefined && <span class="faint num nowrap"> {plural(row.files, "file")}</span>}
        </button>
      </td>
      <td class="right soft" role="cell">
        {row.size !== undefined && <Size bytes={row.size} />}
      </td>
      <td class="file-digest" role="cell" />
      <td class="file-get" role="cell" />
    </tr>
  ),
  isSameFolder,
);

interface FileProps extends Pick<FileTreeProps, "id" | "version" | "onSelect"> {
  row: FileRow;
  isSelected: boolean;
}

const isSameFile = (a: FileProps, b: FileProps) =>
  a.row.path === b.row.path &&
  a.row.pending === b.row.pending &&
  a.isSelected === b.isSelected &&
  a.id === b.id &&
  a.version === b.version;

const FileLine = memo(
  ({ row, id, version, isSelected, onSelect }: FileProps) => (
    <tr role="row" class="file" data-selected={isSelected ? "true" : undefined}>
      <td class="file-name" role="cell" data-depth={indent(row.depth)}>
        <a
          class="file-open"
          href={fileHref(id, version, row.path)}
          title={row.path}
          {...(isSelected && { "aria-current": "true" })}
          onClick={(event: MouseEvent) => {
            if (!onSelect || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
            event.preventDefault();
            onSelect(row.path);
          }}
        >
          <Icon name="file" size={14} />
          <bdi>{row.name}</bdi>
          {row.pending && <span class="pending nowrap">content on its way</span>}
        </a>
      </td>
      <td class="right soft" role="cell">
        <Size bytes={row.size} />
      </td>
      <td class="file-digest" role="cell">
        <Digest digest={row.sha256} />
      </td>
      <td class="file-get" role="cell">
        {!row.pending && (
          <a
            class="icon-button quiet"
            href={downloadHref(id, version, row.path)}
            download
            aria-label={`Download ${row.name}`}
            title="Download"
          >
            <Icon name="download" size={14} />
          </a>
        )}
      </td>
    </tr>
  ),
  isSameFile,
);
