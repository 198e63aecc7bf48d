/** @jsxImportSource hono/jsx/dom */
import { useEffect, useState } from "hono/jsx/dom";
import { FilePreview } from "../components/file-preview.tsx";
import { FileTree } from "../components/file-tree.tsx";
import type { FileSource } from "./file-source.ts";

export interface FileBrowserProps {
  source: FileSource;
  /** Looks into files here; without it their names lead to the version's page. */
  onSelect?: (path: string | undefined) => void;
}

export const FileBrowser = ({ source, onSelect }: FileBrowserProps) => {
  const [, setShown] = useState<object>(source.state);
  useEffect(() => {
    source.onChange = setShown;
    setShown(source.state);
    return () => {
      source.onChange = () => {};
    };
  }, [source]);
  const { page, open, limit, loading, problem, selected, preview, isPlain } = source.state;
  const { id, version, total } = source;
  if (page.files.length === 0 && problem === undefined)
    return (
      <p class="faint" role="status">
        Loading…
      </p>
    );
  return (
    <div class={selected === undefined ? "file-browser" : "file-browser looking"}>
      <div class="file-list">
        <FileTree
          id={id}
          version={version}
          total={total}
          page={page}
          open={open}
          limit={limit}
          selected={selected}
          loading={loading}
          problem={problem}
          onToggle={(folder) => source.toggle(folder)}
          onMore={() => source.more()}
          {...(onSelect && { onSelect })}
        />
      </div>
      {selected !== undefined && (
        <FilePreview
          id={id}
          version={version}
          path={selected}
          preview={preview}
          isPlain={isPlain}
          onPlain={(plain) => source.update({ isPlain: plain })}
          onClose={() => onSelect?.(undefined)}
        />
      )}
    </div>
  );
};
