/**
 * The dashboard: who is there, which page, and what all pages share:
 *
 * `context`: main (what a page fills), session (sub, topic, can, expires), connection, go(path), signedOut(), shell,
 * toasts, notices, talks.
 */

import { get, post, remove } from "/static/api.js";
import { fill, h } from "/static/dom.js";
import { shownConnection } from "/static/line.js";
import { loginPage } from "/static/login.js";
import { openEvent } from "/static/notice.js";
import { Notices } from "/static/notices.js";
import { PAGES, pageAt } from "/static/pages.js";
import { Notice } from "/static/problem.js";
import { Shell } from "/static/shell.js";
import { Talks } from "/static/talks.js";
import { Toasts } from "/static/toasts.js";

const main = document.getElementById("main");
const AGAIN_MS = 3000;
const AHEAD_MS = 2000; // after which the other pages are fetched: they open at once, also while the server is away

let context = null;
let ended = false; // a session was there, and is no longer
let leave = () => {};
let shown = 0;

const shell = new Shell({ signOut });
const toasts = new Toasts(document.getElementById("toasts"), { go });

// -- pages ------------------------------------------------------------------------------------------------------------

/** Go to one of our own addresses; the promise is kept when its page is shown. */
function go(path) {
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  return show();
}

async function show() {
  leave();
  leave = () => {};
  fill(main);
  shell.signed(context?.session ?? null);
  shown += 1;
  if (!context) {
    document.title = "Sign in · msgd";
    loginPage({ main, login, ended });
    return;
  }
  const number = shown;
  const { page, word, load } = pageAt(location.pathname);
  shell.here(location.pathname);
  document.title = `${page.label} · msgd`;
  try {
    const open = await load();
    if (number === shown) leave = open(context, word) ?? (() => {});
  } catch (problem) {
    if (number === shown) leave = missed(problem, context.connection);
  }
}

/** A page's script could not be fetched: it is once the server is there again. */
function missed(problem, connection) {
  const reload = () => location.reload();
  const told = () => connection.status === "online" && reload();
  const notice = new Notice();
  notice.show({ status: 0, message: "This page could not be loaded." });
  fill(main, notice.element, h("div", {}, h("button", { class: "button", type: "button", onclick: reload }, "Load again")));
  console.error(problem);
  connection.addEventListener("status", told);
  return () => connection.removeEventListener("status", told);
}

/** Fetch what the other pages need. */
function fetchAhead() {
  for (const { load, loadOne } of PAGES) for (const one of [load, loadOne]) one?.().catch(() => {}); // it is tried when asked for
}

// -- who --------------------------------------------------------------------------------------------------------------

async function login(token) {
  begun(await post("/api/session", { token }));
}

function begun(session) {
  close();
  const connection = shownConnection({
    refused: () => connection === context?.connection && signedOut(),
    expiring: () => toasts.show({
      key: "expiring", title: "Your session ends soon", text: "In a minute you are asked to sign in again, and are back on this page then.",
    }),
  });
  const talks = new Talks({ session, connection, count: (unread) => shell.badge("/rooms", unread) });
  const notices = new Notices({
    session, connection, toasts,
    count: (unread) => shell.badge("/notifications", unread),
    isSeen: (event) => notices.isDirect(event) && !document.hidden && talks.open === `@${event.source}`,
    open: (event) => (notices.isDirect(event) ? go(`/rooms/${encodeURIComponent(`@${event.source}`)}`) : openEvent(event)),
  });
  context = { main, session, connection, go, signedOut, shell, toasts, notices, talks };
  ended = true;
  show();
  shell.counting(true);
  Promise.all([notices.begin(), talks.begin()]).finally(() => connection === context?.connection && shell.counting(false));
  setTimeout(fetchAhead, AHEAD_MS);
}

/** The cookie is gone or has expired: ask for a token, and come back to this page. */
function signedOut() {
  close();
  show();
}

function close() {
  context?.notices.close();
  context?.talks.close();
  context?.connection.close();
  context = null;
  toasts.clear();
}

async function signOut() {
  // First nobody asks for anything any more: what is asked without the cookie is refused, as if the session had ended.
  ended = false;
  close();
  leave();
  leave = () => {};
  await remove("/api/session").catch(() => {});
  show();
}

async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    // Out of the address at once: it must not stay in the history, nor be copied with the link.
    history.replaceState(null, "", location.pathname + location.search);
    try {
      await login(token);
    } catch (problem) {
      shell.signed(null);
      loginPage({ main, login, problem });
    }
    return;
  }
  if (context) return;
  try {
    const found = await get("/api/session");
    if (found.sub === null) show();
    else begun(found);
  } catch (problem) {
    const notice = new Notice();
    notice.show(problem);
    fill(main, notice.element);
    setTimeout(begin, AGAIN_MS);
  }
}

// -- addresses --------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-nav]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute("href"));
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is where tokens come
  main.focus();
});
addEventListener("popstate", show);
addEventListener("hashchange", () => location.hash.startsWith("#token=") && begin());

begin();
