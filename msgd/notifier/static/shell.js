/** What stands around every page: navigation with its badges, the menu of small screens, the theme. */

import { announce } from "/static/announce.js";
import { fill, h, text } from "/static/dom.js";
import { PAGES, pageAt } from "/static/pages.js";

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
const MOST = 99; // a badge counts so far

const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Shell {
  /** @param {{signOut: () => void}} options */
  constructor({ signOut }) {
    this.rail = at("rail");
    this.nav = at("nav");
    this.menu = at("menu");
    this.logout = at("logout");
    this.links = new Map();
    this.badges = new Map();
    for (const { path, label } of PAGES) {
      const badge = h("span", { class: "badge", hidden: true });
      const link = h("a", { href: path, "data-nav": true }, h("span", {}, label), badge);
      this.links.set(path, link);
      this.badges.set(path, badge);
    }
    fill(this.nav, ...this.links.values());
    this.menu.addEventListener("click", () => this.open(!this.rail.classList.contains("open")));
    this.rail.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.rail.classList.contains("open")) return;
      this.open(false);
      this.menu.focus();
    });
    this.logout.addEventListener("click", signOut);
    at("theme").addEventListener("click", () => this.nextTheme());
    this.showTheme();
  }

  /** Show who is there, or that nobody is. */
  signed(session) {
    document.body.classList.toggle("signed-out", !session);
    this.nav.hidden = this.logout.hidden = this.menu.hidden = !session;
    at("line-box").hidden = !session;
    fill(this.logout, h("span", {}, session ? `Sign out ${session.sub}` : "Sign out"));
    if (!session) for (const path of this.badges.keys()) this.badge(path, 0);
    this.open(false);
  }

  /** Mark where one is. */
  here(pathname) {
    const { page } = pageAt(pathname);
    for (const [path, link] of this.links) {
      if (path === page.path) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.open(false);
  }

  open(on) {
    this.rail.classList.toggle("open", on);
    this.menu.setAttribute("aria-expanded", String(on));
  }

  /** How many unread there are at a page. */
  badge(path, count) {
    const badge = this.badges.get(path);
    badge.hidden = count === 0;
    text(badge, count > MOST ? `${MOST}+` : count);
    badge.setAttribute("aria-label", `${count > MOST ? `over ${MOST}` : count} unread`);
    const all = [...this.badges.values()].some((one) => !one.hidden);
    text(this.menu, all ? "Menu •" : "Menu");
  }

  /** Whether what is unread is still being counted. */
  counting(on) {
    this.nav.setAttribute("aria-busy", String(on));
  }

  nextTheme() {
    const names = Object.keys(THEMES);
    const theme = names[(names.indexOf(this.theme) + 1) % names.length];
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("msgd.theme", theme); // as theme.js reads it, before anything is drawn
    } catch { /* it counts until the page is left */ }
    this.showTheme();
    announce(THEMES[theme]);
  }

  get theme() {
    return document.documentElement.dataset.theme ?? "auto";
  }

  showTheme() {
    fill(at("theme"), h("span", {}, THEMES[this.theme]));
  }
}
