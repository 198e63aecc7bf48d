/** The files of a version as a tree. They come by path, a page at a time, and are put in as they come. Pure. */
import type { FilePage } from "../artifact/schema.ts";

type ListedFile = FilePage["files"][number];

/** So many rows are drawn at first, and with each wish for more. */
export const FILE_ROWS = 300;

export interface FileRow {
  kind: "file";
  path: string;
  name: string;
  depth: number;
  size: number;
  sha256: string;
  pending?: true | undefined;
}

export interface FolderRow {
  kind: "folder";
  path: string;
  name: string;
  depth: number;
  isOpen: boolean;
  /** Of what has come; undefined while more may follow. */
  files: number | undefined;
  size: number | undefined;
}

export type TreeRow = FileRow | FolderRow;

interface Folder {
  path: string;
  name: string;
  files: number;
  size: number;
  children: (Folder | ListedFile)[];
}

export type FileTree = Folder;

const isFolder = (node: Folder | ListedFile): node is Folder => "children" in node;

const newFolder = (path: string, name: string): Folder => ({ path, name, files: 0, size: 0, children: [] });

/** Files of a folder follow one another, so the one that is open for more is always the last. */
export function buildTree(files: readonly ListedFile[]): FileTree {
  const root = newFolder("", "");
  for (const file of files) {
    const parts = file.path.split("/");
    let folder = root;
    count(folder, file);
    for (let depth = 0; depth < parts.length - 1; depth++) {
      const path = parts.slice(0, depth + 1).join("/");
      const last = folder.children.at(-1);
      if (last && isFolder(last) && last.path === path) folder = last;
      else {
        const created = newFolder(path, parts[depth]!);
        folder.children.push(created);
        folder = created;
      }
      count(folder, file);
    }
    folder.children.push(file);
  }
  return root;
}

function count(folder: Folder, { size }: ListedFile): void {
  folder.files++;
  folder.size += size;
}

/** The rows that show, at most `limit`; `hasMore`: files follow that have not come yet. */
export function treeRows(
  tree: FileTree,
  open: ReadonlySet<string>,
  { limit = Infinity, hasMore = false }: { limit?: number; hasMore?: boolean } = {},
): { rows: TreeRow[]; isCut: boolean } {
  const rows: TreeRow[] = [];
  let isCut = false;
  /** `isLast`: what has not come yet may belong here. */
  function add(folder: Folder, depth: number, isLast: boolean): void {
    for (const [index, node] of folder.children.entries()) {
      if (rows.length >= limit) {
        isCut = true;
        return;
      }
      if (!isFolder(node)) {
        const name = node.path.slice(node.path.lastIndexOf("/") + 1);
        rows.push({ kind: "file", ...node, name, depth });
        continue;
      }
      const isPartial = isLast && hasMore && index === folder.children.length - 1;
      const isOpen = open.has(node.path);
      const { path, name, files, size } = node;
      rows.push({
        kind: "folder",
        path,
        name,
        depth,
        isOpen,
        files: isPartial ? undefined : files,
        size: isPartial ? undefined : size,
      });
      if (isOpen) add(node, depth + 1, isPartial);
    }
  }
  add(tree, 0, true);
  return { rows, isCut };
}

/** Few files show all at once; of many, what stands alone in its folder. */
export function usuallyOpen(tree: FileTree, few = 30): Set<string> {
  const open = new Set<string>();
  const isSmall = tree.files <= few;
  function walk(folder: Folder, isAlone: boolean): void {
    for (const node of folder.children) {
      if (!isFolder(node)) continue;
      const nodeAlone = isAlone && folder.children.length === 1;
      if (!isSmall && !nodeAlone) continue;
      open.add(node.path);
      walk(node, nodeAlone);
    }
  }
  walk(tree, true);
  return open;
}

/** The folders above a file. */
export const foldersOf = (path: string): string[] =>
  path
    .split("/")
    .slice(0, -1)
    .map((_, index, parts) => parts.slice(0, index + 1).join("/"));
