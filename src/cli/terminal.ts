export { outputBytes } from "../log/bytes.ts";

/** Whole sequences first, so that their parameters do not stay behind as text: OSC and its like, CSI, two-character ones. */
const escapes =
  /\u001b[\]PX^_][^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[ -/]*[0-~]/g;
const sgr = /^\u001b\[[\d;:]*m$/;
const controls = /(?!\u001b\[[\d;:]*m)[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Text for a terminal: colours stay; what would move the cursor, rename the window or write the clipboard does not. */
export function terminalText(text: string): string {
  return text
    .toWellFormed()
    .replace(escapes, (sequence) => (sgr.test(sequence) ? sequence : ""))
    .replace(controls, "");
}
