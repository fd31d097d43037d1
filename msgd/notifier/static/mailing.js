/** One mail: how far it is, and who has it. */

import { get, jobPath, post, remove } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { ago, count, isEnded, moment, nextTry, shownState, title } from "/static/format.js";
import { stateBadge } from "/static/jobs.js";
import { Notice } from "/static/problem.js";

const LOOK_MS = 5000;
const HURRY_MS = 1000; // between two looks, when something has changed
const TURNS = new Set(["done", "failed", "cancelled", "retrying"]);
const PAGE = 100;
const SHOWN = { sent: "Sent", sending: "Sending", queued: "Queued", deferred: "Deferred", bounced: "Bounced", suppressed: "Suppressed", unknown: "Unknown" };
const MEANS = {
  sent: "their server has it",
  sending: "in hand now",
  queued: "not tried yet",
  deferred: "their server said “later”: tried again",
  bounced: "their server said no",
  suppressed: "they want no mail",
  unknown: "their server did not say whether it has it: never sent again",
};
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 60;

/** How many were done with, over time. */
class Plot {
  constructor() {
    this.points = [];
    this.line = document.createElementNS(SVG, "polyline");
    this.line.setAttribute("class", "mail-line");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("class", "mail-plot");
    this.svg.setAttribute("aria-hidden", "true"); // the numbers beside it say the same
    this.svg.toggleAttribute("hidden", true);
    this.svg.append(this.line);
    this.svg.toggleAttribute("hidden", true); // until there is a line to see
  }

  add(done, total) {
    this.points.push([performance.now(), done]);
    if (this.points.length > 1000) this.points = this.points.filter((_, at) => at % 2 === 0);
    const [first] = this.points[0];
    const span = Math.max(1, this.points.at(-1)[0] - first);
    this.line.setAttribute("points", this.points.map(([at, value]) =>
      `${(((at - first) / span) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (value / Math.max(1, total)) * (HEIGHT - 4)).toFixed(1)}`).join(" "));
    this.svg.toggleAttribute("hidden", this.points.length < 2);
  }
}

