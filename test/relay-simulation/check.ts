import { itemsOf, unpack, type Database, type Item, type Run } from "./journal.ts";
import type { Items, RelayedRun, RelayedSource } from "./platform.ts";
import type { Node, Site, World } from "./world.ts";

/** After all: what each source has is at each platform, once, in its order, with what it holds. */
export function checkAll(world: World, violate: (text: string) => void): void {
  for (const node of world.nodes) checkAnswered(node, (text) => violate(`${node.name}: ${text}`));
  for (const node of world.nodes)
    for (const site of world.sites) {
      const source = site.database.sources.get(node.database.id);
      const say = (text: string) => violate(`${node.name} at ${site.name}: ${text}`);
      if (source) checkSource(world, node, site, source, say);
      else say("is not there");
    }
}

/** What clients were answered for is there, once, in the order of the answers; a life that was left took its own along. */
function checkAnswered({ database, answered, isForked }: Node, violate: (text: string) => void): void {
  if (isForked) return;
  const places = new Map<string, number>();
  for (const { id, records, lines } of database.runs.values())
    for (const list of [records, lines])
      list.forEach((item, at) => {
        if (places.has(item)) violate(`I3: ${item} is there twice, in ${id}`);
        places.set(item, at);
      });
  for (const { run, items } of answered) {
    const known = database.runs.get(run);
    const at = places.get(items[0]!);
    const isWhole = at !== undefined && items.every((item, i) => places.get(item) === at + i);
    if (known === undefined || !isWhole)
      violate(
        `I1: ${items.join()} of ${run} was answered, and ${known ? "is not there whole" : "its run is gone"}`,
      );
  }
  for (const [client, own] of Map.groupBy(answered, ({ items }) => clientOf(items[0]!))) {
    const order = own.map(({ items }) => places.get(items[0]!) ?? -1);
    if (order.some((at, i) => i > 0 && at <= order[i - 1]!))
      violate(`I4: batches of ${client} are not in their order`);
  }
}

