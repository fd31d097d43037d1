/** The page on which a crawl is begun. */

import { get, post } from "/static/api.js";
import { fill, h } from "/static/dom.js";
import { Faults } from "/static/faults.js";
import { KINDS } from "/static/format.js";
import { jobList } from "/static/jobs.js";
import { Notice } from "/static/problem.js";

const EXAMPLES = { regex: "€\\s*\\d+", css: ".price", xpath: "//h1", text: "sold out" };
const RECENT = 5;
const DRAFT = "msgd.crawl";

/** Fields that are lists, one entry a line. */
const lines = (value) => value.split("\n").map((line) => line.trim()).filter(Boolean);

export function crawlPage({ main, go, signedOut }) {
  document.title = "New crawl · msgd";
  let key = crypto.randomUUID(); // one job, however often the button is pressed
  const url = h("input", {
    id: "url", class: "big", name: "url", inputmode: "url", autocomplete: "url", autocapitalize: "off", spellcheck: "false",
    placeholder: "https://example.com/", required: true,
  });
  const criteria = h("div", { class: "criteria" });
  const wrong = new Notice();
  const button = h("button", { class: "button main", type: "submit" }, "Start the crawl");
  const limit = (id, label, attributes, hint) => h("div", { class: "field" },
    h("label", { for: id }, label),
    h("input", { id, name: id, inputmode: "decimal", autocomplete: "off", "aria-describedby": `${id}-hint`, ...attributes }),
    h("p", { class: "hint", id: `${id}-hint` }, hint));
  const scope = (id, label, hint) => h("div", { class: "field wide" },
    h("label", { for: id }, label),
    h("textarea", { id, name: id, rows: 2, spellcheck: "false", autocapitalize: "off" }),
    h("p", { class: "hint" }, hint));
  const limits = h("details", {},
    h("summary", {}, "Limits and scope"),
    h("div", { class: "limits fields" },
      limit("max_pages", "Pages", { value: "1000" }, "at most"),
      limit("depth", "Depth", { value: "5" }, "links away from the start"),
      limit("delay", "Delay", { value: "auto" }, "seconds between requests, or auto"),
      limit("concurrency", "At once", { value: "8" }, "requests under way"),
      limit("max_seconds", "Seconds", { placeholder: "no limit" }, "for the whole crawl"),
      scope("allow", "Only addresses that match", "one pattern a line; empty: the whole site"),
      scope("deny", "No addresses that match", "one pattern a line")));
  const form = h("form", { class: "panel stack", novalidate: true },
    h("div", { class: "field" }, h("label", { for: "url" }, "Where to begin"), url),
    h("fieldset", { class: "stack" },
      h("legend", {}, "What to look for"),
      criteria,
      h("div", {}, h("button", { class: "button small", type: "button", onclick: () => addCriterion().focus() }, "Add another"))),
    limits,
    wrong.element,
    h("div", { class: "cluster" }, button, h("span", { class: "soft small" }, "It goes on when you close this page.")));

  const named = ["url", "max_pages", "depth", "delay", "concurrency", "max_seconds", "allow", "deny"];
  const faults = new Faults(Object.fromEntries(named.map((name) => [name, form.elements.namedItem(name)])), wrong);

  function addCriterion({ name = "", kind = "regex", expression = "", attr = "" } = {}) {
    const id = `c${crypto.randomUUID()}`;
    const nameField = h("input", { id: `${id}-name`, autocomplete: "off", placeholder: "price", maxlength: 80 });
    const kindField = h("select", { id: `${id}-kind` },
      ...Object.entries(KINDS).map(([value, label]) => h("option", { value }, label)));
    const field = h("input", {
      id: `${id}-expression`, class: "mono", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      "aria-describedby": `${id}-wrong`,
    });
    const attrField = h("input", { id: `${id}-attr`, class: "mono", autocomplete: "off", placeholder: "text", maxlength: 80 });
    const rowWrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert", hidden: true });
    nameField.value = name;
    kindField.value = kind;
    field.value = expression;
    attrField.value = attr;
    const example = () => { field.placeholder = EXAMPLES[kindField.value]; };
    kindField.addEventListener("change", example);
    example();
    const row = h("div", { class: "criterion", role: "group", "aria-label": "Criterion" },
      h("div", { class: "field" }, h("label", { for: nameField.id }, "Name"), nameField),
      h("div", { class: "field" }, h("label", { for: kindField.id }, "Kind"), kindField),
      h("div", { class: "field expression" }, h("label", { for: field.id }, "Expression"), field),
      h("div", { class: "field" }, h("label", { for: attrField.id }, "Attribute"), attrField),
      h("button", {
        class: "button quiet remove", type: "button", "aria-label": "Remove this criterion",
        onclick: () => {
          row.remove();
          if (!criteria.children.length) addCriterion();
        },
      }, "Remove"),
      rowWrong);
    row.read = () => {
      const [given, sort, wanted, from] = [nameField, kindField, field, attrField].map((one) => one.value.trim());
      return { name: given, kind: sort, expression: wanted, attr: from };
    };
    row.complain = (message) => {
      rowWrong.hidden = !message;
      rowWrong.textContent = message;
      if (message) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    };
    row.addEventListener("input", () => row.complain(""));
    criteria.append(row);
    return nameField;
  }

  function draft() {
    const values = Object.fromEntries(new FormData(form));
    return { ...values, criteria: [...criteria.children].map((row) => row.read()) };
  }

  function params() {
    const values = draft();
    const address = values.url.trim();
    const wanted = {
      url: /^[a-z][a-z0-9+.-]*:\/\//i.test(address) ? address : `http://${address}`,
      match: values.criteria.filter((one) => one.expression).map(({ name, kind, expression, attr }) => (
        { ...(name && { name }), [kind]: expression, ...(attr && { attr }) })),
    };
    for (const name of ["max_pages", "depth", "concurrency", "max_seconds", "delay"]) {
      const value = values[name].trim();
      if (value) wanted[name] = value === "auto" || Number.isNaN(Number(value)) ? value : Number(value);
    }
    for (const name of ["allow", "deny"]) {
      if (lines(values[name]).length) wanted[name] = lines(values[name]);
    }
    return wanted;
  }

  /** Show a problem where it belongs. */
  function complain(problem) {
    const rows = [...criteria.children].filter((row) => row.read().expression);
    const index = /^(?:params\.?)?match\[(\d+)\]/.exec(problem.where)?.[1];
    if (index !== undefined && rows[index]) {
      rows[index].complain(problem.message.replace(/^\w+: /, "")); // the kind: it stands beside it
      rows[index].querySelector("input.mono").focus();
    } else {
      faults.show(problem, problem.status === 403 ? "submit:crawl" : "");
    }
  }

  function clear() {
    faults.clear();
    for (const row of criteria.children) row.complain("");
  }

  form.addEventListener("input", () => {
    key = crypto.randomUUID(); // another question, another job
    sessionStorage.setItem(DRAFT, JSON.stringify(draft()));
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear();
    if (!url.value.trim()) {
      faults.tell("url", "Give the address of a page to begin with.");
      return;
    }
    button.disabled = true;
    try {
      const job = await post("/api/jobs", { type: "crawl", params: params(), key });
      sessionStorage.removeItem(DRAFT);
      go(`/jobs/${job.id}`);
    } catch (problem) {
      if (problem.status === 401) signedOut();
      else complain(problem);
    } finally {
      button.disabled = false;
    }
  });

  const kept = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  for (const one of kept?.criteria ?? [{}]) addCriterion(one);
  for (const [name, value] of Object.entries(kept ?? {})) {
    const field = form.elements.namedItem(name);
    if (name !== "criteria" && field) field.value = value;
  }

  const recent = h("section", { class: "stack tight", "aria-label": "Recent jobs" });
  let left = false;
  get(`/api/jobs?mine=1&type=crawl&limit=${RECENT}`).then(({ jobs }) => {
    if (!left && jobs.length) {
      fill(recent,
        h("div", { class: "cluster spread" }, h("h2", {}, "Your latest crawls"), h("a", { href: "/jobs", "data-nav": true }, "All jobs")),
        h("div", { class: "panel flush" }, jobList(jobs)));
    }
  }).catch((problem) => problem.status === 401 && signedOut());

  fill(main,
    h("div", {},
      h("h1", {}, "Crawl a site"),
      h("p", { class: "lead" }, "Give an address and what to look for. Rows appear as they are found, and wait for you here if you leave.")),
    form,
    recent);
  url.focus();
  return () => { left = true; };
}
