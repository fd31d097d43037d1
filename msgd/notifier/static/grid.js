/**
 * A table of very many rows: only those in view are in the document. Rows have one height, set in the style sheet.
 * Arrow keys move, Enter opens.
 */

import { fill, h } from "/static/dom.js";

const AROUND = 8; // rows beyond the view, so that scrolling shows no holes

export class Grid {
  /**
   * @param {{label: string, columns: {title: string, width: string, cell: (row: any, index: number) => Node | string,
   *   class?: string}[], open: (row: any) => void, torn?: (row: any) => string}} options `torn`: for a row that stands
   *   for missing ones, what it says
   */
  constructor({ label, columns, open, torn = () => "" }) {
    this.columns = columns;
    this.rows = [];
    this.onOpen = open;
    this.torn = torn;
    this.active = -1;
    this.shown = new Map(); // index → element
    this.scheduled = false;
    this.follow = false;
    this.at = 0; // how far it was scrolled when last in view, in rows: their height depends on the screen
    this.wanted = 0; // how far it is to be scrolled once there are rows enough
    this.head = h("div", { class: "grid-head", role: "row" },
      ...columns.map((column) => h("span", { role: "columnheader", class: column.class }, column.title)));
    this.space = h("div", { class: "grid-space", role: "rowgroup" });
    this.view = h("div", {
      class: "grid-view", role: "table", tabindex: "0", "aria-label": label,
      onscroll: () => this.schedule(), onkeydown: (event) => this.key(event),
      onwheel: () => { this.wanted = 0; }, onpointerdown: () => { this.wanted = 0; }, // the user decides
    }, h("div", { role: "rowgroup" }, this.head), this.space);
    this.empty = h("p", { class: "grid-empty" });
    this.element = h("div", {}, this.empty, this.view);
    this.element.style.setProperty("--columns", columns.map((column) => column.width).join(" "));
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(this.view);
    this.id = `g${crypto.randomUUID()}`;
    this.update();
  }

  /** Add rows at the end. */
  append(rows) {
    for (const row of rows) this.rows.push(row);
    this.update();
  }

  /** Add rows in front; what is in view stays there. */
  prepend(rows) {
    this.rows.unshift(...rows);
    if (this.active >= 0) this.active += rows.length;
    this.redraw();
    if (this.view.clientHeight) {
      this.space.style.height = `${this.rowHeight * this.rows.length}px`;
      this.view.scrollTop += rows.length * this.rowHeight;
    }
  }

  clear() {
    this.rows.length = 0;
    this.active = -1;
    this.redraw();
  }

  /** Scroll to a place it had before, as soon as the rows are there. */
  restore(place) {
    this.at = this.wanted = place;
    this.schedule();
  }

  /** How far it is scrolled, in rows. */
  get place() {
    // Not while it is on the way to a place, nor in a panel that is hidden.
    if (!this.wanted && this.view.clientHeight) this.at = this.view.scrollTop / this.rowHeight;
    return this.at;
  }

  /** Say what stands there when there are no rows. */
  setEmpty(text) {
    this.empty.textContent = text;
  }

  update() {
    this.empty.hidden = this.rows.length > 0;
    this.view.hidden = this.rows.length === 0;
    this.view.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.schedule();
  }

  /** Draw everything anew: the height of rows may have changed. */
  redraw() {
    fill(this.space);
    this.shown.clear();
    this.update();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  get rowHeight() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  draw() {
    if (!this.view.isConnected || this.view.hidden) return;
    const height = this.rowHeight;
    this.space.style.height = `${height * this.rows.length}px`;
    if (this.follow) this.view.scrollTop = this.view.scrollHeight;
    else if (this.wanted) this.scrollToWanted(height);
    const first = Math.max(0, Math.floor(this.view.scrollTop / height) - AROUND);
    const last = Math.min(this.rows.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / height) + AROUND);
    for (const [index, element] of this.shown) {
      if (index < first || index >= last) {
        element.remove();
        this.shown.delete(index);
      }
    }
    const fresh = [];
    for (let index = first; index < last; index += 1) {
      if (!this.shown.has(index)) fresh.push(this.make(index, height));
    }
    this.space.append(...fresh);
  }

  scrollToWanted(height) {
    if (!this.view.clientHeight) return;
    const top = this.wanted * height;
    this.view.scrollTop = top;
    if (this.view.scrollHeight - this.view.clientHeight >= top) this.wanted = 0;
  }

  make(index, height) {
    const row = this.rows[index];
    const torn = this.torn(row);
    const element = h("div", {
      class: torn ? "grid-row torn" : "grid-row", role: "row", id: `${this.id}-${index}`, "aria-rowindex": index + 2,
      onclick: () => this.open(index),
    }, ...(torn ? [h("span", { role: "cell", class: "grid-torn" }, torn)] : this.columns.map((column) =>
      h("span", { role: "cell", class: column.class }, column.cell(row, index)))));
    element.style.transform = `translateY(${index * height}px)`;
    element.classList.toggle("active", index === this.active);
    this.shown.set(index, element);
    return element;
  }

  key(event) {
    this.wanted = 0;
    const page = Math.max(1, Math.floor(this.view.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" && this.active >= 0) {
      event.preventDefault(); // else the same key presses the button that is focused by what opens
      this.open(this.active);
    } else if (event.key in steps && this.rows.length) {
      event.preventDefault();
      this.activate(Math.min(this.rows.length - 1, Math.max(0, this.active + steps[event.key])));
    }
  }

  activate(index) {
    this.shown.get(this.active)?.classList.remove("active");
    this.active = index;
    const height = this.rowHeight;
    const top = index * height + this.head.offsetHeight;
    if (top - this.head.offsetHeight < this.view.scrollTop) this.view.scrollTop = top - this.head.offsetHeight;
    else if (top + height > this.view.scrollTop + this.view.clientHeight) this.view.scrollTop = top + height - this.view.clientHeight;
    this.draw();
    this.shown.get(index)?.classList.add("active");
    this.view.setAttribute("aria-activedescendant", `${this.id}-${index}`);
  }

  open(index) {
    this.activate(index);
    if (!this.torn(this.rows[index])) this.onOpen(this.rows[index]);
  }

  close() {
    this.resized.disconnect();
  }
}