export function mailingPage({ main, connection, signedOut }, id) {
  document.title = "Mail · msgd";
  const wrong = new Notice();
  const heading = h("h1", {}, "Mail");
  const badge = h("span", {});
  const bar = h("progress", { "aria-label": "Done with" });
  const far = h("p", { class: "soft", role: "status" });
  const why = h("p", { hidden: true });
  const plot = new Plot();
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Recipients by state" });
  const list = h("ul", { class: "list" });
  const note = h("p", { class: "empty" }, "Loading…");
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: () => load(next) }, "Show more");
  const pause = h("button", { class: "button", type: "button" }, "Pause");
  const cancel = h("button", { class: "button danger", type: "button" }, "Cancel");
  const again = h("button", { class: "button", type: "button", hidden: true }, "Go on");
  let wanted = "";
  let next = null;
  let timer = 0;
  let left = false;
  let job = null;
  let mail = null; // how many are in each state
  let before = "";
  let looked = 0;

  const act = (button, call) => button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await call();
      await look();
      setTimeout(hurry, HURRY_MS); // an end counts once it is journaled
    } catch (problem) {
      if (problem.status === 401) signedOut();
      else wrong.show(problem);
    } finally {
      button.disabled = false;
    }
  });
  act(pause, () => post(`/api/mail/${encodeURIComponent(id)}/${mail?.paused ? "resume" : "pause"}`, {}));
  act(cancel, () => remove(jobPath(id)));
  act(again, () => post(jobPath(id, "/retry"), {}));

  function row(one) {
    const reply = [one.code, one.reply].filter(Boolean).join(" ");
    const when = one.state === "deferred" && one.next ? `tried again ${ago(one.next)}` : ago(one.changed);
    const taken = one.state === "sent"; // what the server says then is of use to few
    return h("li", { class: "mail-row mail-recipient" },
      h("span", {}, h("strong", {}, one.email), one.name ? h("span", { class: "soft" }, ` ${one.name}`) : ""),
      h("span", { class: "state", dataset: { mail: one.state }, title: taken ? reply : MEANS[one.state] ?? "" }, SHOWN[one.state] ?? one.state),
      h("time", { class: "soft", datetime: one.changed, title: moment(one.changed) }, when),
      reply && !taken ? h("span", { class: "soft mail-reply" }, reply) : "");
  }

  async function load(after = 0) {
    const query = new URLSearchParams({ limit: PAGE, ...(wanted && { state: wanted }), ...(after && { after }) });
    const found = await get(jobPath(id, `/recipients?${query}`));
    if (left) return;
    const rows = found.recipients.map(row);
    if (after) list.append(...rows);
    else fill(list, ...rows);
    next = found.next;
    more.hidden = !next;
    note.hidden = list.children.length > 0;
    text(note, wanted ? `Nobody is ${SHOWN[wanted].toLowerCase()}.` : "The recipients are being read.");
  }

  function showStates(states, total) {
    const there = Object.keys(SHOWN).filter((state) => states[state]);
    const chip = (state, label, number) => h("button", {
      class: "chip", type: "button", title: MEANS[state], "aria-pressed": String(state === wanted),
      onclick: () => {
        wanted = state;
        showStates(states, total);
        load().catch((problem) => wrong.show(problem));
      },
    }, `${label} ${count(number)}`);
    const focused = chips.contains(document.activeElement);
    fill(chips, chip("", "All", total), ...there.map((state) => chip(state, SHOWN[state], states[state])));
    if (focused) chips.querySelector("[aria-pressed=true]")?.focus();
  }

  /** Look soon: something has changed. */
  function hurry() {
    if (left) return;
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(0, looked + HURRY_MS - performance.now()));
  }

  function showFigures({ states, total, waiting }) {
    const open = (states.queued ?? 0) + (states.sending ?? 0) + (states.deferred ?? 0);
    const ended = isEnded(job.state);
    const done = count(total - open);
    bar.max = Math.max(1, total);
    bar.value = total - open;
    const doing = `${mail.complete ? "" : ", recipients are being read"}${mail.paused && !ended ? "; paused" : ""}`;
    text(far, `${done} of ${count(total)} done with${doing}.`);
    const failed = job.state === "failed" ? job.error?.message : "";
    const away = !ended && waiting ? `The mail server cannot be reached, and is tried again: ${waiting}` : "";
    const retried = !ended && job.attempt > 0 ? `It is tried again, because: ${job.error?.message}` : "";
    why.className = `notice ${failed ? "bad" : "wait"}`;
    text(why, failed || away || retried);
    why.hidden = !why.textContent;
    if (!ended) plot.add(total - open, total);
    again.hidden = !(ended && open > 0);
    showStates(states, total);
  }

  async function look() {
    clearTimeout(timer);
    looked = performance.now();
    try {
      const found = await get(jobPath(id));
      mail = await get(`/api/mail/${encodeURIComponent(id)}`); // after the job: of one that has ended it is final
      if (left) return;
      job = found;
      wrong.clear();
      const ended = isEnded(job.state);
      document.title = `${title(job)} · msgd`;
      text(heading, title(job));
      fill(badge, stateBadge(shownState(job), nextTry(job)));
      text(pause, mail.paused ? "Resume" : "Pause");
      pause.hidden = cancel.hidden = ended;
      const now = JSON.stringify([mail, job.state, job.attempt, job.error, job.progress?.waiting]);
      if (now !== before) {
        showFigures({ states: mail.states, total: mail.recipients, waiting: job.progress?.waiting });
        if (list.children.length <= PAGE) await load();
        before = now;
      }
      clearTimeout(timer);
      if (!ended && !left) timer = setTimeout(look, LOOK_MS);
    } catch (problem) {
      if (left) return;
      if (problem.status === 401) signedOut();
      else if (problem.status === 404) {
        fill(main, h("div", { class: "panel empty stack" },
          h("div", {}, h("h1", {}, "There is no such mail"), "It was removed, or it is not yours to see."),
          h("div", {}, h("a", { class: "button main", href: "/mail", "data-nav": true }, "All mail"))));
      } else {
        wrong.show(problem);
        timer = setTimeout(look, LOOK_MS);
      }
    }
  }

  fill(main,
    h("p", {}, h("a", { href: "/mail", "data-nav": true }, "All mail")),
    h("div", { class: "cluster spread" }, heading, badge),
    wrong.element,
    h("div", { class: "panel stack tight" }, bar, far, why, plot.svg,
      h("div", { class: "cluster" }, pause, cancel, again,
        h("a", { class: "button", href: jobPath(id, "/recipients?format=csv"), download: true }, "Download CSV"),
        h("a", { class: "button quiet", href: `/jobs/${encodeURIComponent(id)}`, "data-nav": true }, "The job"))),
    h("section", { class: "stack tight", "aria-label": "Recipients" },
      h("h2", {}, "Recipients"), chips, h("div", { class: "panel flush" }, note, list), more));
  look();
  const subscription = connection.subscribe(`job.${id}`, { onEvent: ({ type, data }) => {
    if (TURNS.has(type)) hurry();
    // A mailing that was not split tells by itself how many are in each state: nobody need count.
    else if (type === "progress" && job && !isEnded(job.state) && data?.states && data.total === mail.recipients) showFigures(data);
  } });
  return () => {
    left = true;
    clearTimeout(timer);
    subscription.close();
  };
}
