/** @jsxImportSource hono/jsx */
import { Compass } from "../components/icon.tsx";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

export const SignInPage = ({ theme, expired = false }: { theme: Theme; expired?: boolean }) => (
  <Layout title="Sign in · binnacle" theme={theme} script="plain" signedIn={false}>
    <section class="card empty" aria-labelledby="sign-in">
      <div class="rose">
        <Compass size={44} />
      </div>
      <h2 id="sign-in">{expired ? "This link has been used" : "Sign in"}</h2>
      <p class="soft">
        {expired
          ? "A sign-in link works once, for ten minutes. Ask for a new one on the machine where binnacle runs:"
          : "This dashboard shows itself to those who can run a command on its machine. There, ask for a link:"}
      </p>
      <h3>On the machine where binnacle runs</h3>
      <div class="snippet">
        <pre tabindex={0}>
          <code>binnacle open</code>
        </pre>
        <button class="button small" type="button" data-copy="binnacle open">
          <span>Copy</span>
        </button>
      </div>
      <p class="soft">
        <br />
        It prints a link that signs this browser in. Working over SSH? Forward the port first:{" "}
        <code>ssh -L 7070:localhost:7070 machine</code>
      </p>
    </section>
  </Layout>
);
