/**
 * Browsers give an element at most some 17 (Firefox) to 33 million pixels, less than a million lines need. Above MAX_HEIGHT the
 * scrolled element stays that high and stands for the whole: small moves go pixel by pixel, a drag of the scroll bar in
 * proportion. Pure: the caller moves the real element.
 */
export const MAX_HEIGHT = 6_000_000;

export class ScrollScale {
  /** Height of everything, in pixels as they would be. */
  private total = 0;
  private viewport = 0;
  /** How far the real scroll position lies behind the virtual one. */
  private offset = 0;
  private real = 0;

  get height(): number {
    return Math.min(this.total, MAX_HEIGHT);
  }

  /** The virtual position: what the top of the viewport shows. */
  get top(): number {
    return this.clamp(this.real + this.offset);
  }

  /** Where the real element stands for it. */
  get realTop(): number {
    return this.real;
  }

  get bottom(): number {
    return Math.max(0, this.total - this.viewport);
  }

  resize(total: number, viewport: number): void {
    const top = this.top;
    this.total = total;
    this.viewport = viewport;
    this.place(Math.min(top, this.bottom));
  }

  /** The real element was scrolled to `real` by a person; returns where it should be put instead, to keep room on both sides. */
  scrolled(real: number): number {
    if (this.total <= MAX_HEIGHT) {
      this.real = real;
      this.offset = 0;
      return real;
    }
    const end = this.height - this.viewport;
    const isDrag = Math.abs(real - this.real) > this.viewport * 4;
    if (isDrag || real <= 0 || real >= end) {
      // At an end of the real element we are at that end of the log only if proportion says so too.
      const near = this.clamp(real + this.offset);
      const atEdge = !isDrag && near > this.viewport && near < this.bottom - this.viewport;
      this.place(atEdge ? near : (real / end) * this.bottom);
      return this.real;
    }
    this.real = real;
    return real;
  }

  /** Goes to a virtual position; returns the real one. */
  goTo(top: number): number {
    this.place(this.clamp(top));
    return this.real;
  }

  private place(top: number): void {
    const end = this.height - this.viewport;
    this.real = this.total <= MAX_HEIGHT ? top : Math.round(this.bottom > 0 ? (top / this.bottom) * end : 0);
    this.offset = top - this.real;
  }

  private clamp(top: number): number {
    return Math.max(0, Math.min(top, this.bottom));
  }
}
