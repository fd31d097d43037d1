/** Dialogs: modal, closed by Escape, by a click beside them or by their button; the focus goes back where it was. */

import { h } from "/static/dom.js";

/**
 * @param {string} title
 * @param {...(Node | string | false | null)} content
 * @returns {HTMLDialogElement} shown
 */
export function openDialog(title, ...content) {
  const id = `d${crypto.randomUUID()}`;
  const before = document.activeElement;
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", {
    "aria-labelledby": id,
    onclose: () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    },
    // Pressed and let go beside it: a text that is selected beyond the edge does not count.
    onmousedown: (event) => { dialog.dataset.pressed = String(event.target === dialog); },
    onclick: (event) => event.target === dialog && dialog.dataset.pressed === "true" && dialog.close(),
  },
  h("div", { class: "dialog-bar" },
    h("h2", { id }, title),
    h("button", { class: "button small", type: "button", onclick: () => dialog.close() }, "Close")),
  ...content));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
