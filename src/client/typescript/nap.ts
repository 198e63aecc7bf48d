/** A sleep of one loop, which others may end. */
export class Nap {
  #wake: (() => void) | undefined;
  #enough: (() => boolean) | undefined;

  /** For `ms`, or until something happens where there is no `ms`; `enough` says whether what happens is reason to wake up. */
  sleep(ms: number | undefined, enough: () => boolean = () => ms === undefined): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(() => this.wake(), ms);
      // A script that has ended must not stay for a collector that is gone.
      timer?.unref();
      this.#enough = enough;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Something has happened. */
  nudge(): void {
    if (this.#enough?.()) this.wake();
  }

  wake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    this.#enough = undefined;
    wake?.();
  }
}
