// Sorting: without this script the tables are as they are, best first.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, at) => {
    const cell = row.cells[at];
    const number = cell.dataset.value;
    return number === undefined ? cell.textContent.trim() : Number(number);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? (a < b ? -1 : a > b ? 1 : 0)
      : String(a).localeCompare(String(b));
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const missing = (row) => value(row, at) === Infinity;
      const rows = [...body.rows].sort((a, b) =>
        missing(a) - missing(b) || (up ? 1 : -1) * compare(value(a, at), value(b, at)));
      body.append(...rows);
    });
  });
}

// A table that is wider than its place says how many columns can't be seen.
for (const place of document.querySelectorAll(".scroll")) {
  const note = document.createElement("p");
  note.className = "more";
  note.hidden = true;
  place.after(note);
  const tell = () => {
    const heads = [...place.querySelectorAll("thead th")];
    const end = place.getBoundingClientRect().right + 1;
    const hidden = heads.filter((head) => head.getBoundingClientRect().right > end).length;
    note.hidden = hidden === 0;
    note.textContent = `${hidden} more ${hidden === 1 ? "column" : "columns"} to the right: scroll the table`;
  };
  place.addEventListener("scroll", tell, {passive: true});
  new ResizeObserver(tell).observe(place);
}
