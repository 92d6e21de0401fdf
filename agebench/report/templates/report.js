// Sorting: without this script the tables remain in their order, best first.
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

// Tables that don't fit state how many columns are hidden.
for (const region of document.querySelectorAll(".scroll")) {
  const note = document.createElement("p");
  note.className = "more";
  note.hidden = true;
  region.after(note);
  const update = () => {
    const heads = [...region.querySelectorAll("thead th")];
    const end = region.getBoundingClientRect().right + 1;
    const hidden = heads.filter((head) => head.getBoundingClientRect().right > end).length;
    note.hidden = hidden === 0;
    note.textContent = `${hidden} more ${hidden === 1 ? "column" : "columns"} to the right: scroll the table`;
  };
  region.addEventListener("scroll", update, {passive: true});
  new ResizeObserver(update).observe(region);
}

// Every figure can be saved: as SVG, as PNG, and as PDF through the browser's print dialog.
const INLINED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap",
  "stroke-linejoin", "opacity", "paint-order", "font-family", "font-size", "font-weight"];
const SVG = "http://www.w3.org/2000/svg";

function withInlineStyles(drawing) { // a copy that needs no style sheet, in the light colours
  const copy = drawing.cloneNode(true);
  const from = [drawing, ...drawing.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  document.documentElement.classList.add("plain");
  from.forEach((item, at) => {
    const style = getComputedStyle(item);
    for (const name of INLINED) to[at].setAttribute(name, style.getPropertyValue(name));
  });
  document.documentElement.classList.remove("plain");
  return copy;
}

function standalone(figure) { // with the legend below, on white
  const copy = withInlineStyles(figure.querySelector("svg.plot"));
  const [, , width, height] = copy.getAttribute("viewBox").split(" ").map(Number);
  const legend = figure.closest("section, .opening > div").querySelector(".legend");
  const shared = figure.closest(".figures").dataset.legend === "yes" && legend;
  const keys = shared ? [...legend.children] : [];
  const across = keys.some((item) => item.textContent.length > 24) ? 1 : 2;
  keys.forEach((item, at) => {
    const line = document.createElementNS(SVG, "g"), text = document.createElementNS(SVG, "text");
    const place = [8 + (at % across) * width / 2, height + 6 + 18 * Math.floor(at / across)];
    line.setAttribute("transform", `translate(${place.join(" ")})`);
    text.textContent = item.textContent;
    for (const [name, value] of [["x", 42], ["y", 12], ["fill", "#1b1b1b"], ["font-size", "12px"],
      ["font-family", copy.getAttribute("font-family")]]) text.setAttribute(name, value);
    const key = withInlineStyles(item.querySelector("svg"));
    key.setAttribute("width", 36);
    key.setAttribute("height", 16);
    line.append(key, text);
    copy.append(line);
  });
  const totalHeight = height + (keys.length ? 12 + 18 * Math.ceil(keys.length / across) : 0);
  const paper = document.createElementNS(SVG, "rect");
  for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", "#fff"]]) {
    paper.setAttribute(name, value);
  }
  copy.prepend(paper);
  copy.setAttribute("viewBox", `0 0 ${width} ${totalHeight}`);
  copy.setAttribute("width", "183mm");
  copy.setAttribute("height", `${(183 * totalHeight) / width}mm`);
  copy.removeAttribute("class");
  return copy;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const SAVE = {
  SVG(figure, name) {
    const text = new XMLSerializer().serializeToString(standalone(figure));
    download(new Blob([text], {type: "image/svg+xml"}), `${name}.svg`);
  },
  PNG(figure, name) { // 183 mm at 300 dots per inch
    const drawing = standalone(figure), picture = new Image(), canvas = document.createElement("canvas");
    const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
    canvas.width = 2161;
    canvas.height = Math.round((2161 * height) / width);
    drawing.setAttribute("width", canvas.width);
    drawing.setAttribute("height", canvas.height);
    picture.onload = () => {
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download(blob, `${name}.png`));
    };
    const text = new XMLSerializer().serializeToString(drawing);
    picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  },
  PDF(figure) { // the figure on a sheet of its own, which the print dialog saves as PDF
    const sheet = document.createElement("div");
    sheet.className = "sheet";
    sheet.append(standalone(figure));
    document.body.append(sheet);
    addEventListener("afterprint", () => sheet.remove(), {once: true});
    print();
  },
};

for (const figure of document.querySelectorAll("figure")) {
  const title = figure.querySelector("h2, h3") || figure.closest("section").querySelector("h2");
  const name = title.textContent.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "figure";
  const row = document.createElement("p");
  row.className = "keep";
  for (const kind of Object.keys(SAVE)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", `Save \u201c${title.textContent}\u201d as ${kind}`);
    button.addEventListener("click", () => SAVE[kind](figure, name));
    row.append(button);
  }
  figure.append(row);
}
