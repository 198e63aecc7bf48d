import { terminalText } from "./terminal.ts";

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** East Asian wide and full-width characters, and pictures: two columns of a terminal. */
const wide =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f)/u;
const plain = /^[\u0020-\u007e]*$/;

/** How many columns of a terminal a text takes. */
export function widthOf(text: string): number {
  if (plain.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) width += widthOfCharacter(segment);
  return width;
}

const widthOfCharacter = (character: string) =>
  /^[\p{Mn}\p{Me}\p{Cf}]/u.test(character) ? 0 : wide.test(character) ? 2 : 1;

/** Cut to so many columns, with a mark where something is missing. */
export function cut(text: string, width: number, mark = "…"): string {
  if (widthOf(text) <= width) return text;
  if (width < mark.length) return "";
  let taken = "";
  let left = width - mark.length;
  for (const { segment } of segmenter.segment(text)) {
    left -= widthOfCharacter(segment);
    if (left < 0) break;
    taken += segment;
  }
  return taken + mark;
}

/** Cut to so many columns in the middle: what was generated differs at its end as often as at its beginning. */
export function cutMiddle(text: string, width: number, mark = "…"): string {
  if (widthOf(text) <= width) return text;
  const characters = [...segmenter.segment(text)].map(({ segment }) => segment);
  const room = width - mark.length;
  const take = (from: string[], most: number): number => {
    let taken = 0;
    for (let left = most; taken < from.length; taken++) {
      left -= widthOfCharacter(from[taken]!);
      if (left < 0) break;
    }
    return taken;
  };
  const head = characters.slice(0, take(characters, Math.ceil(room / 2))).join("");
  const tail = take(characters.toReversed(), room - widthOf(head));
  return head + mark + (tail === 0 ? "" : characters.slice(-tail).join(""));
}

/** What others named, in one line: nothing in it may act on the terminal. */
export const oneLine = (text: string) =>
  terminalText(text)
    .replace(/\u001b\[[\d;:]*m/g, "")
    .replace(/\s+/g, " ");