function checkSource(
  world: World,
  node: Node,
  site: Site,
  source: RelayedSource,
  violate: (text: string) => void,
): void {
  const { database, isForked, isCloned } = node;
  const { skip, dead, dropped } = database.destinations.get(site.name)!;
  const letters = [...dead.values()];
  const deadItems = isForked ? site.everDead : new Set(letters.flatMap(({ frame }) => itemsOf(frame)));
  // A platform that went back, and a source that did, may be given what was once refused, or the other way round.
  // And a piece of history that was refused for one frame may be cut in other ways the next time.
  // And where the journal was cut off, history brings what a dead letter holds beside the rest of its run.
  const isExact =
    !isForked && !site.isRestored && !world.features.cuts && letters.every(({ frame }) => frame.seq > 0);
  // A platform that was set back to before the source went back holds what the left life said last, until the next change: that it was
  // told in this epoch already is all that the source knows.
  const isTold = !(isForked && site.isRestored);
  for (const run of database.runs.values()) {
    // It was cut short: what there is of it is nobody's.
    if (run.importing) continue;
    const there = source.runs.get(run.id);
    const facts = letters.filter(({ frame }) => frame.run === run.id && frame.kind.startsWith("run."));
    if (run.deleted) {
      if (there && !there.deleted && facts.length === 0) violate(`${run.id} was deleted, and is not there`);
    } else if (there) checkRun(run, there, facts.length > 0);
    else if (database.last > skip && wanted(run.records, run.recordSeqs).some((item) => !deadItems.has(item)))
      violate(`I2: ${run.id} is missing`);
  }
  if (!isForked)
    for (const id of source.runs.keys())
      if (!database.runs.has(id) && !isLeftOver(database, id)) violate(`${id} was never there`);
  checkDevice();

  function checkRun(run: Run, there: RelayedRun, isLabelDead: boolean): void {
    checkItems(
      `records of ${run.id}`,
      run.records,
      run.recordSeqs,
      there.records,
      there.left.map(({ records }) => records),
    );
    checkItems(
      `lines of ${run.id}`,
      run.lines,
      run.lineSeqs,
      there.lines,
      there.left.map(({ lines }) => lines),
    );
    const isWanted = skip === 0 || run.recordSeqs.some((seq) => seq > skip);
    if (isTold && !isLabelDead && isWanted && there.label !== run.label)
      violate(`I2: ${run.id} is called ${there.label}, and should be ${run.label}`);
    if (!isLabelDead && there.deleted) violate(`${run.id} is not deleted`);
  }

  function wanted(items: Item[], seqs: number[]): Item[] {
    return items.filter((_, i) => seqs[i]! > skip);
  }

  function checkItems(what: string, items: Item[], seqs: number[], there: Items, left: Items[]): void {
    const present = [...there].sort(([a], [b]) => a - b).map(([, item]) => item);
    const here = new Set(present);
    // Who wants nothing of before is not sent again what a run that goes on as another one had.
    const known = new Set(skip > 0 ? [...present, ...left.flatMap((items) => [...items.values()])] : present);
    for (const copy of [there, ...left])
      if (new Set(copy.values()).size !== copy.size)
        violate(`I3: ${what}: ${twice([...copy.values()])} is there twice`);
    for (const item of wanted(items, seqs)) {
      if (!known.has(item) && !deadItems.has(item)) violate(`I2: ${what}: ${item} is missing`);
      if (isExact && known.has(item) && deadItems.has(item))
        violate(`I2: ${what}: ${item} is there, and a dead letter`);
    }
    const own = new Set(items);
    if (!isForked) {
      const foreign = present.find((item) => !own.has(item));
      if (foreign !== undefined) violate(`${what}: ${foreign} is there and nowhere else`);
      checkOrder(
        what,
        items.filter((item) => here.has(item)),
        present,
      );
      return;
    }
    // Of several lives each client's are in their order.
    for (const client of new Set(items.map(clientOf)))
      checkOrder(
        `${what}, of ${client}`,
        items.filter((item) => here.has(item) && clientOf(item) === client),
        present.filter((item) => own.has(item) && clientOf(item) === client),
      );
  }

  function checkOrder(what: string, expected: Item[], present: Item[]): void {
    const at = expected.findIndex((item, i) => item !== present[i]);
    if (at >= 0) violate(`I4: ${what}: ${present[at]} in the place of ${expected[at]}`);
  }

  function checkDevice(): void {
    for (const { id, label, samples, sampleSeqs } of database.devices.values()) {
      const there = source.devices.get(id);
      const values = there?.samples.map(({ value }) => value) ?? [];
      const known = new Set(values);
      if (known.size !== values.length) violate(`I3: sample ${twice(values)} of ${id} is there twice`);
      const missing = samples.find(
        ({ value }, i) => sampleSeqs[i]! > skip && !known.has(value) && !deadItems.has(value),
      );
      // Of two machines with one id only one is believed for a time at which both have measured.
      if (missing && !isCloned) violate(`I2: sample ${missing.value} of ${id} is missing`);
      // All that was ever read: there, refused, or counted as dropped. A platform that was set back may lack what had arrived and made room.
      const lost = node.measured.find(
        ({ value, seq }) => seq > skip && !known.has(value) && !deadItems.has(value) && !dropped.has(value),
      );
      if (lost && !isForked && !site.isRestored)
        violate(`I2: sample ${lost.value} of ${id} is missing, and nobody has counted it`);
      const isLabelDead = letters.some(
        ({ frame: { kind, run } }) => kind.startsWith("device.") && run === `device:${id}`,
      );
      if (isTold && there && skip === 0 && !isLabelDead && there.label !== label)
        violate(`I2: ${id} is called ${there.label}, and should be ${label}`);
    }
    const others = source.others;
    if (new Set(others).size !== others.length) violate(`I3: ${twice(others)} is there twice`);
    for (const { kind, payload, seq } of database.journal)
      if (
        kind.startsWith("future.") &&
        seq > skip &&
        isExact &&
        // Nothing else but its entry tells of it.
        !world.features.trims &&
        !letters.some(({ frame }) => frame.seq === seq) &&
        !others.includes(unpack(payload).id)
      )
        violate(`I2: ${unpack(payload).id} of a kind that was not known is missing`);
  }
}

const clientOf = (item: Item): string => item.split(".")[0]!;

const twice = (items: Item[]): Item | undefined => items.find((item, i) => items.indexOf(item) !== i);

/** Of an import that a crash ended nothing is left but entries. */
const isLeftOver = ({ journal }: Database, id: string): boolean => journal.some(({ run }) => run === id);
