/** One job: how far it is, and its rows as they are found. */

import { get, jobPath, post, remove } from "/static/api.js";
import { address, fill, h, text } from "/static/dom.js";
import { count, duration, isEnded, KINDS, moment, title } from "/static/format.js";
import { stateBadge } from "/static/jobs.js";
import { Rows } from "/static/rows.js";

const TURNS = new Set(["started", "retrying", "done", "failed", "cancelled"]); // after which the job is not what it was

/** What a crawl looks for, as the form has it. */
function wanted(match) {
  return match.map((one) => {
    const kind = Object.keys(KINDS).find((name) => name in one);
    return h("li", {},
      one.name ? h("b", {}, one.name) : h("span", {}, KINDS[kind]), " ", h("code", {}, one[kind] + (one.attr ? ` @${one.attr}` : "")));
  });
}

export function jobPage({ main, connection, signedOut }, id) {
  document.title = "Job · msgd";
  let job = null;
  let run = 0;
  let left = false;
  let clock = 0;
  let progress = null;
  let scheduled = false;

  // -- what is on the page -------------------------------------------------------------------------------------------

  const heading = h("h1", { class: "address" }, "…");
  const badge = h("span", { id: "state" });
  const about = h("span", { class: "soft small" });
  const criteria = h("ul", { class: "wanted", "aria-label": "What is looked for" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const figures = h("dl", { class: "figures" });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const why = h("p", { class: "notice bad", hidden: true });
  const gaps = h("div", { class: "stack tight", role: "alert" });
  const cancel = h("button", { class: "button danger", type: "button", hidden: true }, "Cancel");
  const again = h("button", { class: "button", type: "button", hidden: true }, "Run again");
  const rows = new Rows(id);

  // -- what is known of the job --------------------------------------------------------------------------------------

  function showJob(found) {
    if (found.params !== job?.params) {
      fill(heading, ...address(title(found)));
      fill(criteria, ...wanted(found.type === "crawl" ? found.params?.match ?? [] : []));
    }
    job = found;
    wrong.hidden = true; // the server is there again
    if (job.run > run) startRun(job.run);
    progress = job.progress ?? progress;
    heading.title = title(job);
    document.title = `${title(job)} · msgd`;
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
    rows.describe({
      noResults: ended ? "Nothing was found." : job.state === "queued" ? "Waiting for a worker…" : "Nothing found yet.",
      noPages: ended ? "No page was visited." : "No page visited yet.",
      pages: job.type === "crawl",
    });
    text(about, [job.type, job.run > 1 ? `run ${job.run}` : "", `by ${job.owner || "an AMQP client"}`, moment(job.created)].filter(Boolean).join(" · "));
    showFigures();
  }

  function showFigures() {
    const ended = isEnded(job.state);
    const now = { ...progress, ...(job.result && { done: job.result.pages, errors: job.result.errors }) };
    showBar(now, ended);
    const since = job.started ? (ended ? new Date(job.ended) : new Date()) - new Date(job.started) : 0;
    const done = now.done ?? rows.counts.page; // a redirect has a row, and is no page
    const values = job.type === "crawl"
      ? [["Pages", now.total && !ended ? `${count(done)} of ${count(Math.max(now.total, done))}` : count(done)],
        ["Results", count(Math.max(now.results ?? 0, rows.counts.result))],
        ["Errors", count(now.errors)], ["Pages a second", ended ? "–" : String(now.rate ?? "–")], ["Time", duration(since)]]
      : [["Done", count(now.done)], ["Results", count(rows.counts.result)], ["Time", duration(since)]];
    if (figures.children.length !== values.length) {
      fill(figures, ...values.map(([name]) => h("div", { dataset: { figure: name } }, h("dt", {}, name), h("dd", {}))));
    }
    values.forEach(([, value], index) => text(figures.children[index].lastChild, value));
    figures.classList.toggle("troubled", now.errors > 0);
    clearTimeout(clock);
    if (!ended && !left) clock = setTimeout(showFigures, 1000);
  }

  function showBar({ done = 0, total = 0 }, ended) {
    bar.classList.toggle("ended", ended && job.state !== "done");
    if (job.state === "done") bar.value = 1;
    else if (total) bar.value = Math.min(1, done / total);
    else if (ended || job.state === "queued") bar.value = 0;
    else bar.removeAttribute("value");
  }

  function startRun(number) {
    run = number;
    progress = null;
    rows.clear();
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
    } else if (TURNS.has(event.type)) {
      if (job?.run === event.run && !isEnded(job.state)) refresh();
    } else {
      rows.add(event);
      schedule();
    }
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      if (left) return;
      rows.flush();
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
      heading,
      criteria),
    wrong,
    why,
    h("section", { class: "panel stack", "aria-label": "Progress" },
      bar,
      h("div", { class: "cluster spread" }, figures, h("div", { class: "cluster" }, cancel, again))),
    gaps,
    rows.element);

  const subscription = connection.subscribe(`job.${id}`, { since: "0", onState: showJob, onEvent, onGap, onError: refused });
  refresh();
  return () => {
    left = true;
    clearTimeout(clock);
    subscription.close();
    rows.close();
  };
}
