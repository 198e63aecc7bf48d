import { Rejected, type HistoryBatch, type Part } from "./contract.ts";
import type { Line } from "./line.ts";
import { Refusal, type DeadLetter, type Piece } from "./ports.ts";
import { isCondemned, isInvalid, isTooLarge, Untrue } from "./trouble.ts";

export type HistoryPiece = Extract<Piece, { type: "history" }>;

/** Brings what is kept up to date by its content, and passes over the seqs of the piece. */
export async function bringPiece(line: Line, { last, runs }: HistoryPiece): Promise<void> {
  const end = await bringParts(line, runs);
  if (end) await closeParts(line, runs, end);
  await passOver(line, last);
}

async function passOver(line: Line, last: number): Promise<void> {
  const { outbox, transport, session, identity, acked, signal } = line;
  const digest = (await outbox.digestAt(last)) ?? null;
  line.check();
  const answer = await transport.send(
    identity.id,
    { ...session, prev: acked, last, digest, frames: [] },
    signal,
  );
  if (answer.acked !== last)
    throw new Untrue(`The platform says that it has entry ${answer.acked}, and was told of ${last}.`);
  line.acked = last;
  line.progress();
  await line.save();
  line.change({ acked: last });
}

/** What it may hold of entries. */
type End = Pick<HistoryBatch, "upto" | "digest">;

/** undefined where there is nothing to bring. */
export async function bringParts(
  line: Line,
  runs: string[] | undefined,
  only: (part: Part) => boolean = () => true,
): Promise<End | undefined> {
  const { outbox, transport, session, identity, signal } = line;
  line.change({ state: "history", history: { done: 0, total: null } });
  const parts = (await outbox.parts(runs)).filter(only);
  // Whatever came since was not looked at yet, and may be seen as well.
  const upto = outbox.last();
  const digest = (await outbox.digestAt(upto)) ?? null;
  const growing = parts.filter(({ of }) => of !== "facts");
  line.check();
  const positions =
    growing.length === 0 ? [] : await transport.positions(identity.id, session, growing, signal);
  const end = { upto, digest };
  for (const [done, part] of parts.entries()) {
    line.change({ history: { done, total: parts.length } });
    const position = part.of === "facts" ? 0 : positions[growing.indexOf(part)]!;
    await bringPart(line, part, position, end);
  }
  line.change({ history: null });
  return parts.length === 0 ? undefined : end;
}

/** Their entries may follow. */
export async function closeParts(line: Line, runs: string[] | undefined, end: End): Promise<void> {
  for (const run of runs ?? [undefined]) {
    const part = { of: "whole" as const, ...(run !== undefined && { run }) };
    await sendPiece(line, { ...line.session, acked: line.acked, ...end, part, from: 0, to: 0, frames: [] });
  }
}

async function bringPart(line: Line, part: Part, position: number, end: End): Promise<void> {
  const { outbox } = line;
  let from = position;
  /** Until here in pieces as small as they get. */
  let smallUntil = -Infinity;
  for (;;) {
    const refused = await sendUntilRefused().catch((error: unknown) => {
      // What is said of it is a dead letter: what it holds has no place there.
      if (error instanceof Refusal && error.type === "unknown-run") return undefined;
      throw error;
    });
    if (!refused) return;
    from = refused.from;
    smallUntil = refused.to;
  }

  /** The piece that was too much; undefined where the part is up to date. */
  async function sendUntilRefused(): Promise<{ from: number; to: number } | undefined> {
    const small = from < smallUntil;
    for await (const piece of outbox.history(part, from, small)) {
      const batch = { ...line.session, acked: line.acked, ...end, part, ...piece };
      if (part.of === "facts") await sendFacts(line, batch);
      else if (!(await sendGrowing(line, batch, small))) return piece;
      from = piece.to;
      if (small && from >= smallUntil) return { from, to: -Infinity };
    }
    return undefined;
  }
}

/** Each stands for itself: what is refused together is sent one by one. */
async function sendFacts(line: Line, batch: HistoryBatch): Promise<void> {
  try {
    await sendPiece(line, batch);
  } catch (error) {
    if (!isInvalid(error) && !isTooLarge(error)) throw error;
    const { frames } = batch;
    if (frames.length === 1 && !isCondemned(error)) throw error;
    if (frames.length === 1)
      return await line.bury([{ frame: frames[0]!, type: error.type, detail: error.message }]);
    const half = Math.ceil(frames.length / 2);
    await sendFacts(line, { ...batch, frames: frames.slice(0, half) });
    await sendFacts(line, { ...batch, frames: frames.slice(half) });
  }
}

/** False where it is to be sent in smaller pieces. What can't be smaller, and is refused, is passed over. */
async function sendGrowing(
  line: Line,
  batch: HistoryBatch & { part: Part },
  small: boolean,
): Promise<boolean> {
  try {
    await sendPiece(line, batch);
  } catch (error) {
    if ((!isInvalid(error) && !isTooLarge(error)) || batch.frames.length === 0) throw error;
    if (!small) return false;
    if (!isCondemned(error)) throw error;
    const { transport, identity, session, signal } = line;
    const [position] = await transport.positions(identity.id, session, [batch.part], signal);
    // Something else said no, after the platform had taken it.
    if (position! >= batch.to) return true;
    await line.bury(
      batch.frames.map((frame): DeadLetter => ({ frame, type: error.type, detail: error.message })),
    );
    await sendPiece(line, { ...batch, frames: [] });
  }
  return true;
}

/** Without the frames that the platform names as bad: they are dead letters before it passes over them. */
async function sendPiece(line: Line, batch: HistoryBatch): Promise<void> {
  const { transport, identity, signal } = line;
  line.check();
  try {
    const { position } = await transport.sendHistory(identity.id, batch, signal);
    const { part, to } = batch;
    const isCounted = part.of === "metrics" || part.of === "logs";
    const isAnywhere = part.of === "facts" || part.of === "whole";
    if (!isAnywhere && (isCounted ? position !== to : position < to))
      throw new Untrue(`The platform says that it has ${part.of} up to ${position}, and was told of ${to}.`);
    line.progress();
  } catch (error) {
    const rejected = isInvalid(error) ? Rejected.safeParse(error.details["rejected"]).data : undefined;
    const letters = (rejected ?? []).flatMap(({ index, type, detail }): DeadLetter[] =>
      batch.frames[index] ? [{ frame: batch.frames[index], type, detail }] : [],
    );
    if (letters.length === 0) throw error;
    await line.bury(letters);
    const bad = new Set(letters.map(({ frame }) => frame));
    await sendPiece(line, { ...batch, frames: batch.frames.filter((frame) => !bad.has(frame)) });
  }
}
