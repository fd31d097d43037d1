/** The messages of a talk: by day, by author, numbered in the margin; history above, what is new below. */

import { fill, h, outside } from "/static/dom.js";
import { compact, gapWords } from "/static/notice.js";
import { roomWords } from "/static/room_words.js";

const TOGETHER_MS = 5 * 60_000; // messages of one author within it stand under one name
const NEAR_PX = 60; // of the end: one reads along
const EDGE_PX = 300; // of the beginning: older ones are fetched
const MOST = 1000;
const LEFT = 600;

const day = new Intl.DateTimeFormat(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const dayOf = (time) => new Date(time).toDateString();
const ADDRESS = /(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}])/;

/** Text with its web addresses as links; everything else stays text. */
function linked(words) {
  return words.split(ADDRESS).map((part, index) => (index % 2 ? outside(part) : part));
}

export class Messages {
  /**
   * @param {{label: string, me: string, older: () => void, read: () => void, retry: (entry: any) => void,
   *   discard: (entry: any) => void}} options `older`: the beginning is in view; `read`: the end is
   */
  constructor({ label, me, older, read, retry, discard }) {
    this.me = me;
    this.older = older;
    this.read = read;
    this.retry = retry;
    this.discard = discard;
    this.entries = []; // events, {gap}, {pending}; the oldest first
    this.marker = null; // the entry before which "new" stands
    this.nodes = new Map(); // entry → its elements
    this.below = 0; // messages that came while one reads further up
    this.top = h("p", { class: "talk-top soft small" });
    this.list = h("ol", { class: "talk-list" });
    this.view = h("div", { class: "talk-view", tabindex: "0", role: "log", "aria-live": "off", "aria-label": label, onscroll: () => this.scrolled() }, this.top, this.list);
    this.jump = h("button", { class: "button small talk-jump", type: "button", hidden: true, onclick: () => this.toEnd() });
    this.element = h("div", { class: "talk-messages" }, this.view, this.jump);
    this.resized = new ResizeObserver(() => this.stuck && this.toEnd());
    this.resized.observe(this.view);
    this.stuck = true; // at the end, and stays there
    this.place = 0; // how far it was scrolled
  }

  close() {
    this.resized.disconnect();
  }

  get atEnd() {
    return this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight < NEAR_PX;
  }

  /** Whether older ones are wanted. */
  get atTop() {
    return this.view.scrollTop < EDGE_PX;
  }

  /** What stands above the first one; with `again`, a button that asks for older ones. */
  say(words, again = "") {
    if (this.top.textContent === words + again) return; // a focused button stays the same one
    fill(this.top, words, again && h("button", { class: "button small", type: "button", onclick: () => this.older() }, again));
  }

  append(...entries) {
    const stay = this.stuck;
    for (const entry of entries) {
      const before = this.entries.at(-1);
      this.entries.push(entry);
      this.list.append(...this.draw(entry, before));
      if (!stay && !entry.gap && entry.source !== this.me) this.below += 1;
    }
    if (stay) {
      if (this.entries.length > MOST) this.trim();
      this.toEnd();
    }
    this.showJump();
  }

  prepend(entries) {
    const { scrollHeight, scrollTop } = this.view;
    this.entries.unshift(...entries);
    this.drawAll();
    this.view.scrollTop = scrollTop + this.view.scrollHeight - scrollHeight;
  }

  /** Another state of an entry, or another entry in its place. */
  replace(entry, by = entry) {
    const index = this.entries.indexOf(entry);
    if (index < 0) return;
    this.entries[index] = by;
    const old = this.nodes.get(entry) ?? [];
    this.nodes.delete(entry);
    old[0]?.before(...this.draw(by, this.entries[index - 1]));
    for (const one of old) one.remove();
    if (this.stuck) this.toEnd();
  }

  remove(entry) {
    this.entries = this.entries.filter((one) => one !== entry);
    for (const one of this.nodes.get(entry) ?? []) one.remove();
    this.nodes.delete(entry);
  }

