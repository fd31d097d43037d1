/** Problems as people need them: what went wrong, and what to do. */

import { h } from "/static/dom.js";

/** What helps, by status of HTTP or code of the WebSocket. */
const ADVICE = {
  0: "Is the network there? This page goes on by itself as soon as the server answers.",
  401: "Sign in again: what is on this page stays.",
  404: "It may have been removed, or not be yours to see.",
  409: "Load the page again: somebody else was faster.",
  413: "Send less at once.",
  429: "Wait a moment before you try again.",
  503: "The server is busy or restarting. Try again in a moment.",
};

const STATUS = { unavailable: 503, forbidden: 403, unauthenticated: 401, "token-expired": 401, "token-revoked": 401, "not-found": 404, "too-large": 413, "rate-limited": 429, conflict: 409 };

/** The status of a Problem of the API, or what a code of the connection amounts to. */
function statusOf(problem) {
  return problem.status || (problem.code ? STATUS[problem.code] ?? 500 : 0);
}

export const isForbidden = (problem) => statusOf(problem) === 403;
/** Whether one has as much as one may have: what helps is to delete something. */
export const isFull = (problem) => problem.code === "quota-exceeded";
export const isStranger = (problem) => statusOf(problem) === 401;

export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/**
 * @param {any} problem a Problem of the API or an MsgdError of the connection
 * @param {string} right that what was tried takes, such as `publish:room.kitchen`
 * @returns {{message: string, advice: (Node | string)[]}}
 */
export function explain(problem, right = "") {
  const status = statusOf(problem);
  if (status === 403 && right) {
    return { message: sentence(problem.message), advice: ["Missing: the right ", h("code", {}, right), ". Whoever gives out tokens can add it: ",
      h("code", {}, `msgd token --sub … --can '${right}'`)] };
  }
  const wait = problem.retryAfter ? `Try again in ${problem.retryAfter} s.` : isFull(problem) ? "" : ADVICE[status];
  return { message: sentence(problem.message || "Something went wrong."), advice: wait ? [wait] : [] };
}

/** A place on a page where problems are shown, empty at first. */
export class Notice {
  constructor() {
    this.element = h("p", { class: "notice bad", role: "alert", hidden: true });
  }

  /** @param {any} problem @param {string} [right] */
  show(problem, right) {
    const { message, advice } = explain(problem, right);
    this.element.replaceChildren(h("strong", {}, message), ...(advice.length ? [h("span", { class: "advice" }, ...advice)] : []));
    this.element.hidden = false;
  }

  clear() {
    this.element.hidden = true;
    this.element.replaceChildren();
  }
}
