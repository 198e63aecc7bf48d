import type { SampleBlock } from "./sample-block.ts";

/** The blocks in memory, by device, subject and start. */
export class SampleBlocks {
  private readonly blocks = new Set<SampleBlock>();
  private readonly devices = new Map<string, Map<string, Map<number, SampleBlock>>>();

  get size(): number {
    return this.blocks.size;
  }

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
    this.blocks.add(block);
    return block;
  }

  remove(block: SampleBlock): void {
    const { device, subject, start } = block;
    const subjects = this.devices.get(device);
    const blocks = subjects?.get(subject);
    if (!subjects || !blocks?.delete(start)) return;
    this.blocks.delete(block);
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

  all(): Iterable<SampleBlock> {
    return this.blocks;
  }

  /** Numbers that they hold in memory. */
  cells(): number {
    let cells = 0;
    for (const block of this.all()) cells += block.cells;
    return cells;
  }

  /** Lowest journal entry with something that no chunk holds. */
  lowWater(): number | undefined {
    let low = Infinity;
    for (const { firstSeq = Infinity, sealingSeq = Infinity } of this.blocks)
      low = Math.min(low, firstSeq, sealingSeq);
    return low === Infinity ? undefined : low;
  }
}
