import type { Span } from "../../span/schema.ts";

/** A run's spans as a page knows them: those it asked for, and those it heard of since, and while it asked. */
export class KnownSpans {
  readonly #most: number;
  #spans = new Map<string, Span>();
  #heard: Map<string, Span> | undefined;
  #more = false;

  /** Beyond `most` it takes no others. */
  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#spans.size;
  }

  /** There are more than these. */
  get more(): boolean {
    return this.#more;
  }

  all(): Span[] {
    return [...this.#spans.values()];
  }

  hear(spans: readonly Span[]): void {
    for (const span of spans) {
      this.#put(this.#spans, span);
      if (this.#heard) this.#put(this.#heard, span);
    }
  }

  /** Loads all of them anew; `fetch` asks for a page, and resolves to what comes after it. */
  async load(
    fetch: (after: string) => Promise<{ spans: readonly Span[]; next: string | null }>,
  ): Promise<void> {
    // What is heard from here on may be missing in what is asked for, or be older there.
    const heard = (this.#heard = new Map<string, Span>());
    const loaded = new Map<string, Span>();
    let next: string | null = "";
    try {
      while (next !== null && loaded.size < this.#most) {
        const page = await fetch(next);
        for (const span of page.spans) loaded.set(span.id, span);
        ({ next } = page);
      }
    } finally {
      this.#heard = undefined;
    }
    this.#spans = loaded;
    this.#more = next !== null;
    for (const span of heard.values()) this.#put(loaded, span);
  }

  #put(spans: Map<string, Span>, span: Span): void {
    if (spans.has(span.id) || spans.size < this.#most) spans.set(span.id, span);
    else this.#more = true;
  }
}
