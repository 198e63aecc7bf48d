import type { SampleBlock } from "./sample-block.ts";

/** The blocks in memory, by device, subject and start. */
export class SampleBlocks {
  size = 0;
  private readonly devices = new Map<string, Map<string, Map<number, SampleBlock>>>();

  get(device: string, subject: string, start: number): SampleBlock | undefined {
    return this.devices.get(device)?.get(subject)?.get(start);
  }

  add(block: SampleBlock): SampleBlock {
    const { device, subject, start } = block;
    let subjects = this.devices.get(device);
    if (!subjects) this.devices.set(device, (subjects = new Map()));
    let blocks = subjects.get(subject);
    if (!blocks) subjects.set(subject, (blocks = new Map()));
    blocks.set(start, block);
    this.size++;
    return block;
  }

  remove({ device, subject, start }: SampleBlock): void {
    const subjects = this.devices.get(device);
    const blocks = subjects?.get(subject);
    if (!subjects || !blocks?.delete(start)) return;
    this.size--;
    if (blocks.size === 0) subjects.delete(subject);
    if (subjects.size === 0) this.devices.delete(device);
  }

  /** In no order. */
  of(device: string, subject: string): SampleBlock[] {
    return [...(this.devices.get(device)?.get(subject)?.values() ?? [])];
  }

  subjects(device: string): string[] {
    return [...(this.devices.get(device)?.keys() ?? [])];
  }

  /** Whether there is one that begins later: this one's span is over. */
  isFollowed({ device, subject, start }: SampleBlock): boolean {
    for (const later of this.devices.get(device)?.get(subject)?.keys() ?? []) if (later > start) return true;
    return false;
  }

  *all(): Generator<SampleBlock> {
    for (const subjects of this.devices.values())
      for (const blocks of subjects.values()) yield* blocks.values();
  }

  /** Numbers that they hold in memory. */
  cells(): number {
    let cells = 0;
    for (const block of this.all()) cells += block.cells;
    return cells;
  }

  /** Lowest journal entry with something that no chunk holds. */
  lowWater(): number | undefined {
    let low: number | undefined;
    for (const { firstSeq, sealingSeq } of this.all())
      for (const seq of [firstSeq, sealingSeq]) if (seq !== undefined && !(seq >= low!)) low = seq;
    return low;
  }
}
