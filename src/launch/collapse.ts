/** A carriage return rewrites the line: of its states the last that shows anything is what remains. */
export function collapse(line: string): string {
  let end = line.length;
  while (end > 0 && line.charAt(end - 1) === "\r") end--;
  while (end > 0) {
    const start = line.lastIndexOf("\r", end - 1) + 1;
    const state = line.slice(start, end);
    if (start === 0 || !isBlank(state)) return state;
    end = start - 1;
  }
  return "";
}

/** Nothing to see: spaces and escape sequences, the last of which may still be incomplete. */
export function isBlank(state: string): boolean {
  return /^(?:[ \t\r]|\u001b\[[0-9;?]*[A-Za-z])*(?:\u001b(?:\[[0-9;?]*)?)?$/.test(state);
}
