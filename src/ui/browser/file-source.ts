import type { FilePage } from "../../artifact/schema.ts";
import { previewHref, versionApi } from "../artifact-view.ts";
import type { Preview } from "../components/file-preview.tsx";
import { buildTree, FILE_ROWS, foldersOf, usuallyOpen } from "../file-tree.ts";
import { explain, request } from "./http.ts";

export interface FilesState {
  page: FilePage;
  open: ReadonlySet<string>;
  limit: number;
  loading: boolean;
  problem: string | undefined;
  selected: string | undefined;
  preview: Preview;
  isPlain: boolean;
}

const PAGE = 1000;

/** The files of one version, as far as they have come, and the one that is looked at. */
export class FileSource {
  readonly id: number;
  readonly version: string;
  readonly total: number;
  state: FilesState;
  onChange: (state: FilesState) => void = () => {};
  #looking: AbortController | undefined;

  constructor({ id, version, files }: { id: number; version: string; files: number }, page?: FilePage) {
    this.id = id;
    this.version = version;
    this.total = files;
    this.state = {
      page: page ?? { files: [], next: null },
      open: usuallyOpen(buildTree(page?.files ?? [])),
      limit: FILE_ROWS,
      loading: false,
      problem: undefined,
      selected: undefined,
      preview: { kind: "loading" },
      isPlain: false,
    };
    if (!page) void this.#load();
  }

  update(change: Partial<FilesState>): void {
    this.state = { ...this.state, ...change };
    this.onChange(this.state);
  }

  async #load(): Promise<void> {
    if (this.state.loading) return;
    this.update({ loading: true, problem: undefined });
    const { page } = this.state;
    const query = new URLSearchParams({
      limit: String(PAGE),
      ...(page.next !== null && { after: page.next }),
    });
    try {
      const more = await request<FilePage>(`${versionApi(this.id, this.version)}/files?${query}`);
      const isFirst = page.files.length === 0;
      const files = [...page.files, ...more.files];
      this.update({
        page: { files, next: more.next },
        loading: false,
        ...(isFirst && { open: usuallyOpen(buildTree(files)) }),
      });
    } catch (error) {
      this.update({ loading: false, problem: (error as Error).message });
    }
  }

  /** Files never change, but the bytes of some may have come since. */
  renew(files: FilePage["files"]): void {
    const { page } = this.state;
    const fresh = new Map(files.map((file) => [file.path, file]));
    const renewed = page.files.map((file) => fresh.get(file.path) ?? file);
    this.update({ page: { ...page, files: renewed } });
  }

  toggle(folder: string): void {
    const open = new Set(this.state.open);
    if (!open.delete(folder)) open.add(folder);
    this.update({ open });
  }

  more(): void {
    this.update({ limit: this.state.limit + FILE_ROWS });
    if (this.state.page.next !== null) void this.#load();
  }

  close(): void {
    this.#looking?.abort();
    this.update({ selected: undefined });
  }

  /** Looks into a file: what comes says what it is, not its name. */
  async select(path: string): Promise<void> {
    this.#looking?.abort();
    const { signal } = (this.#looking = new AbortController());
    const open = new Set([...this.state.open, ...foldersOf(path)]);
    this.update({ selected: path, preview: { kind: "loading" }, isPlain: false, open });
    try {
      const preview = await look(previewHref(this.id, this.version, path), signal);
      if (!signal.aborted) this.update({ preview });
    } catch (error) {
      if (signal.aborted) return;
      this.update({ preview: { kind: "none", reason: (error as Error).message } });
    }
  }
}

async function look(address: string, signal: AbortSignal): Promise<Preview> {
  const response = await fetch(address, { signal });
  if (response.status === 401) location.reload();
  if (!response.ok) return { kind: "none", reason: explain(await response.text(), response.status) };
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("image/")) {
    // The picture itself is the <img>'s to load.
    await response.body?.cancel();
    return { kind: "image" };
  }
  const whole = response.headers.get("binnacle-cut");
  return { kind: "text", text: await response.text(), whole: whole === null ? undefined : Number(whole) };
}
