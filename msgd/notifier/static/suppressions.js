/** Who gets no mail: looked for, added, taken off. */

import { get, post, remove } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { ago, moment } from "/static/format.js";
import { Notice } from "/static/problem.js";

const REASONS = { unsubscribed: "Unsubscribed", bounced: "No such user", complained: "Complained", added: "Added by hand" };
const PAGE = 50;

export function suppressionList() {
  const wrong = new Notice();
  const list = h("ul", { class: "list" });
  const note = h("p", { class: "empty" }, "Loading…");
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: () => load(next) }, "Show more");
  const search = h("input", { id: "suppressed-search", type: "search", placeholder: "Find an address", "aria-label": "Find an address", autocomplete: "off" });
  const email = h("input", { id: "suppressed-email", inputmode: "email", placeholder: "anna@example.com", "aria-label": "Address that shall get no mail", autocomplete: "off", autocapitalize: "off" });
  let next = null;
  let timer = 0;

  function row(one) {
    const lift = h("button", { class: "button small", type: "button", "aria-label": `Send mail to ${one.email} again`, onclick: async () => {
      lift.disabled = true;
      try {
        await remove(`/api/suppressions/${encodeURIComponent(one.email)}`);
        await load();
      } catch (problem) {
        lift.disabled = false;
        wrong.show(problem, "admin:mail");
      }
    } }, "Take off");
    return h("li", { class: "mail-row mail-suppressed" },
      h("strong", {}, one.email),
      h("span", { class: "soft" }, REASONS[one.reason] ?? one.reason, one.detail ? `: ${one.detail}` : ""),
      h("time", { class: "soft", datetime: one.since, title: moment(one.since) }, ago(one.since)),
      lift);
  }

  async function load(after = "") {
    const query = new URLSearchParams({ limit: PAGE, ...(search.value.trim() && { search: search.value.trim() }), ...(after && { after }) });
    try {
      const found = await get(`/api/suppressions?${query}`);
      wrong.clear();
      if (!after) fill(list);
      list.append(...found.suppressions.map(row));
      next = found.next;
      more.hidden = !next;
      note.hidden = list.children.length > 0;
      text(note, search.value.trim() ? "No address like this is kept from mail." : "Nobody has unsubscribed, and no address has turned out not to be there.");
    } catch (problem) {
      fill(list);
      note.hidden = false;
      text(note, problem.status === 403 ? "Your token does not show who wants no mail; that takes admin:mail." : "This list could not be loaded.");
      if (problem.status !== 403 && problem.status !== 401) wrong.show(problem);
      element.querySelector("form").hidden = problem.status === 403;
    }
  }

  const element = h("section", { class: "stack tight", "aria-label": "Suppressed addresses" },
    h("h2", {}, "Who gets no mail"),
    h("form", { class: "cluster mail-tools", onsubmit: async (event) => {
      event.preventDefault();
      if (!email.value.trim()) return;
      try {
        await post("/api/suppressions", { email: email.value });
        email.value = "";
        await load();
      } catch (problem) {
        wrong.show(problem, "admin:mail");
      }
    } }, search, email, h("button", { class: "button", type: "submit" }, "Send nothing to this one")),
    wrong.element,
    h("div", { class: "panel flush" }, note, list),
    more);
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(load, 300);
  });
  return { element, load };
}
