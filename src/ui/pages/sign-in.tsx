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

/** Shown for a moment after a sign-in. The cookie is SameSite=Strict, so the next page has to be asked for by this one. */
export const SignedInPage = ({ theme, to }: { theme: Theme; to: string }) => (
  <Layout title="Signed in · binnacle" theme={theme} script="plain" signedIn={false}>
    <section class="card empty" aria-labelledby="signed-in">
      <h2 id="signed-in">Signed in</h2>
      <p>
        <a href={to} id="continue">
          Go to the runs
        </a>
      </p>
    </section>
  </Layout>
);
