/** What is shown where there is no page. */

import { fill, h } from "/static/dom.js";

export function nothingPage({ main }) {
  fill(main, h("div", { class: "panel empty stack" },
    h("div", {}, h("h1", {}, "There is no such page"), "The address may have been cut off or mistyped."),
    h("div", {}, h("a", { class: "button main", href: "/", "data-nav": true }, "To the dashboard"))));
}
