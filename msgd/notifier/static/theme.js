/* Runs before the first paint: the theme that was chosen in this browser. None chosen: the system's counts. */
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("msgd.theme");
  } catch { /* storage is blocked: the system's counts */ }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
