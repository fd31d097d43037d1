/** What is wrong with a form, said beside the field that it is about until that is changed. */

import { h, text } from "/static/dom.js";
import { sentence } from "/static/problem.js";

/** What the server's check of shapes says, in words; all else that it says is made for people. */
const SHAPES = [
  [/^Expected `(?:str|array)` of length >= 1\b/, () => "Fill this in."],
  [/^Expected `str` of length <= (\d+)/, (most) => `At most ${most} characters.`],
  [/^Expected `array` of length <= (\d+)/, (most) => `At most ${most} of them.`],
  [/^Expected `(?:int|float)` >= (\S+)/, (least) => `A number, ${least} at least.`],
  [/^Expected `(?:int|float)` > (\S+)/, (least) => `A number above ${least}.`],
  [/^Expected `(?:int|float)` <= (\S+)/, (most) => `A number, ${most} at most.`],
  [/^Expected `(?:int|float)(?: \| \w+)*`/, () => "A number."],
];

/** A field is wrong for being empty. */
const isEmpty = (message) => /^Expected `(?:str|array)` of length >= 1\b/.test(message);

function words(message) {
  for (const [shape, say] of SHAPES) {
    const found = shape.exec(message);
    if (found) return say(found[1]);
  }
  return sentence(message);
}

export class Faults {
  /**
   * @param {Record<string, HTMLElement>} fields by the name that the API has for them
   * @param {Record<string, string>} [missing] what to say of those that are empty
   * @param {import("/static/problem.js").Notice} notice for what is about no field
   */
  constructor(fields, notice, missing = {}) {
    this.fields = fields;
    this.notice = notice;
    this.missing = missing;
    this.shown = new Map(); // field → its words
    for (const field of new Set(Object.values(fields))) {
      for (const kind of ["input", "change"]) field.addEventListener(kind, () => this.mended(field));
    }
  }

  /** Say what is wrong where it belongs, and bring it into view. @param {any} problem @param {string} [right] */
  show(problem, right = "") {
    const where = (problem.where ?? "").replace(/^(body|params)\b\.?/, "");
    const prefix = /^(\w+)(?:[:[]|$)/;
    const name = [where.split(/[.[]/)[0], prefix.exec(problem.message)?.[1] ?? ""].find((one) => Object.hasOwn(this.fields, one));
    if (name === undefined || problem.status === 403) {
      this.notice.show(problem, right);
      this.notice.element.scrollIntoView({ block: "nearest" });
      return;
    }
    const message = problem.message.replace(new RegExp(`^${name}(?:\\[\\d+\\])?: `), "");
    this.tell(name, (isEmpty(message) && this.missing[name]) || words(message));
  }

  /** Say it of one field. */
  tell(name, message) {
    const field = this.fields[name];
    const id = `${field.id}-wrong`;
    if (!this.shown.has(field)) {
      const place = h("p", { class: "wrong", id, role: "alert" });
      (field.closest(".field") ?? field).append(place);
      this.shown.set(field, { place, described: field.getAttribute("aria-describedby") });
      field.setAttribute("aria-describedby", [field.getAttribute("aria-describedby"), id].filter(Boolean).join(" "));
    }
    text(this.shown.get(field).place, message);
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    field.focus({ preventScroll: true });
    (field.closest(".field") ?? field).scrollIntoView({ block: "nearest" });
  }

  /** A field was changed: what was said of it, and of the form, is of before. */
  mended(field) {
    this.notice.clear();
    const told = this.shown.get(field);
    if (!told) return;
    told.place.remove();
    this.shown.delete(field);
    field.removeAttribute("aria-invalid");
    if (told.described) field.setAttribute("aria-describedby", told.described);
    else field.removeAttribute("aria-describedby");
  }

  clear() {
    this.notice.clear();
    for (const field of [...this.shown.keys()]) this.mended(field);
  }
}
