/** @jsxImportSource hono/jsx */
import { streamWords } from "../relay-view.ts";

/** Whose entry of the journal it is. */
export const StreamLink = ({ stream }: { stream: string }) => {
  const { text, href } = streamWords(stream);
  if (href === null) return <bdi>{text}</bdi>;
  return (
    <a href={href}>
      <bdi>{text}</bdi>
    </a>
  );
};
