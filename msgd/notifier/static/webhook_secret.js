/** A secret, shown once: whoever closes the dialog has it, or makes a new one. */

import { openDialog } from "/static/dialog.js";
import { h, text } from "/static/dom.js";

/** @param {string} secret @param {() => void} closed called once, when the dialog is closed */
export function openSecret(secret, closed) {
  const code = h("code", { class: "mono", id: "secret", tabindex: "0" }, secret);
  const copy = h("button", { class: "button", type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(secret);
      text(copy, "Copied");
    } catch {
      getSelection()?.selectAllChildren(code);
      text(copy, "Press Ctrl+C");
    }
  } }, "Copy");
  const dialog = openDialog("The secret of this endpoint",
    h("div", { class: "dialog-body" },
      h("p", {}, "Put it into the receiver, which verifies with it that what comes is from here. It is shown this once; whoever loses it makes a new one."),
      h("p", { class: "secret" }, code),
      h("div", { class: "cluster" },
        copy,
        h("button", { class: "button main", type: "button", id: "secret-kept", onclick: () => dialog.close() }, "I have it"))));
  dialog.classList.add("slim");
  dialog.addEventListener("close", closed, { once: true });
}
