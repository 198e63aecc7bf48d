/** @jsxImportSource hono/jsx */
import { Icon } from "./icon.tsx";

/** Lines to copy, with what they are for above them. */
export const Snippet = ({ title, code }: { title?: string; code: string }) => (
  <>
    {title !== undefined && <h3>{title}</h3>}
    <div class="snippet">
      <pre tabindex={0}>
        <code>{code}</code>
      </pre>
      <button class="button small" type="button" data-copy={code}>
        <Icon name="copy" size={14} /> <span>Copy</span>
      </button>
    </div>
  </>
);
