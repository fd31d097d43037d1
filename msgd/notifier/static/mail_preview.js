/* Shows the HTML it is given. The policy of this document lets no script of that HTML run, and it has an origin of its
   own: it reaches nothing of ours. Pictures are fetched, as mail programs do. */

addEventListener("message", (event) => {
  if (event.source !== parent || typeof event.data?.html !== "string") return;
  const given = new DOMParser().parseFromString(event.data.html, "text/html");
  for (const one of given.querySelectorAll("script, base, meta, link, iframe, object, embed")) one.remove();
  document.head.querySelectorAll("style").forEach((one) => one.remove());
  document.head.append(...given.head.querySelectorAll("style"));
  document.body.replaceWith(document.adoptNode(given.body));
});
addEventListener("click", (event) => event.preventDefault()); // no link leads out of a preview
parent.postMessage("ready", "*");