  /** The oldest leave when there are very many: they come back when one scrolls up. */
  trim() {
    this.entries.splice(0, this.entries.length - LEFT);
    this.drawAll();
    this.trimmed = true;
  }

  toEnd() {
    this.view.scrollTop = this.view.scrollHeight;
    this.place = this.view.scrollTop;
    this.below = 0;
    this.stuck = true;
    this.showJump();
    this.read();
  }

  /** Do what changes the height of the view: who was at the end stays there, who was not stays where they were. */
  keep(work) {
    const { stuck } = this;
    const top = this.view.scrollTop;
    work();
    if (stuck) this.toEnd();
    else this.view.scrollTop = top;
    this.place = this.view.scrollTop;
  }

  scrolled() {
    // Only who scrolls up leaves the end; it also moves away by itself, when a line more is written below.
    const up = this.view.scrollTop < this.place - 1;
    this.place = this.view.scrollTop;
    if (this.atEnd) {
      this.stuck = true;
      this.below = 0;
      this.read();
    } else if (up) {
      this.stuck = false;
    }
    this.showJump();
    if (this.atTop) this.older();
  }

  showJump() {
    this.jump.hidden = this.stuck;
    this.jump.textContent = this.below ? `${this.below} new ↓` : "To the newest ↓";
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  drawAll() {
    this.nodes.clear();
    fill(this.list, ...this.entries.flatMap((entry, index) => this.draw(entry, this.entries[index - 1])));
  }

  draw(entry, before) {
    const nodes = [];
    if (entry.time && (!before?.time || dayOf(before.time) !== dayOf(entry.time))) {
      nodes.push(h("li", { class: "talk-day" }, h("span", {}, day.format(new Date(entry.time)))));
    }
    if (entry === this.marker) nodes.push(h("li", { class: "talk-new" }, h("span", {}, "New")));
    nodes.push(entry.gap ? h("li", { class: "torn torn-row talk-torn" }, gapWords({ ...entry.gap, topic: "" })) : this.message(entry, before, nodes.length > 0));
    this.nodes.set(entry, nodes);
    return nodes;
  }

  message(entry, before, separated) {
    const time = h("time", { class: "talk-time", datetime: entry.time, title: full.format(new Date(entry.time)) }, hour.format(new Date(entry.time)));
    const words = roomWords(entry);
    if (words) {
      return h("li", { class: "talk-message" },
        h("span", { class: "talk-number", "aria-hidden": "true" }, entry.seq ?? "·"),
        h("p", { class: "talk-body talk-aside soft small" }, h("bdi", {}, entry.source), ` ${words} `, time));
    }
    const spoken = entry.type === "message" && typeof entry.data?.text === "string";
    const together = !separated && before && !before.gap && before.type === "message" && before.source === entry.source
      && new Date(entry.time) - new Date(before.time) < TOGETHER_MS;
    return h("li", { class: "talk-message", dataset: { ...(entry.pending && { state: entry.pending }), ...(entry.source === this.me && { own: "" }) } },
      h("span", { class: "talk-number", "aria-hidden": "true" }, entry.seq ?? "·"),
      h("div", { class: "talk-body" },
        together
          ? h("span", { class: "hidden-label" }, `${entry.source}, `, time.cloneNode(true))
          : h("p", { class: "talk-head" }, h("bdi", { class: "talk-author" }, entry.source), time),
        spoken
          ? h("p", { class: "talk-text", dir: "auto" }, ...linked(entry.data.text))
          : h("p", { class: "talk-text soft" }, h("code", {}, entry.type), " ", compact(entry.data)),
        entry.pending === "sending" && h("p", { class: "talk-state soft" }, "Sending…"),
        entry.pending === "sent" && h("p", { class: "talk-state soft" }, "Sent"),
        entry.pending === "failed" && h("p", { class: "talk-state wrong" },
          h("span", {}, `Not sent. ${entry.why ?? ""}`),
          h("button", { class: "button small", type: "button", onclick: () => this.retry(entry) }, "Try again"),
          h("button", { class: "button quiet small", type: "button", onclick: () => this.discard(entry) }, "Discard"))));
  }
}
