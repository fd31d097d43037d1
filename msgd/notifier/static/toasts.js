/** Toasts: a few at once, gone after a while, never while one looks at them, and never taking the focus. */

import { h } from "/static/dom.js";
import { announce } from "/static/announce.js";

const MOST = 3; // at once; more would cover the page
const narrow = matchMedia("(max-width: 52rem)"); // where one is enough
const SHOWN_MS = 8000;

export class Toasts {
  /** @param {HTMLElement} element @param {{go: (path: string) => void}} options */
  constructor(element, { go }) {
    this.element = element;
    this.go = go;
    this.shown = []; // the oldest first
    this.hidden = 0; // how many more there were
    this.timers = new Map();
    this.rest = null;
    for (const pause of ["mouseenter", "focusin"]) element.addEventListener(pause, () => this.pause());
    for (const resume of ["mouseleave", "focusout"]) element.addEventListener(resume, () => this.resume());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.resume()));
  }

  /**
   * @param {{key: string, title: string, text?: string, note?: string, open?: () => void}} toast `key`: another one
   *   of the same key takes its place
   */
  show({ key, title, text = "", note = "", open }) {
    this.drop(key);
    while (this.shown.length >= (narrow.matches ? 1 : MOST)) {
      this.hidden += 1;
      this.remove(this.shown[0]);
    }
    const inner = [
      h("span", { class: "toast-title" }, h("bdi", {}, title)),
      text && h("span", { class: "toast-text" }, h("bdi", {}, text)),
      note && h("span", { class: "toast-note" }, note),
    ];
    const element = h("div", { class: "toast", dataset: { key }, onkeydown: (event) => event.key === "Escape" && this.drop(key) },
      open
        ? h("button", { class: "toast-open", type: "button", onclick: () => { this.drop(key); open(); } }, ...inner)
        : h("div", { class: "toast-open" }, ...inner),
      h("button", { class: "button quiet small", type: "button", "aria-label": `Dismiss: ${title}`, onclick: () => this.drop(key) }, "✕"));
    this.shown.push(element);
    this.element.append(element);
    announce(text ? `${title}: ${text}` : title);
    this.count();
    if (!this.paused) this.time(element);
  }

  drop(key) {
    const found = this.shown.find((one) => one.dataset.key === key);
    if (found) this.remove(found);
  }

  clear() {
    for (const one of [...this.shown]) this.remove(one);
  }

  // -- one of them ---------------------------------------------------------------------------------------------------

  remove(element) {
    clearTimeout(this.timers.get(element));
    this.timers.delete(element);
    this.shown = this.shown.filter((one) => one !== element);
    element.remove();
    if (!this.shown.length) this.hidden = 0;
    this.count();
  }

  time(element) {
    clearTimeout(this.timers.get(element));
    this.timers.set(element, setTimeout(() => this.remove(element), SHOWN_MS));
  }

  count() {
    this.rest?.remove();
    this.rest = null;
    if (!this.hidden) return;
    this.rest = h("div", { class: "toast" },
      h("button", { class: "toast-open", type: "button", onclick: () => { this.clear(); this.go("/notifications"); } },
        h("span", { class: "toast-title" }, `${this.hidden} more: see all`)));
    this.element.prepend(this.rest);
  }

  get paused() {
    return document.hidden || this.element.matches(":hover") || this.element.contains(document.activeElement);
  }

  pause() {
    for (const timer of this.timers.values()) clearTimeout(timer);
  }

  /** All begin anew: who has just looked away may want to look again. */
  resume() {
    requestAnimationFrame(() => {
      if (!this.paused) for (const one of this.shown) this.time(one);
    });
  }
}
