/* copy a figure as SVG, a table as CSV; of a list of prompts the page's data has the numbers, by row */
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const data = byId("data");
  const tables = data ? JSON.parse(data.textContent).tables : {};
  const SVG = "http://www.w3.org/2000/svg";
  const toast = byId("toast");
  let fading = 0;
  const say = (text) => {
    toast.textContent = text;
    clearTimeout(fading);
    fading = setTimeout(() => { toast.textContent = ""; }, 2500);
  };
  const shown = (element) => element.getClientRects().length > 0;
  const PAINT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap", "font-size", "font-family", "font-weight", "text-anchor"];
  const painted = (original) => {
    const copy = original.cloneNode(true);
    const from = [original, ...original.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((node, place) => {
      const style = getComputedStyle(from[place]);
      for (const name of PAINT) node.setAttribute(name, style.getPropertyValue(name));
      for (const name of ["class", "role", "aria-label", "aria-hidden"]) node.removeAttribute(name);
    });
    return copy;
  };
  const textLines = (element) => {
    const lines = new Map();
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const bottom = element.getBoundingClientRect().bottom + 1;
    while (walker.nextNode()) {
      for (const match of walker.currentNode.data.matchAll(/\S+/g)) {
        const range = document.createRange();
        range.setStart(walker.currentNode, match.index);
        range.setEnd(walker.currentNode, match.index + match[0].length);
        const box = range.getBoundingClientRect();
        if (!box.width || box.bottom > bottom) continue;
        const key = Math.round(box.bottom);
        const line = lines.get(key) || { x: box.left, y: box.bottom - box.height * 0.22, words: [] };
        line.words.push(match[0]);
        lines.set(key, line);
      }
    }
    return lines.values();
  };
  const asSvg = (figure) => {
    const before = root.dataset.theme;
    root.dataset.theme = "light";
    root.classList.add("copying");
    const frame = figure.getBoundingClientRect();
    const pad = 8;
    const out = document.createElementNS(SVG, "svg");
    out.setAttribute("xmlns", SVG);
    out.setAttribute("width", String(Math.ceil(frame.width + 2 * pad)));
    let bottom = 0;
    for (const drawing of figure.querySelectorAll("svg")) {
      if (drawing.parentElement.closest("svg") || !shown(drawing) || drawing.closest(".thumb, .tools")) continue;
      const box = drawing.getBoundingClientRect();
      const copy = painted(drawing);
      for (const [name, value] of [["x", box.left - frame.left + pad], ["y", box.top - frame.top + pad], ["width", box.width], ["height", box.height], ["overflow", "visible"]]) copy.setAttribute(name, String(value));
      out.append(copy);
      bottom = Math.max(bottom, box.bottom - frame.top);
    }
    for (const element of figure.querySelectorAll("[data-svg], th, td.num, caption")) {
      if (!shown(element) || element.closest(".visually-hidden")) continue;
      const style = getComputedStyle(element);
      for (const line of textLines(element)) {
        const text = document.createElementNS(SVG, "text");
        for (const [name, value] of [["x", line.x - frame.left + pad], ["y", line.y - frame.top + pad], ["fill", style.color], ["font-size", style.fontSize], ["font-weight", style.fontWeight], ["font-family", style.fontFamily]]) text.setAttribute(name, String(value));
        text.textContent = line.words.join(" ");
        out.append(text);
        bottom = Math.max(bottom, line.y - frame.top + 6);
      }
    }
    out.setAttribute("height", String(Math.ceil(bottom + 2 * pad)));
    root.classList.remove("copying");
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    return new XMLSerializer().serializeToString(out);
  };
  const cellText = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small, svg").forEach((node) => node.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const quoted = (value) => {
    const safe = /^[=+@\t\r|%-]/.test(value) && !/^-?[\d.]+%?$/.test(value) ? `'${value}` : value;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lined = (lines) => lines.map((line) => line.map((value) => quoted(String(value ?? ""))).join(",")).join("\n");
  const wholeNumber = (text) => /^[\d,]+$/.test(text) ? text.replaceAll(",", "") : text === "·" ? "0" : null;
  /* numbers, not words: a chart's value and ends as they were computed, counts without marks between thousands */
  const numbersOf = (cell) => {
    const charts = Array.from(cell.querySelectorAll("svg[data-csv]"));
    if (cell.matches(".figure-cell")) return charts.length ? charts[0].dataset.csv.split(",") : ["", "", ""];
    if (cell.matches("th")) return [cellText(cell)];
    if (cell.dataset.csv !== undefined) return [cell.dataset.csv];
    const counts = cellText(cell).match(/^([\d,]+) of ([\d,]+)$/);
    return counts ? counts.slice(1).map(wholeNumber) : wholeNumber(cellText(cell)) === null ? [] : [wholeNumber(cellText(cell))];
  };
  const namesOf = (cell, head) => {
    const name = cell.dataset.name ? `${cell.dataset.name}_` : "";
    if (cell.matches(".figure-cell")) return ["value", "low", "high"].map((part) => name + part);
    const width = numbersOf(cell).length;
    return width === 2 ? [head, `${head} of`] : width === 1 ? [head] : [];
  };
  const asCsv = (figure) => {
    const known = tables[figure.id];
    if (known) {
      const shownRows = Array.from(figure.querySelectorAll(".row:not([hidden])"));
      return lined([known.columns, ...shownRows.map((row) => known.rows[row.id])]);
    }
    const table = figure.querySelector("table");
    const heads = Array.from(table.tHead.rows[0].cells, cellText);
    const body = Array.from(table.tBodies).flatMap((part) => Array.from(part.rows));
    if (!table.querySelector("[data-csv]")) return lined([heads, ...body.map((row) => Array.from(row.cells, (cell) => wholeNumber(cellText(cell)) ?? cellText(cell)))]);
    const names = Array.from(body[0].cells).flatMap((cell, place) => namesOf(cell, heads[place]));
    return lined([names, ...body.map((row) => Array.from(row.cells).flatMap(numbersOf))]);
  };
  const save = (text, name, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const svg = button.dataset.copy === "svg";
    const figure = byId(button.dataset.target);
    const text = svg ? asSvg(figure) : asCsv(figure);
    try {
      await navigator.clipboard.writeText(text);
      say(svg ? "Figure copied as SVG" : "Table copied as CSV");
    } catch {
      save(text, `${button.dataset.target}.${svg ? "svg" : "csv"}`, svg ? "image/svg+xml" : "text/csv");
      say("Saved as a file");
    }
  });
})();
