/** One job: how far it is, and its rows as they are found. */

import { get, jobPath, post, remove } from "/static/api.js";
import { fill, h, outside, text } from "/static/dom.js";
import { count, duration, isEnded, moment, title } from "/static/format.js";
import { Grid } from "/static/grid.js";
import { stateBadge } from "/static/jobs.js";

const ROWS = 100_000; // beyond this a browser's memory suffers, and a download serves better
const ENDS = { done: "done", failed: "failed", cancelled: "cancelled" };

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

const RESULTS = [
  { title: "#", width: "4rem", class: "cell-number", cell: (row, index) => count(index + 1) },
  { title: "Name", width: "minmax(6rem, 0.7fr)", class: "soft", cell: (row) => shown(row.data?.name ?? row.type) },
  { title: "Value", width: "minmax(10rem, 2fr)", class: "cell-value", cell: (row) => shown(row.data?.value ?? row.data) },
  { title: "Page", width: "minmax(8rem, 1.3fr)", class: "soft", cell: (row) => shown(row.data?.title || row.data?.url || "") },
];
const PAGES = [
  { title: "Status", width: "4rem", class: "cell-number", cell: (row) => shown(row.data.status ?? "–") },
  { title: "Address", width: "minmax(12rem, 3fr)", class: "cell-value", cell: (row) => shown(row.data.url) },
  { title: "Matches", width: "5rem", class: "soft", cell: (row) => count(row.data.matches) },
  { title: "What happened", width: "minmax(8rem, 1.3fr)", class: "soft", cell: (row) => row.data.error ?? `${row.data.ms} ms` },
];

/** Everything there is about a row, in a dialog. */
function detail(row) {
  const facts = row.data !== null && typeof row.data === "object" ? Object.entries(row.data) : [["value", row.data]];
  const dialog = h("dialog", { "aria-label": "Row", onclose: () => dialog.remove() },
    h("div", { class: "dialog-bar" },
      h("h2", {}, row.type === "page" ? "Page" : "Result"),
      h("button", { class: "button small", type: "button", onclick: () => dialog.close() }, "Close")),
    h("dl", { class: "facts" },
      ...facts.filter(([, value]) => value !== null && value !== "").map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", { class: name === "url" ? "" : "mono" }, name === "url" ? outside(value) : shown(value)))),
      h("div", {}, h("dt", {}, "found"), h("dd", {}, moment(row.time)))));
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
}

