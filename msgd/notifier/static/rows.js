/** A job's rows: results and pages in two tables, what is done with them, and the place one is at. */

import { jobPath } from "/static/api.js";
import { openDialog } from "/static/dialog.js";
import { h, outside, text } from "/static/dom.js";
import { count, moment } from "/static/format.js";
import { Grid } from "/static/grid.js";

const MOST = 100_000; // beyond this a browser's memory suffers, and a download serves better

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

const RESULTS = [
  { title: "#", width: "4.25rem", class: "cell-number", cell: (row, index) => count(index + 1) },
  { title: "Name", width: "minmax(6rem, 0.7fr)", class: "soft", cell: (row) => shown(row.data?.name ?? row.type) },
  { title: "Value", width: "minmax(10rem, 2fr)", class: "cell-value", cell: (row) => shown(row.data?.value ?? row.data) },
  { title: "Page", width: "minmax(8rem, 1.3fr)", class: "soft", cell: (row) => shown(row.data?.title || row.data?.url || "") },
];
const PAGES = [
  { title: "Status", width: "4.25rem", class: "cell-number", cell: (row) => shown(row.data.status || "–") },
  { title: "Address", width: "minmax(12rem, 3fr)", class: "cell-value", cell: (row) => shown(row.data.url) },
  { title: "Matches", width: "5rem", class: "soft cell-end cell-matches", cell: (row) => count(row.data.matches) },
  { title: "What happened", width: "minmax(8rem, 1.3fr)", class: "soft", cell: (row) => (row.data.error
    ? h("span", { class: "wrong", title: shown(row.data.error) }, shown(row.data.error)) : `${count(row.data.bytes)} bytes in ${count(row.data.ms)} ms`) },
];

/** What stands in a row's detail, and under which words, the most wanted first. Other fields follow under their names. */
const FACTS = {
  result: { value: "Value", context: "Around it", name: "Looked for as", title: "Page", url: "Address" },
  page: { url: "Address", error: "What went wrong", status: "Status", matches: "Matches", depth: "Links from the start", bytes: "Bytes", ms: "Milliseconds" },
};

/** Everything there is about a row, in a dialog. */
function detail(kind, row) {
  const data = row.data !== null && typeof row.data === "object" ? row.data : { value: row.data };
  const names = [...new Set([...Object.keys(FACTS[kind]), ...Object.keys(data)])];
  const facts = names.filter((name) => data[name] !== undefined && data[name] !== null && data[name] !== "");
  openDialog(kind === "page" ? "Page" : "Result",
    h("dl", { class: "facts" },
      ...facts.map((name) => h("div", {},
        h("dt", {}, FACTS[kind][name] ?? name),
        h("dd", { class: name === "value" ? "mono main" : "" }, name === "url" ? outside(data.url) : shown(data[name])))),
      h("div", {}, h("dt", {}, "Found"), h("dd", {}, moment(row.time)))));
}

