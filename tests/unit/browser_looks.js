// What a script of look_at() in browser.py can ask of a page.
const show = (item) => item.outerHTML.slice(0, 90).replace(/\s+/g, " ");
function box(item) { return item.getBoundingClientRect(); }

// What reaches beyond the right end of the page.
function sideways(page) {
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("main p, main svg, main li, h1, h2, h3, pre, dd, table")]
    .filter((item) => !item.closest(".scroll") && box(item).width > 0)
    .filter((item) => box(item).right > root.clientWidth + 0.5).map(show);
  return {inner: root.clientWidth, scroll: root.scrollWidth, wide};
}

// Rows whose first cell is out of sight when the table is scrolled to its end.
function nameless(page) {
  const found = [];
  for (const place of page.querySelectorAll(".scroll")) {
    place.scrollLeft = place.scrollWidth;
    const ends = box(place);
    for (const row of place.querySelectorAll("tbody tr")) {
      const cell = row.cells[0], at = box(cell);
      const seen = at.left >= ends.left - 1 && at.left < ends.right - 20 && at.width > 8;
      if (!seen || !cell.textContent.trim()) found.push(show(row));
    }
    place.scrollLeft = 0;
  }
  return found;
}

// Words of one drawing that cover each other by more than a pixel in both directions.
function overlapping(page) {
  const found = [];
  for (const drawing of page.querySelectorAll("svg.plot")) {
    const words = [...drawing.querySelectorAll("text")].filter((item) => item.textContent.trim());
    for (let i = 0; i < words.length; i++) for (let j = 0; j < i; j++) {
      const a = box(words[i]), b = box(words[j]);
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const up = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && up > 1) found.push(`${words[i].textContent} | ${words[j].textContent}`);
    }
  }
  return found;
}

// Text whose colour is too near to what lies behind it: WCAG 2.1, success criterion 1.4.3.
function channels(text, window) {
  const pen = channels.pen ??= document.createElement("canvas")
    .getContext("2d", {willReadFrequently: true});
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = "rgba(0,0,0,0)";
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
function luminance(rgb) {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(item, window) {
  const layers = [];
  for (let at = item; at; at = at.parentElement) layers.push(channels(window.getComputedStyle(at).backgroundColor));
  let under = window.matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  for (const [r, g, b, a] of layers.reverse()) under = under.map((v, i) => v * (1 - a) + [r, g, b][i] * a);
  return under;
}
function faint(page, window) {
  const found = new Set();
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const item = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || item.closest("script, style, noscript, option, [hidden]")) continue;
    const style = window.getComputedStyle(item), at = box(item);
    if (!at.width || style.visibility === "hidden" || item.closest("[aria-hidden=true]")) continue;
    const drawn = item.closest("svg") !== null;
    const ink = channels(drawn ? style.fill : style.color);
    const under = behind(item, window);
    const over = under.map((v, i) => v * (1 - ink[3]) + ink[i] * ink[3]);
    const [low, high] = [luminance(over), luminance(under)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    if (ratio < (size >= 24 || (bold && size >= 18.66) ? 3 : 4.5)) {
      found.add(`${ratio.toFixed(2)} ${show(item)}`);
    }
  }
  return [...found];
}
