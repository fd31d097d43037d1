/** One job: how far it is, and its rows as they are found. */

import { announce } from "/static/announce.js";
import { get, jobPath, post, remove } from "/static/api.js";
import { address, fill, h, text } from "/static/dom.js";
import { KINDS, STATES, ago, count, duration, isEnded, moment, nextTry, shownState, title } from "/static/format.js";
import { stateBadge } from "/static/jobs.js";
import { gapWords } from "/static/notice.js";
import { Notice } from "/static/problem.js";
import { Rows } from "/static/rows.js";

/** What helps, by the code of a job's error. */
const ADVICE = {
  peer: "The other side refused, or did not answer. Look at the address; run it again when the other side is there.",
  "address-refused": "Private and local addresses are refused. Whoever runs the server can allow a network: [network] allow.",
  "invalid-params": "It cannot be performed as it was asked for. Submit it anew with what is right.",
  poison: "Its workers ended while they performed it, several times. Tell whoever runs the server.",
  "unknown-type": "No worker performs jobs of this type. Tell whoever runs the server.",
};

const TELL_MS = 15_000; // between two words about a crawl that goes on

const LOOK_MS = 3000; // between two looks at all parts of a mail

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
  let whole = null; // the progress of a mail with all its parts, each of which tells only of itself
  let looking = 0;
  let told = { state: "", found: 0, at: 0 };

  // -- what is on the page -------------------------------------------------------------------------------------------

  const heading = h("h1", { class: "address" }, "…");
  const badge = h("span", { id: "state" });
  const about = h("span", { class: "soft small" });
  const criteria = h("ul", { class: "wanted", "aria-label": "What is looked for" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const figures = h("dl", { class: "figures" });
  const wrong = new Notice();
  const what = h("strong", {});
  const advice = h("span", { class: "advice" });
  const why = h("p", { class: "notice bad", hidden: true }, what, advice);
  const gaps = h("div", { class: "stack tight", role: "status" });
  const cancel = h("button", { class: "button danger", type: "button", hidden: true }, "Cancel");
  const again = h("button", { class: "button", type: "button", hidden: true }, "Run again");
  const mail = h("a", { class: "button", href: `/mail/${encodeURIComponent(id)}`, "data-nav": true, hidden: true }, "The mail");
  const rows = new Rows(id);

  // -- what is known of the job --------------------------------------------------------------------------------------

  function showJob(found) {
    if (found.params !== job?.params) {
      fill(heading, ...address(title(found)));
      fill(criteria, ...wanted(found.type === "crawl" ? found.params?.match ?? [] : []));
    }
    job = found;
    wrong.clear(); // the server is there again
    if (job.run > run) startRun(job.run);
    progress = job.progress ?? progress;
    heading.title = title(job);
    document.title = `${title(job)} · msgd`;
    showState();
    if (job.type === "mail" && !job.params?.part && !looking) lookAtParts();
  }

  /** How far all parts of a mail are, now and then to its end. */
  async function lookAtParts() {
    looking = -1;
    try {
      const mail = await get(`/api/mail/${encodeURIComponent(id)}`);
      const open = ["queued", "sending", "deferred"].reduce((sum, state) => sum + (mail.states[state] ?? 0), 0);
      whole = { done: mail.recipients - open, total: mail.recipients };
      if (!left && !isEnded(job.state)) await refresh();
    } catch { /* what is wrong is told by whatever else asks */ }
    looking = left || isEnded(job.state) ? 0 : setTimeout(lookAtParts, LOOK_MS);
    if (!left) showFigures();
  }

  function showState() {
    mail.hidden = job.type !== "mail";
    const ended = isEnded(job.state);
    cancel.hidden = ended;
    cancel.disabled = job.cancel_requested;
    again.hidden = !ended;
    rows.describe({
      noResults: job.type === "mail" ? "Who has this mail, and who has not, stands on its page." : ended ? "Nothing was found." : job.state === "queued" && !job.attempt ? "Waiting for a worker…" : "Nothing found yet.",
      noPages: ended ? "No page was visited." : "No page visited yet.",
      pages: job.type === "crawl",
    });
    text(about, [job.type, job.run > 1 ? `run ${job.run}` : "", `by ${job.owner || "an AMQP client"}`, moment(job.created)].filter(Boolean).join(" · "));
    showFigures();
  }

  /** The badge, made anew only if it says something else: whoever listens to the page is told once. */
  function showBadge() {
    const made = job.cancel_requested && !isEnded(job.state) ? stateBadge("cancelling") : stateBadge(shownState(job), nextTry(job));
    if (badge.textContent !== made.textContent) fill(badge, made);
  }

  /** Why it failed, or is tried again, and when. */
  function showWhy() {
    const over = job.state === "failed";
    why.hidden = !(job.error && (over || (job.attempt > 0 && !isEnded(job.state))));
    if (why.hidden) return;
    const when = job.not_before && new Date(job.not_before) > new Date() ? ` ${ago(job.not_before)}` : "";
    why.className = `notice ${over ? "bad" : "wait"}`;
    text(what, over ? job.error.message : `It is tried again${when} (attempt ${job.attempt + 1}), because: ${job.error.message}`);
    text(advice, over ? ADVICE[job.error.code] ?? "It can be run again." : "It goes on by itself as soon as that has passed; or cancel it.");
  }

  /** Tell those who do not see it: each state, and now and then how much was found. */
  function tellState() {
    const found = rows.counts.result;
    const due = Date.now() - told.at > TELL_MS && found !== told.found;
    if (job.state === told.state && !due) return;
    if (told.state) announce(`${STATES[job.state] ?? job.state}: ${count(found)} results`);
    told = { state: job.state, found, at: Date.now() };
  }

  function showFigures() {
    tellState();
    showBadge();
    showWhy();
    const ended = isEnded(job.state);
    const now = { ...progress, ...(whole?.done > (progress?.done ?? 0) && whole), ...(job.result && { done: job.result.pages ?? job.result.recipients ?? progress?.done, errors: job.result.errors }) };
    showBar(now, ended);
    const since = job.started ? (ended ? new Date(job.ended) : new Date()) - new Date(job.started) : 0;
    const done = now.done ?? rows.counts.page; // a redirect has a row, and is no page
    const values = job.type === "crawl"
      ? [["Pages", now.total && !ended ? `${count(done)} of ${count(Math.max(now.total, done))}` : count(done)],
        ["Results", count(Math.max(now.results ?? 0, rows.counts.result))],
        ["Errors", count(now.errors)], ...(ended ? [] : [["Pages a second", String(now.rate ?? "–")]]), ["Time", duration(since)]]
      : job.type === "mail" ? [["Recipients", now.total && !ended ? `${count(now.done)} of ${count(now.total)}` : count(now.done)], ["Time", duration(since)]]
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
      wrong.show(problem, problem.status === 403 ? `admin:job.${id}` : "");
    }
  }

  function onGap(gap) {
    gaps.append(h("p", { class: "torn torn-row" }, gapWords({ ...gap, topic: "" })));
  }

  async function act(button, what) {
    button.disabled = true;
    wrong.clear();
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
    wrong.element,
    why,
    h("section", { class: "panel stack", "aria-label": "Progress" },
      bar,
      h("div", { class: "cluster spread" }, figures, h("div", { class: "cluster" }, mail, cancel, again))),
    gaps,
    rows.element);

  const subscription = connection.subscribe(`job.${id}`, { since: "0", onState: showJob, onEvent, onGap, onError: refused });
  refresh();
  return () => {
    left = true;
    clearTimeout(clock);
    clearTimeout(looking);
    subscription.close();
    rows.close();
  };
}