export function jobPage({ main, connection, signedOut }, id) {
  document.title = "Job · msgd";
  let job = null;
  let run = 0;
  let left = false;
  let clock = 0;
  let progress = null;
  let waiting = { result: [], page: [] };
  let scheduled = false;
  const counts = { result: 0, page: 0 };

  // -- what is on the page -------------------------------------------------------------------------------------------

  const heading = h("h1", { class: "clamp" }, "…");
  const badge = h("span", { id: "state" });
  const about = h("span", { class: "soft small" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const figures = h("dl", { class: "figures" });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const why = h("p", { class: "notice bad", hidden: true });
  const gaps = h("div", { class: "stack tight", role: "alert" });
  const cancel = h("button", { class: "button danger", type: "button", hidden: true }, "Cancel");
  const again = h("button", { class: "button", type: "button", hidden: true }, "Run again");
  const download = (format, label, more = "") => h("a", {
    class: "button small", href: jobPath(id, `/results?format=${format}${more}`), download: true, id: `download-${format}`,
  }, label);
  const cap = h("p", { class: "notice wait", hidden: true },
    `Only the first ${count(ROWS)} rows are shown here; the download has all of them.`);
  const grids = {
    result: new Grid({ label: "Results", columns: RESULTS, empty: "Nothing found yet.", open: detail }),
    page: new Grid({ label: "Pages", columns: PAGES, empty: "No page visited yet.", open: detail }),
  };
  const tab = (kind, label) => h("button", {
    class: "tab", type: "button", role: "tab", id: `tab-${kind}`, "aria-controls": `panel-${kind}`,
    onclick: () => choose(kind),
    onkeydown: (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      choose(kind === "result" ? "page" : "result").focus();
    },
  }, label, h("span", { class: "count" }, "0"));
  const tabs = { result: tab("result", "Results"), page: tab("page", "Pages") };
  const panels = Object.fromEntries(Object.entries(grids).map(([kind, grid]) => [kind, h("div", {
    role: "tabpanel", id: `panel-${kind}`, "aria-labelledby": `tab-${kind}`,
  }, grid.element)]));
  const follow = h("button", {
    class: "chip", type: "button", "aria-pressed": "false",
    onclick: () => {
      const on = follow.getAttribute("aria-pressed") !== "true";
      follow.setAttribute("aria-pressed", String(on));
      for (const grid of Object.values(grids)) {
        grid.follow = on;
        grid.schedule();
      }
    },
  }, "Follow");

  function choose(kind) {
    for (const [name, button] of Object.entries(tabs)) {
      const here = name === kind;
      button.setAttribute("aria-selected", String(here));
      button.tabIndex = here ? 0 : -1;
      panels[name].hidden = !here;
    }
    grids[kind].redraw();
    return tabs[kind];
  }

  // -- what is known of the job --------------------------------------------------------------------------------------

  function showJob(found) {
    job = found;
    if (job.run > run) startRun(job.run);
    progress = job.progress ?? progress;
    text(heading, title(job));
    heading.title = title(job);
    document.title = `${title(job)} · msgd`;
    tabs.page.hidden = job.type !== "crawl";
    showState();
  }

  function showState() {
    fill(badge, stateBadge(job.cancel_requested && !isEnded(job.state) ? "cancelling" : job.state));
    const ended = isEnded(job.state);
    cancel.hidden = ended;
    cancel.disabled = job.cancel_requested;
    again.hidden = !ended;
    why.hidden = !(job.error && (job.state === "failed" || (job.attempt > 0 && !ended)));
    if (!why.hidden) {
      why.className = `notice ${job.state === "failed" ? "bad" : "wait"}`;
      why.textContent = job.state === "failed" ? job.error.message : `Trying again after: ${job.error.message}`;
    }
    grids.result.setEmpty(ended ? "Nothing was found." : job.state === "queued" ? "Waiting for a worker…" : "Nothing found yet.");
    grids.page.setEmpty(ended ? "No page was visited." : "No page visited yet.");
    text(about, [job.type, job.run > 1 ? `run ${job.run}` : "", `by ${job.owner || "an AMQP client"}`, moment(job.created)].filter(Boolean).join(" · "));
    showFigures();
  }

  function showFigures() {
    const ended = isEnded(job.state);
    const now = { ...progress, ...(job.result && { done: job.result.pages, errors: job.result.errors }) };
    bar.classList.toggle("ended", ended && job.state !== "done");
    if (job.state === "done") bar.value = 1;
    else if (now.total) bar.value = Math.min(1, (now.done ?? 0) / now.total);
    else if (ended) bar.value = 0;
    else bar.removeAttribute("value");
    const since = job.started ? (ended ? new Date(job.ended) : new Date()) - new Date(job.started) : 0;
    const done = Math.max(now.done ?? 0, counts.page);
    const values = job.type === "crawl"
      ? [["Pages", now.total && !ended ? `${count(done)} of ${count(Math.max(now.total, done))}` : count(done)], ["Results", count(Math.max(now.results ?? 0, counts.result))],
        ["Errors", count(now.errors)], ["Per second", ended ? "–" : String(now.rate ?? "–")], ["Time", duration(since)]]
      : [["Done", count(now.done)], ["Results", count(counts.result)], ["Time", duration(since)]];
    if (figures.children.length !== values.length) {
      fill(figures, ...values.map(([name]) => h("div", {}, h("dt", {}, name), h("dd", {}))));
    }
    values.forEach(([, value], index) => text(figures.children[index].lastChild, value));
    clearTimeout(clock);
    if (!ended && !left) clock = setTimeout(showFigures, 1000);
  }

  function startRun(number) {
    run = number;
    progress = null;
    waiting = { result: [], page: [] };
    for (const kind of ["result", "page"]) {
      counts[kind] = 0;
      grids[kind].clear();
      text(tabs[kind].lastChild, "0");
    }
    cap.hidden = true;
    fill(gaps);
  }

  // -- what happens --------------------------------------------------------------------------------------------------

  /** @param {import("/msgd.js").MsgdEvent} event */
  function onEvent(event) {
    if (event.run !== undefined && event.run > run) {
      startRun(event.run);
      refresh();
    } else if (event.run !== undefined && event.run < run) {
      return;
    }
    if (event.type === "progress") {
      progress = event.data;
      if (job && !isEnded(job.state)) {
        if (job.state === "queued") job.state = "running";
        schedule();
      }
    } else if (event.type === "started" || event.type === "retrying" || event.type in ENDS) {
      if (job?.run === event.run && !isEnded(job.state)) refresh();
    } else {
      const kind = event.type === "page" ? "page" : "result";
      counts[kind] += 1;
      if (counts[kind] <= ROWS) waiting[kind].push(event);
      schedule();
    }
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      if (left) return;
      for (const kind of ["result", "page"]) {
        if (waiting[kind].length) grids[kind].append(waiting[kind]);
        waiting[kind] = [];
        text(tabs[kind].lastChild, count(counts[kind]));
      }
      cap.hidden = counts.result <= ROWS && counts.page <= ROWS;
      if (job) showFigures();
    });
  }

  async function refresh() {
    try {
      const found = await get(jobPath(id));
      if (!left) showJob(found);
    } catch (problem) {
      if (!left) refused(problem);
    }
  }

  function refused(problem) {
    if (problem.status === 401) {
      signedOut();
    } else if (!job && (problem.status === 404 || problem.status === 403 || problem.code === "not-found")) {
      fill(main, h("div", { class: "panel empty stack" },
        h("div", {}, h("h1", {}, "There is no such job"), "It was removed, or it is not yours to see."),
        h("div", {}, h("a", { class: "button main", href: "/jobs", "data-nav": true }, "All jobs"))));
    } else {
      wrong.textContent = problem.message;
      wrong.hidden = false;
    }
  }

  function onGap(gap) {
    const lost = gap.lost === null ? "Some rows are" : `${count(gap.lost)} ${gap.lost === 1 ? "row is" : "rows are"}`;
    gaps.append(h("p", { class: "notice wait" }, `${lost} not kept any more (${gap.reason}).`));
  }

  async function act(button, what) {
    button.disabled = true;
    wrong.hidden = true;
    try {
      showJob(await what());
      // The end counts once it is journaled, a moment after the answer.
      if (button === cancel) setTimeout(refresh, 500);
    } catch (problem) {
      refused(problem);
    } finally {
      button.disabled = false;
    }
  }

  cancel.addEventListener("click", () => act(cancel, () => remove(jobPath(id))));
  again.addEventListener("click", () => act(again, () => post(jobPath(id, "/retry"))));

  fill(main,
    h("div", { class: "stack tight" },
      h("div", { class: "cluster" }, badge, about),
      heading),
    wrong,
    why,
    h("section", { class: "panel stack", "aria-label": "Progress" },
      bar,
      h("div", { class: "cluster spread" }, figures, h("div", { class: "cluster" }, cancel, again))),
    gaps,
    cap,
    h("section", { class: "panel rows" },
      h("div", { class: "rows-bar" },
        h("div", { class: "tabs", role: "tablist", "aria-label": "Rows" }, tabs.result, tabs.page),
        h("div", { class: "cluster" }, follow,
          download("csv", "CSV", "&bom=1"), download("ndjson", "NDJSON"), download("json", "JSON"))),
      panels.result,
      panels.page));
  choose("result");

  const subscription = connection.subscribe(`job.${id}`, { since: "0", onState: showJob, onEvent, onGap, onError: refused });
  refresh();
  return () => {
    left = true;
    clearTimeout(clock);
    subscription.close();
    for (const grid of Object.values(grids)) grid.close();
  };
}
