"use strict";

const home = document.title;
const leaderboard = document.getElementById("leaderboard");
const filters = document.getElementById("filters");
const rows = [...leaderboard.querySelectorAll("tr[data-text]")];

// Sorting: a header becomes a button; rows without a value stay last, whatever the order.

function valueOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.classList.contains("n") ? null : cell.textContent.trim();
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sort(header) {
  const { first } = header.dataset;
  const other = first === "ascending" ? "descending" : "ascending";
  const order = header.ariaSort === first ? other : first;
  for (const each of header.parentElement.cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const body of header.closest("table").querySelectorAll("tbody:not(.note)")) {
    const keyed = [...body.rows].map((row) => [valueOf(row, header.cellIndex), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  }
}

for (const header of leaderboard.querySelectorAll("th[data-first]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sort(header));
  header.append(button);
}

// Filtering: a row stays if it has every word and equals every choice.

function filter() {
  const { text, ...choices } = Object.fromEntries(new FormData(filters));
  const words = text.toLowerCase().split(/\s+/);
  for (const row of rows) {
    const chosen = Object.entries(choices).every(([name, value]) => !value || row.dataset[name] === value);
    row.hidden = !(chosen && words.every((word) => row.dataset.text.toLowerCase().includes(word)));
  }
  for (const group of leaderboard.querySelectorAll(".group")) {
    group.hidden = !group.querySelector("tr[data-text]:not([hidden])");
  }
  const left = rows.filter((row) => !row.hidden).length;
  filters.querySelector("output").value = left === rows.length ? "" : `${left} of ${rows.length} shown`;
}

filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(filter));
filters.hidden = false;

// Views: the address chooses one, which is made of its text when it is first asked for; the title and the focus follow.

function open() {
  const text = document.querySelector(`noscript[data-view="${CSS.escape(location.hash.slice(1))}"]`);
  if (!text) return;
  text.outerHTML = text.textContent;
  location.replace(location.hash); // the style sheet sees a target that was there before
}

function follow(event) {
  open();
  const heading = document.querySelector(".model:target h2");
  document.title = heading ? `${heading.textContent}, ${home}` : home;
  const left = event?.oldURL && new URL(event.oldURL).hash;
  const back = left && leaderboard.querySelector(`a[href="${CSS.escape(left)}"]`);
  const next = heading ?? back;
  if (next) next.focus({ preventScroll: Boolean(heading) });
}

window.addEventListener("hashchange", follow);
window.addEventListener("pageshow", () => {
  filter(); // a browser may have kept what was typed
  follow();
});
