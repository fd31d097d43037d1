/** Where one writes: Enter sends, Shift and Enter begins a line. What was not sent yet stays over a reload. */

import { h } from "/static/dom.js";
import { may } from "/static/patterns.js";

const MOST_CHARACTERS = 8000; // more is a document
const LINES = 8; // it grows so far

export class Composer {
  /**
   * @param {{word: string, name: string, target: string, session: any, send: (words: string) => void, typing: () => void,
   *   around: (work: () => void) => void}} options `around`: does what may change the height
   */
  constructor({ word, name, target, session, send, typing, around }) {
    this.around = around;
    this.key = `msgd.draft.${session.sub}.${word}`;
    this.field = h("textarea", {
      id: "say", rows: 1, maxlength: MOST_CHARACTERS, placeholder: "Write a message", dir: "auto",
      "aria-label": `Message to ${name}`, enterkeyhint: "send", autocomplete: "off",
    });
    this.button = h("button", { class: "button main", type: "submit" }, "Send");
    const allowed = may(session, "publish", target);
    this.element = allowed
      ? h("form", { class: "composer" }, this.field, this.button)
      : h("p", { class: "notice wait" }, "You can read here. Writing takes the right ", h("code", {}, `publish:${target}`), " in your token.");
    this.field.value = sessionStorage.getItem(this.key) ?? "";
    this.resized = new ResizeObserver(() => this.grow());
    this.resized.observe(this.element);
    this.field.addEventListener("input", () => {
      sessionStorage.setItem(this.key, this.field.value);
      this.grow();
      if (this.field.value.trim()) typing();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.element.requestSubmit();
    });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      const words = this.field.value.trim();
      if (!words) return;
      this.field.value = "";
      sessionStorage.removeItem(this.key);
      this.grow();
      send(words);
      this.field.focus();
    });
  }

  grow() {
    this.around(() => this.measure());
  }

  measure() {
    this.field.rows = 1;
    const line = parseFloat(getComputedStyle(this.field).lineHeight) || 22;
    const { paddingTop, paddingBottom } = getComputedStyle(this.field);
    const lines = Math.round((this.field.scrollHeight - parseFloat(paddingTop) - parseFloat(paddingBottom)) / line);
    this.field.rows = Math.min(LINES, Math.max(1, lines));
  }

  close() {
    this.resized.disconnect();
  }
}
