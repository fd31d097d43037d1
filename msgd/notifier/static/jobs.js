/** The list of jobs. */

import { get } from "/static/api.js";
import { fill, h } from "/static/dom.js";
import { STATES, ago, count, isEnded, moment, title } from "/static/format.js";

const PAGE = 50;
const AGAIN_MS = 3000;
const FILTERS = ["queued", "running", "done", "failed", "cancelled"];

export const stateBadge = (state) => h("span", { class: "state", dataset: { state } }, STATES[state] ?? state);

function note(job) {
  const progress = job.progress ?? {};
  const parts = [job.type];
  const { pages = progress.done, results = progress.results } = job.result ?? {};
  if (pages !== undefined) parts.push(`${count(pages)} pages`);
  if (results !== undefined) parts.push(`${count(results)} results`);
  if (job.error && (job.state === "failed" || job.attempt)) parts.push(job.error.message);
  if (job.run > 1) parts.push(`run ${job.run}`);
  return parts.join(" · ");
}

function row(job) {
  return h("li", {},
    h("a", { class: "list-row", href: `/jobs/${encodeURIComponent(job.id)}`, "data-nav": true },
      h("span", { class: "list-state" }, stateBadge(job.state)),
      h("span", { class: "list-title", title: title(job) }, title(job).replace(/^https?:\/\//, "")),
      h("time", { class: "list-end", datetime: job.created, title: moment(job.created) }, ago(job.created)),
      h("span", { class: "list-note" }, note(job))));
}

/** @param {any[]} jobs */
export const jobList = (jobs) => h("ul", { class: "list" }, ...jobs.map(row));

export function jobsPage({ main, go, signedOut }) {
  document.title = "Jobs · msgd";
  const wanted = new URLSearchParams(location.search).get("state") ?? "";
  const list = h("div", { class: "panel rows", "aria-busy": "true" }, h("p", { class: "empty" }, "Loading…"));
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const more = h("button", { class: "button", type: "button", hidden: true }, "Show older ones");
  const chip = (state, label) => h("button", {
    class: "chip", type: "button", "aria-pressed": String(state === wanted),
    onclick: () => go(state ? `/jobs?state=${state}` : "/jobs"),
  }, label);
  let pages = 1;
  let timer = 0;
  let left = false;

  async function load() {
    clearTimeout(timer);
    try {
      const jobs = [];
      let before = null;
      for (let page = 0; page < pages; page += 1) {
        const query = new URLSearchParams({ limit: String(PAGE), ...(wanted && { state: wanted }), ...(before && { before }) });
        const answer = await get(`/api/jobs?${query}`);
        jobs.push(...answer.jobs);
        before = answer.before;
        if (!before) break;
      }
      if (left) return;
      const focused = document.activeElement?.closest?.(".list-row")?.getAttribute("href");
      wrong.hidden = true;
      more.hidden = !before;
      list.removeAttribute("aria-busy");
      fill(list, jobs.length ? jobList(jobs) : empty());
      if (focused) list.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
      if (wanted === "" ? jobs.some((job) => !isEnded(job.state)) : !isEnded(wanted)) timer = setTimeout(load, AGAIN_MS);
    } catch (problem) {
      if (left) return;
      if (problem.status === 401) return signedOut();
      wrong.textContent = problem.message;
      wrong.hidden = false;
      timer = setTimeout(load, AGAIN_MS);
    }
    return undefined;
  }

  function empty() {
    if (wanted) return h("div", { class: "empty" }, h("h2", {}, `No ${STATES[wanted]?.toLowerCase() ?? wanted} jobs`), "Others may be there: choose All.");
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
        chip("", "All"), ...FILTERS.map((state) => chip(state, STATES[state])))),
    wrong,
    list,
    h("div", {}, more));
  load();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}
