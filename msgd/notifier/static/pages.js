/**
 * The pages, in the order of the navigation. One entry makes a page: its address (which `msgd/notifier/site.py` serves,
 * and what lies one word below it), its name, and the function that shows it, loaded when it is first asked for.
 *
 * A page is given `context` (see app.js) and the word below its address, or ""; it fills `context.main`, and returns a
 * function that ends it, or nothing.
 */

export const PAGES = [
  { path: "/", label: "New crawl", load: async () => (await import("/static/crawl.js")).crawlPage },
  {
    path: "/jobs",
    label: "Jobs",
    load: async () => (await import("/static/jobs.js")).jobsPage,
    loadOne: async () => (await import("/static/job.js")).jobPage,
  },
  { path: "/uploads", label: "Uploads", load: async () => (await import("/static/uploads.js")).uploadsPage },
  {
    path: "/mail",
    label: "Mail",
    load: async () => (await import("/static/mail.js")).mailPage,
    loadOne: async () => (await import("/static/mailing.js")).mailingPage,
  },
  { path: "/rooms", label: "Rooms", load: async () => (await import("/static/rooms.js")).roomsPage },
  { path: "/notifications", label: "Notifications", load: async () => (await import("/static/notifications.js")).notificationsPage },
  { path: "/rules", label: "Rules", load: async () => (await import("/static/rules.js")).rulesPage },
  {
    path: "/webhooks",
    label: "Webhooks",
    load: async () => (await import("/static/webhooks.js")).webhooksPage,
    loadOne: async () => (await import("/static/webhook.js")).webhookPage,
  },
  { path: "/topics", label: "Topics", load: async () => (await import("/static/topics.js")).topicsPage },
];

/** What stands at any other address. */
const NONE = { path: "", label: "No such page", load: async () => (await import("/static/nothing.js")).nothingPage };

/** The page at an address, and the word below it. */
export function pageAt(pathname) {
  const [, first, word = "", ...more] = pathname.split("/");
  const page = more.length ? NONE : PAGES.find((one) => one.path === `/${first}`) ?? NONE;
  let decoded = word;
  try {
    decoded = decodeURIComponent(word);
  } catch { /* a stray % stands for itself */ }
  return { page, word: decoded, load: (word && page.loadOne) || page.load };
}
