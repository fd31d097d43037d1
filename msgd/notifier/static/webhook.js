/** The page of one endpoint: how it is, what was sent last, and what can be done with it. */

import { get, post, put, remove } from "/static/api.js";
import { fill, h, renew, text } from "/static/dom.js";
import { ago, count, moment } from "/static/format.js";
import { isTopicOrPattern } from "/static/patterns.js";
import { Notice, isStranger } from "/static/problem.js";
import { openSecret } from "/static/webhook_secret.js";
import { endpointState } from "/static/webhooks.js";

const AGAIN_MS = 3000;
const SOON_MS = 500; // while something is awaited
const SOON_TIMES = 10;
const DAY_MS = 86_400_000;
const SPANS = { hour: ["the last hour", 3_600_000], day: ["the last day", DAY_MS], week: ["the last week", 7 * DAY_MS], all: ["all that is kept", null] };

export function webhookPage({ main, go, signedOut }, id) {
  const api = (more = "") => `/api/webhooks/${encodeURIComponent(id)}${more}`;
  const wrong = new Notice();
  const told = h("p", { class: "notice good", role: "status", hidden: true });
  const head = h("div", { class: "stack", "aria-busy": "true" }, h("p", { class: "empty" }, "Loading…"));
  const tries = h("div", {}, h("p", { class: "empty" }, "Loading…"));
  let timer = 0;
  let soon = 0; // how often still
  let left = false;
  let deleting = false;
  let reads = Promise.resolve(); // fulfilled when nothing of the endpoint is being read

  function say(words) {
    text(told, words);
    told.hidden = false;
  }

  /** Do something that a button asks for; its problem stands above. */
  const doing = (what) => async (event) => {
    const button = event.currentTarget;
    wrong.clear();
    told.hidden = true;
    button.disabled = true;
    try {
      await what();
    } catch (problem) {
      if (isStranger(problem)) signedOut();
      else wrong.show(problem);
    } finally {
      button.disabled = false;
    }
  };

  const ping = doing(async () => {
    const job = await post(api("/ping"), {});
    fill(told, "A test is on its way: ", h("a", { href: `/jobs/${encodeURIComponent(job.id)}`, "data-nav": true }, "its job"), ".");
    told.hidden = false;
    soon = SOON_TIMES;
    await load();
  });
  const rotate = doing(async () => {
    const rotated = await post(api("/rotate"), {});
    openSecret(rotated.secret, () => say(`Until ${moment(rotated.old_secret_until)} the old secret counts too.`));
    show(rotated);
  });
  const toggle = (enabled) => doing(async () => {
    show(await put(api(), { enabled }));
    head.querySelector("#toggle")?.focus();
  });
  const erase = doing(async () => {
    if (!confirm("Delete this endpoint? What is still to be sent to it fails.")) return;
    deleting = true;
    await reads; // what the deletion overtook would complain that there is no such endpoint
    try {
      await remove(api());
    } catch (problem) {
      deleting = false;
      load();
      throw problem;
    }
    go("/webhooks");
  });

  function show(endpoint) {
    document.title = `${endpoint.url.replace(/^https?:\/\//, "")} · msgd`;
    const facts = [
      ["State", h("span", {}, endpointState(endpoint), endpoint.enabled ? "" : ` ${endpoint.reason}`)],
      endpoint.failing_since && ["Failing since", moment(endpoint.failing_since)],
      endpoint.description && ["Description", endpoint.description],
      ["Owner", endpoint.owner],
      ["Made", moment(endpoint.created)],
      endpoint.old_secret_until && ["The old secret counts until", moment(endpoint.old_secret_until)],
    ].filter(Boolean);
    const focused = head.contains(document.activeElement) ? document.activeElement.id : "";
    renew(head,
      h("h1", { class: "cut", title: endpoint.url }, endpoint.url.replace(/^https?:\/\//, "")),
      h("section", { class: "panel flush", "aria-label": "The endpoint" },
        h("dl", { class: "facts pairs" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
        h("div", { class: "cluster endpoint-tools" },
          endpoint.enabled && h("button", { class: "button", type: "button", id: "ping", onclick: ping }, "Send a test"),
          h("button", { class: "button", type: "button", id: "rotate", onclick: rotate }, "New secret"),
          h("button", { class: "button", type: "button", id: "toggle", onclick: toggle(!endpoint.enabled) }, endpoint.enabled ? "Disable" : "Enable"),
          h("button", { class: "button danger", type: "button", id: "delete", onclick: erase }, "Delete"))));
    if (focused && !head.contains(document.activeElement)) document.getElementById(focused)?.focus();
    head.setAttribute("aria-busy", "false");
  }

  const row = (one) => h("li", {},
    h("a", { class: "list-row", href: `/jobs/${encodeURIComponent(one.job)}`, "data-nav": true },
      h("span", { class: "list-state" }, h("span", { class: "state", dataset: { state: one.delivered ? "done" : "failed" } }, one.status ?? "No answer")),
      h("span", { class: "list-title" }, one.event),
      h("time", { class: "list-end", datetime: one.time, title: moment(one.time) }, ago(one.time)),
      h("span", { class: "list-note", title: one.error }, [`${count(one.ms)} ms`, one.error].filter(Boolean).join(" · "))));

  function load() {
    clearTimeout(timer);
    if (!deleting) reads = Promise.all([reads, read()]);
    return reads;
  }

  async function read() {
    try {
      const [endpoint, { deliveries }] = await Promise.all([get(api()), get(api("/deliveries?limit=100"))]);
      if (left) return;
      show(endpoint);
      if (deliveries.length) renew(tries, h("ul", { class: "list" }, ...deliveries.map(row)));
      else renew(tries, h("p", { class: "empty" }, "Nothing has been sent yet."));
      clearTimeout(timer);
      if (deleting) return;
      timer = setTimeout(load, soon > 0 ? SOON_MS : AGAIN_MS);
      soon -= 1;
    } catch (problem) {
      if (left) return;
      if (isStranger(problem)) signedOut();
      else {
        wrong.show(problem);
        if (problem.status === 404) fill(head, h("h1", {}, "No such endpoint"));
        else timer = setTimeout(load, AGAIN_MS);
      }
      if (problem.status === 404) fill(tries);
    }
  }

  // -- replay --------------------------------------------------------------------------------------------------------

  const topics = h("input", { id: "topics", class: "mono", autocomplete: "off", spellcheck: "false", placeholder: "app.invoice.*", "aria-describedby": "topics-hint topics-wrong" });
  const topicsWrong = h("p", { class: "wrong", id: "topics-wrong", role: "alert", hidden: true }, "Words of letters, digits, _ and -, joined by dots; * for one word, # for any.");
  const span = h("select", { id: "span" }, ...Object.entries(SPANS).map(([value, [label]]) => h("option", { value }, label)));
  const again = h("button", { class: "button", type: "submit", id: "replay" }, "Send again");

  async function replay(event) {
    event.preventDefault();
    const wanted = topics.value.split(/[\s,]+/).filter(Boolean);
    const bad = !wanted.length || !wanted.every(isTopicOrPattern);
    topicsWrong.hidden = !bad;
    if (bad) {
      topics.focus();
      return;
    }
    wrong.clear();
    again.disabled = true;
    const length = SPANS[span.value][1];
    let since = length === null ? "0" : new Date(Date.now() - length).toISOString();
    const sum = { submitted: 0, again: 0, known: 0 };
    try {
      for (let more = true; more && !left;) {
        const came = await post(api("/replay"), { topics: wanted, since });
        for (const name of Object.keys(sum)) sum[name] += came[name];
        ({ more, cursor: since } = came);
        say(`${count(sum.submitted + sum.again)} events are on their way${sum.known ? `; ${count(sum.known)} were already` : ""}.`);
      }
      soon = SOON_TIMES;
      await load();
    } catch (problem) {
      if (isStranger(problem)) signedOut();
      else wrong.show(problem);
    } finally {
      again.disabled = false;
    }
  }

  fill(main,
    h("p", {}, h("a", { href: "/webhooks", "data-nav": true }, "All webhooks")),
    head,
    wrong.element,
    told,
    h("div", { class: "two" },
      h("section", { class: "panel flush", "aria-label": "Last tries" }, h("h2", { class: "panel-head" }, "Last tries"), tries),
      h("form", { class: "panel stack", novalidate: true, onsubmit: replay, "aria-label": "Replay" },
        h("h2", {}, "Replay"),
        h("div", { class: "field" },
          h("label", { for: "topics" }, "Topics or patterns"), topics, topicsWrong,
          h("p", { class: "hint", id: "topics-hint" }, "Events of the journal are sent to this endpoint; the receiver knows those again that it has.")),
        h("div", { class: "field" }, h("label", { for: "span" }, "From"), span),
        h("div", { class: "cluster" }, again))));
  load();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}
