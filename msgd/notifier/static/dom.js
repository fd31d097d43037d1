/** Elements from values. Text only ever becomes text: nothing here parses HTML. */

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] `class`, `dataset`, `on…` listeners, properties that exist, attributes
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "class") element.className = String(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child || child === 0 || child === "").map((child) =>
    child instanceof Node ? child : String(child)));
  return element;
}

/** Put `children` in place of what `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter(Boolean));
}

/**
 * The same, but what is as it is wanted stays: the focus in it, and a press of it that is under way, which would go to
 * nobody if it were replaced. Only for what needs no other listeners than before.
 */
export function renew(element, ...children) {
  const wanted = children.filter(Boolean);
  wanted.forEach((child, at) => {
    const there = element.childNodes[at];
    if (!there) element.append(child);
    else if (there.isEqualNode(child)) return;
    else if (there.firstElementChild && there.cloneNode().isEqualNode(child.cloneNode())) renew(there, ...child.childNodes);
    else there.replaceWith(child);
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

/** Set an element's text, but only if it changes: screen readers and selections are left in peace. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** A link's address, if it is one that may be followed: what a crawled page contains is never trusted. */
export function webAddress(value, base = undefined) {
  try {
    const url = new URL(String(value), base);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** An address with what matters in it set off: the host. Anything else as it is. */
export function address(value) {
  const parts = /^(https?:\/\/)([^/?#]+)(.*)$/s.exec(value);
  return parts ? [h("span", { class: "soft" }, parts[1]), h("strong", {}, parts[2]), parts[3]] : [h("strong", {}, value)];
}

/** A link to a page of the web in a new tab, or its text alone; `base` makes relative ones links too. */
export function outside(value, base = undefined) {
  const href = webAddress(value, base);
  return href ? h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, String(value)) : String(value);
}
