/** Words for screen readers alone, said when they have finished what they say. */

import { text } from "/static/dom.js";

const TOGETHER_MS = 800; // what happens within it is said once: ten messages are one announcement

let pending = [];
let timer = 0;

/** @param {string} words */
export function announce(words) {
  pending.push(words);
  clearTimeout(timer);
  timer = setTimeout(() => {
    const said = pending.length > 3 ? `${pending.length} news. ${pending.at(-1)}` : pending.join(". ");
    text(document.getElementById("said"), said);
    pending = [];
  }, TOGETHER_MS);
}
