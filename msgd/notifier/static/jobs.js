/** The list of jobs. */

import { get } from "/static/api.js";
import { fill, h, renew } from "/static/dom.js";
import { STATES, ago, counted, isEnded, moment, nextTry, shownState, title } from "/static/format.js";
import { Notice } from "/static/problem.js";

const PAGE = 50;
const AGAIN_MS = 3000;
const FILTERS = ["queued", "running", "waiting", "done", "failed", "cancelled"];

/** What a type counts: the fields of its result or progress, the best first, and its noun. */
const COUNTS = {
  crawl: [[["pages", "done"], "pages"], [["results"], "results"]],
  mail: [[["recipients", "total"], "recipients"]],
  thumbnail: [[["pictures"], "pictures"]],
  feed: [[["entries"], "entry|entries"]],
};

/** @param {string} [more] what stands behind the state's name */
export const stateBadge = (state, more = "") =>
  h("span", { class: "state", dataset: { state } }, [STATES[state] ?? state, more].filter(Boolean).join(", "));

function note(job) {
  const known = { ...job.progress, ...job.result };
  const parts = [job.type];
  for (const [fields, noun] of COUNTS[job.type] ?? []) {
    const value = fields.map((name) => known[name]).find((one) => typeof one === "number");
    if (value !== undefined) parts.push(counted(value, noun));
  }
  if (job.error && job.state === "failed") parts.push(job.error.message);
  else if (job.error && job.attempt && !isEnded(job.state)) parts.push([nextTry(job), `trying again after: ${job.error.message}`].filter(Boolean).join(", "));
  if (job.run > 1) parts.push(`run ${job.run}`);
  return parts.join(" · ");
}

function row(job) {
  return h("li", {},
    h("a", { class: "list-row", href: job.path ?? `/jobs/${encodeURIComponent(job.id)}`, "data-nav": true },
      h("span", { class: "list-state" }, stateBadge(shownState(job))),
      h("span", { class: "list-title", title: title(job) }, title(job).replace(/^https?:\/\//, "")),
      h("time", { class: "list-end", datetime: job.created, title: moment(job.created) }, ago(job.created)),
      h("span", { class: "list-note" }, note(job))));
}

/** @param {any[]} jobs */
export const jobList = (jobs) => h("ul", { class: "list" }, ...jobs.map(row));

export function jobsPage({ main, go, signedOut }) {
  document.title = "Jobs · msgd";
  const given = new URLSearchParams(location.search);
  const wanted = given.get("state") ?? "";
  const type = given.get("type") ?? "";
  const path = (state, kind) => {
    const query = new URLSearchParams({ ...(state && { state }), ...(kind && { type: kind }) });
    return query.size ? `/jobs?${query}` : "/jobs";
  };
  const list = h("div", { class: "panel flush", "aria-busy": "true" }, h("p", { class: "empty" }, "Loading…"));
  const wrong = new Notice();
  const more = h("button", { class: "button", type: "button", hidden: true }, "Show older ones");
  const chip = (state, label) => h("button", {
    class: "chip", type: "button", "aria-pressed": String(state === wanted),
    onclick: async () => {
      await go(path(state, type));
      main.querySelector(".chip[aria-pressed=true]")?.focus(); // the page was made anew
    },
  }, label);
  const types = h("select", { id: "type", class: "small", "aria-label": "Type", onchange: async () => {
    await go(path(wanted, types.value));
    main.querySelector("#type")?.focus();
  } });

  /** Which types there are; the filter is of use with two of them. */
  async function loadTypes() {
    const names = new Set(type ? [type] : []);
    try {
      for (const one of (await get("/api/types")).types) names.add(one.name);
    } catch { /* the list itself says what is wrong */ }
    fill(types, h("option", { value: "" }, "All types"), ...[...names].map((name) => h("option", { value: name }, name)));
    types.value = type;
    types.hidden = names.size < 2 && !type;
  }
  let pages = 1;
  let timer = 0;
  let left = false;

  async function load() {
    clearTimeout(timer);
    try {
      const jobs = [];
      let before = null;
      for (let page = 0; page < pages; page += 1) {
        const query = new URLSearchParams({ limit: String(PAGE), parent: "none", ...(wanted && { state: wanted }), ...(type && { type }), ...(before && { before }) });
        const answer = await get(`/api/jobs?${query}`);
        jobs.push(...answer.jobs);
        before = answer.before;
        if (!before) break;
      }
      if (left) return;
      const focused = document.activeElement?.closest?.(".list-row")?.getAttribute("href");
      wrong.clear();
      more.hidden = !before;
      list.removeAttribute("aria-busy");
      renew(list, jobs.length ? jobList(jobs) : empty());
      if (focused && !list.contains(document.activeElement)) list.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
      clearTimeout(timer); // of another reading meanwhile
      if (wanted === "" ? jobs.some((job) => !isEnded(job.state)) : !isEnded(wanted)) timer = setTimeout(load, AGAIN_MS);
    } catch (problem) {
      if (left) return;
      if (problem.status === 401) return signedOut();
      wrong.show(problem);
      timer = setTimeout(load, AGAIN_MS);
    }
    return undefined;
  }

  function empty() {
    if (wanted || type) {
      return h("div", { class: "empty stack" },
        h("div", {}, h("h2", {}, `No ${[STATES[wanted]?.toLowerCase() ?? wanted, type].filter(Boolean).join(" ")} jobs`), "Others may be there."),
        h("div", {}, h("a", { class: "button", href: "/jobs", "data-nav": true }, "Show all jobs")));
    }
    return h("div", { class: "empty stack" },
      h("div", {}, h("h2", {}, "No jobs yet"), "What you start is listed here, also after it has ended."),
      h("div", {}, h("a", { class: "button main", href: "/", "data-nav": true }, "Start a crawl")));
  }

  more.addEventListener("click", () => {
    pages += 1;
    load();
  });
  fill(main,
    h("div", { class: "cluster spread" },
      h("h1", {}, "Jobs"),
      h("div", { class: "chips", role: "group", "aria-label": "Which jobs" },
        chip("", "All"), ...FILTERS.map((state) => chip(state, STATES[state])), types)),
    wrong.element,
    list,
    h("div", {}, more));
  load();
  loadTypes();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}
