/** Signing in with a token. */

import { fill, h } from "/static/dom.js";

/** `ended`: a session was there until now; `problem`: why the token in the address was not taken. */
export function loginPage({ main, login, problem = null, ended = false }) {
  const token = h("textarea", {
    id: "token", name: "token", rows: 4, required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "token-hint",
  });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: !problem }, problem?.message ?? "");
  const over = h("p", { class: "notice wait", role: "status", hidden: !ended },
    "Your session has ended. Sign in again, and you are back on this page.");
  const button = h("button", { class: "button main", type: "submit" }, "Sign in");
  const form = h("form", { class: "stack", novalidate: true },
    h("div", { class: "field" },
      h("label", { for: "token" }, "Token"),
      token,
      h("p", { class: "hint", id: "token-hint" },
        "Make one on the server: ", h("code", {}, "msgd token --sub you --can admin:#"))),
    wrong,
    h("div", {}, button));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.hidden = true;
    try {
      await login(token.value.trim());
    } catch (error) {
      wrong.textContent = token.value.trim() ? error.message : "Paste a token first.";
      wrong.hidden = false;
      token.focus();
    } finally {
      button.disabled = false;
    }
  });
  fill(main, h("section", { class: "panel stack narrow" },
    h("div", {},
      h("h1", {}, "Sign in"),
      h("p", { class: "lead" }, "msgd knows you by a token. It is kept in a cookie that no script can read.")),
    over,
    form));
  token.focus();
}
