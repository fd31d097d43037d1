/** The page of webhooks: the endpoints, and a form for one more. */

import { get, post } from "/static/api.js";
import { fill, h } from "/static/dom.js";
import { Faults } from "/static/faults.js";
import { ago, moment } from "/static/format.js";
import { Notice, isForbidden, isStranger } from "/static/problem.js";
import { openSecret } from "/static/webhook_secret.js";

const PAGE = 50;

export const webhookPath = (id) => `/webhooks/${encodeURIComponent(id)}`;

/** How an endpoint is: a word and the colour that goes with it. */
export function endpointState(endpoint) {
  if (!endpoint.enabled) return h("span", { class: "state", dataset: { state: "cancelled" } }, "Disabled");
  if (endpoint.failing_since) return h("span", { class: "state", dataset: { state: "failed" } }, "Failing");
  return h("span", { class: "state", dataset: { state: "done" } }, "Enabled");
}

function note(endpoint, sub) {
  const parts = [endpoint.description];
  if (endpoint.owner !== sub) parts.push(`of ${endpoint.owner}`);
  if (!endpoint.enabled) parts.push(endpoint.reason);
  else if (endpoint.failing_since) parts.push(`failing since ${moment(endpoint.failing_since)}`);
  return parts.filter(Boolean).join(" · ");
}

export function webhooksPage({ main, session, go, signedOut }) {
  document.title = "Webhooks · msgd";
  const wrong = new Notice();
  const refused = new Notice();
  const list = h("div", { class: "panel flush", "aria-busy": "true" }, h("p", { class: "empty" }, "Loading…"));
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: () => load() }, "Show more");
  const url = h("input", { id: "url", type: "url", class: "mono", required: true, maxlength: 2000, autocomplete: "off", placeholder: "https://example.com/hook" });
  const description = h("input", { id: "description", maxlength: 200, autocomplete: "off", dir: "auto", placeholder: "What it is for" });
  const faults = new Faults({ url, description }, refused);
  const button = h("button", { class: "button main", type: "submit", id: "add" }, "Add the endpoint");
  const rows = [];
  let after = "";
  let left = false;

  const row = (endpoint) => h("li", {},
    h("a", { class: "list-row", href: webhookPath(endpoint.id), "data-nav": true },
      h("span", { class: "list-state" }, endpointState(endpoint)),
      h("span", { class: "list-title", title: endpoint.url }, endpoint.url.replace(/^https?:\/\//, "")),
      h("time", { class: "list-end", datetime: endpoint.created, title: moment(endpoint.created) }, ago(endpoint.created)),
      h("span", { class: "list-note" }, note(endpoint, session.sub) || "\u00a0")));

  async function load() {
    more.disabled = true;
    try {
      const page = await get(`/api/webhooks?${new URLSearchParams({ limit: String(PAGE), after })}`);
      if (left) return;
      wrong.clear();
      rows.push(...page.webhooks);
      after = page.next ?? "";
      more.hidden = !page.next;
      if (rows.length) fill(list, h("ul", { class: "list" }, ...rows.map(row)));
      else fill(list, h("div", { class: "empty" }, h("h2", {}, "No endpoints yet"), h("p", {}, "Add the address of a server of yours: what it is sent is signed with a secret that only the two of you know.")));
    } catch (problem) {
      if (left) return;
      if (isStranger(problem)) signedOut();
      else wrong.show(problem);
      if (!rows.length) fill(list, h("p", { class: "empty" }, "The endpoints could not be loaded."));
    } finally {
      more.disabled = false;
      list.setAttribute("aria-busy", "false");
    }
  }

  async function add(event) {
    event.preventDefault();
    faults.clear();
    if (!url.value.trim()) {
      faults.tell("url", "Give the address that is to be sent to.");
      return;
    }
    button.disabled = true;
    try {
      const made = await post("/api/webhooks", { url: url.value.trim(), description: description.value.trim() });
      openSecret(made.secret, () => go(webhookPath(made.id)));
    } catch (problem) {
      if (isStranger(problem)) signedOut();
      else faults.show(problem, isForbidden(problem) ? "submit:webhook" : "");
    } finally {
      button.disabled = false;
    }
  }

  fill(main,
    h("h1", {}, "Webhooks"),
    h("form", { class: "panel stack", novalidate: true, onsubmit: add, "aria-label": "A new endpoint" },
      h("div", { class: "fields" },
        h("div", { class: "field" }, h("label", { for: "url" }, "URL"), url),
        h("div", { class: "field" }, h("label", { for: "description" }, "Description"), description)),
      refused.element,
      h("div", { class: "cluster" }, button)),
    wrong.element,
    list,
    more);
  load();
  return () => { left = true; };
}