export class Rows {
  /** @param {string} job its id */
  constructor(job) {
    this.counts = { result: 0, page: 0 };
    this.waiting = { result: [], page: [] };
    this.key = `msgd.place.${job}`;
    this.keepPlace = this.keepPlace.bind(this);
    this.grids = {
      result: new Grid({ label: "Results", columns: RESULTS, open: (row) => detail("result", row) }),
      page: new Grid({ label: "Pages", columns: PAGES, open: (row) => detail("page", row) }),
    };
    const tab = (kind, label) => h("button", {
      class: "tab", type: "button", role: "tab", id: `tab-${kind}`, "aria-controls": `panel-${kind}`,
      onclick: () => this.choose(kind),
      onkeydown: (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        this.choose(kind === "result" ? "page" : "result");
        this.tabs[this.kind].focus();
      },
    }, label, h("span", { class: "count" }, "0"));
    this.tabs = { result: tab("result", "Results"), page: tab("page", "Pages") };
    this.panels = Object.fromEntries(Object.entries(this.grids).map(([kind, grid]) => [kind, h("div", {
      role: "tabpanel", id: `panel-${kind}`, "aria-labelledby": `tab-${kind}`,
    }, grid.element)]));
    this.following = h("button", {
      class: "chip", type: "button", title: "Keep the newest row in view", onclick: () => this.follow(!this.grids.result.follow),
    }, "Follow");
    this.cap = h("p", { class: "notice wait", hidden: true },
      `Only the first ${count(MOST)} rows are shown here; the download has all of them.`);
    const download = (format, label, more = "") => h("a", {
      class: "button small", href: jobPath(job, `/results?format=${format}${more}`), download: true, id: `download-${format}`,
    }, label);
    this.element = h("section", { class: "panel flush", "aria-label": "Rows" },
      h("div", { class: "rows-bar" },
        h("div", { class: "tabs", role: "tablist", "aria-label": "Rows" }, this.tabs.result, this.tabs.page),
        h("div", { class: "cluster" }, this.following,
          h("div", { class: "cluster joined", role: "group", "aria-label": "Download the results" },
            download("csv", "CSV", "&bom=1"), download("ndjson", "NDJSON"), download("json", "JSON")))),
      this.cap,
      this.panels.result,
      this.panels.page);
    this.comeBack(JSON.parse(sessionStorage.getItem(this.key) ?? "{}"));
    addEventListener("pagehide", this.keepPlace);
  }

  // -- rows ----------------------------------------------------------------------------------------------------------

  /** Take a row in; it is shown by the next :meth:`flush`. */
  add(event) {
    const kind = event.type === "page" ? "page" : "result";
    this.counts[kind] += 1;
    if (this.counts[kind] <= MOST) this.waiting[kind].push(event);
  }

  /** Show what was added: once a frame, however fast it comes. */
  flush() {
    for (const [kind, grid] of Object.entries(this.grids)) {
      if (this.waiting[kind].length) grid.append(this.waiting[kind]);
      this.waiting[kind] = [];
      text(this.tabs[kind].lastChild, count(this.counts[kind]));
    }
    this.cap.hidden = this.counts.result <= MOST && this.counts.page <= MOST;
  }

  /** Begin anew: another run of the job. */
  clear() {
    for (const [kind, grid] of Object.entries(this.grids)) {
      this.counts[kind] = 0;
      this.waiting[kind] = [];
      grid.clear();
    }
    this.flush();
  }

  /** What stands there while there are no rows; whether there are pages at all. */
  describe({ noResults, noPages, pages }) {
    this.grids.result.setEmpty(noResults);
    this.grids.page.setEmpty(noPages);
    this.tabs.page.hidden = !pages;
  }

  // -- the place one is at -------------------------------------------------------------------------------------------

  choose(kind) {
    const places = Object.fromEntries(Object.entries(this.grids).map(([name, grid]) => [name, grid.place]));
    this.kind = kind;
    for (const [name, button] of Object.entries(this.tabs)) {
      button.setAttribute("aria-selected", String(name === kind));
      button.tabIndex = name === kind ? 0 : -1;
      this.panels[name].hidden = name !== kind;
    }
    this.grids[kind].restore(places[kind]); // browsers differ in what a hidden element remembers
    this.grids[kind].redraw();
  }

  follow(on) {
    this.following.setAttribute("aria-pressed", String(on));
    for (const grid of Object.values(this.grids)) {
      grid.follow = on;
      grid.schedule();
    }
  }

  /** Keep which table is shown and how far it is scrolled: a reload, or the way back, comes to the same rows. */
  keepPlace() {
    const { result, page } = this.grids;
    const place = { kind: this.kind, follow: result.follow, result: result.place, page: page.place };
    sessionStorage.setItem(this.key, JSON.stringify(place));
  }

  comeBack({ kind = "result", follow = false, result = 0, page = 0 }) {
    this.grids.result.restore(result);
    this.grids.page.restore(page);
    this.choose(kind);
    this.follow(follow);
  }

  close() {
    this.keepPlace();
    removeEventListener("pagehide", this.keepPlace);
    for (const grid of Object.values(this.grids)) grid.close();
  }
}
