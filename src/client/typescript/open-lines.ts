/** They are worth sending so often by themselves. */
export const OPEN_EVERY_MS = 400;

/** State of lines still being rewritten: null when there is none any more. */
export interface OpenState {
  stdout?: string | null;
  stderr?: string | null;
}

/** Lines still being rewritten, as a progress bar is: only how they look last is sent. */
export class OpenLines {
  #state: OpenState | undefined;
  #takenAt = 0;

  change(state: OpenState): void {
    this.#state = { ...this.#state, ...state };
  }

  get isEmpty(): boolean {
    return this.#state === undefined;
  }

  /** Whether the last ones were sent long enough ago. */
  get isDue(): boolean {
    return performance.now() - this.#takenAt >= OPEN_EVERY_MS;
  }

  /** What changed since the last time; undefined: nothing. */
  take(): OpenState | undefined {
    const state = this.#state;
    if (!state) return undefined;
    this.#state = undefined;
    this.#takenAt = performance.now();
    return state;
  }
}
