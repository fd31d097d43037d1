/** What this browser keeps between visits: JSON in its storage. Where storage is blocked, nothing is kept. */

export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`msgd.${name}`) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`msgd.${name}`);
    else localStorage.setItem(`msgd.${name}`, JSON.stringify(value));
  } catch { /* full or blocked: it counts until the page is left */ }
}

/** Call `changed` when another tab keeps something else under `name`. @returns {() => void} ends it */
export function watchKept(name, changed) {
  const listen = (event) => event.key === `msgd.${name}` && changed();
  addEventListener("storage", listen);
  return () => removeEventListener("storage", listen);
}
