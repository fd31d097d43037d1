/** The dashboard: who is there, which page, and the one connection that all pages share. */

import { Connection } from "/msgd.js";
import { get, post, remove } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { crawlPage } from "/static/crawl.js";
import { jobPage } from "/static/job.js";
import { jobsPage } from "/static/jobs.js";
import { loginPage } from "/static/login.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const line = document.getElementById("line");
const lineText = document.getElementById("line-text");
const logout = document.getElementById("logout");

const AGAIN_MS = 3000;

let session = null;
let connection = null;
let leave = () => {};

/** Go to one of our own addresses. */
export function go(path) {
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  show();
}

function route() {
  const path = location.pathname;
  if (path === "/jobs") return jobsPage;
  if (path.startsWith("/jobs/")) return (page) => jobPage(page, decodeURIComponent(path.slice("/jobs/".length)));
  return crawlPage;
}

function show() {
  leave();
  leave = () => {};
  fill(main);
  if (!session) {
    nav.hidden = logout.hidden = line.hidden = true;
    document.title = "Sign in · msgd";
    loginPage({ main, login });
    return;
  }
  nav.hidden = logout.hidden = line.hidden = false;
  for (const link of nav.querySelectorAll("a")) {
    const here = link.getAttribute("href") === "/jobs" ? location.pathname.startsWith("/jobs") : location.pathname === "/";
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  connection ??= connect();
  leave = route()({ main, session, connection, go, signedOut }) ?? (() => {});
}

// -- who --------------------------------------------------------------------------------------------------------------

async function login(token) {
  session = await post("/api/session", { token });
  connection?.close();
  connection = null;
  show();
}

/** The cookie is gone or has expired: ask for a token, and come back to this page. */
function signedOut() {
  session = null;
  connection?.close();
  connection = null;
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
      loginPage({ main, login, problem });
    }
    return;
  }
  if (session) return;
  try {
    const found = await get("/api/session");
    session = found.sub === null ? null : found;
  } catch (problem) {
    fill(main, h("p", { class: "notice bad", role: "alert" }, problem.message));
    setTimeout(begin, AGAIN_MS);
    return;
  }
  show();
}

logout.addEventListener("click", async () => {
  await remove("/api/session").catch(() => {});
  signedOut();
});

// -- the connection ---------------------------------------------------------------------------------------------------

const WORDS = { connecting: "Connecting…", online: "Live", closed: "Not connected", refused: "Signed out" };

function connect() {
  const made = new Connection();
  let ticking = 0;
  const tell = () => {
    clearTimeout(ticking);
    line.dataset.status = made.status === "waiting" ? "offline" : made.status;
    const seconds = Math.ceil((made.retryAt - Date.now()) / 1000);
    if (made.status === "waiting") {
      text(lineText, seconds > 1 ? `Retrying in ${seconds} s` : "Reconnecting…");
      ticking = setTimeout(tell, 1000);
    } else {
      text(lineText, WORDS[made.status]);
    }
    if (made.status === "refused" && made === connection) signedOut();
  };
  made.addEventListener("status", tell);
  tell();
  return made;
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
addEventListener("popstate", show);
addEventListener("hashchange", () => location.hash.startsWith("#token=") && begin());

begin();
