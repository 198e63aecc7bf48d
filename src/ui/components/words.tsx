/** @jsxImportSource hono/jsx */

/** A sentence of ours or of another machine's, in which `commands` stand between backticks. Text it stays, whatever it says. */
export const Words = ({ text }: { text: string }) => (
  <bdi>{text.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))}</bdi>
);
