// Asks for the same page again and puts what has changed in its place; times become "12 s ago".
"use strict";
const EVERY_MS = 2000, HIDDEN_MS = 15000;
const parts = [...document.querySelectorAll("[data-live]")];
const shown = new Map(parts.map(part => [part.id, part.innerHTML]));
const connection = document.getElementById("connection");
let tag = null, silentSince = null, told = 0;

function ago(time) {
  const s = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  return s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min ago` : time.title;
}

function tellTimes() {
  for (const time of document.querySelectorAll("time")) {
    if (!time.title) time.title = time.textContent;
    const text = ago(time);
    if (time.textContent !== text) time.textContent = text;
  }
}

function put(part, fresh) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...part.querySelectorAll(".wide[id]")].map(wide => [wide.id, wide.scrollLeft]);
  part.replaceChildren(...fresh.childNodes);
  for (const [id, left] of scrolled) { const wide = document.getElementById(id); if (wide) wide.scrollLeft = left; }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function look() {
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.redirected) return location.replace(answer.url); // the store's first sweep has come
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!parts.some(part => page.getElementById(part.id))) return location.reload(); // it is another page by now
      for (const part of parts) {
        const fresh = page.getElementById(part.id), text = fresh?.innerHTML;
        if (fresh && shown.get(part.id) !== text) { shown.set(part.id, text); put(part, fresh); }
      }
      tellTimes();
    }
    silentSince = null;
    connection.hidden = true;
  } catch {
    silentSince ??= new Date();
    connection.textContent = `The server has not answered since ${silentSince.toLocaleTimeString()}; what you see is from then.`;
    connection.hidden = false;
  }
  told += 1;
  document.documentElement.dataset.looks = told;
}

async function keepLooking() {
  for (;;) {
    await new Promise(done => setTimeout(done, document.hidden ? HIDDEN_MS : EVERY_MS));
    await look();
  }
}

tellTimes();
setInterval(tellTimes, 1000);
if (parts.length) keepLooking();
