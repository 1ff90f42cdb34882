"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const images = data.images;

  /* filter and sort */
  const list = byId("figure-prompts");
  const even = Number(list.dataset.even);
  const rows = Array.from(list.children).map((element) => ({
    element,
    text: element.dataset.text.toLocaleLowerCase(),
    rank: Number(element.dataset.rank),
    share: Number(element.dataset.share),
    sure: Number(element.dataset.sure),
    away: Number(element.dataset.away),
    verdict: element.dataset.verdict,
    kinds: element.dataset.kinds.split(" "),
  }));
  const controls = byId("controls");
  const missing = ["refused", "failed", "unreadable", "other"];
  const fits = (row, show) => {
    if (!show) return true;
    if (show === "unanimous") return row.verdict !== "mixed" && row.verdict !== "n";
    if (show === "mixed") return row.verdict === "mixed";
    if (show.startsWith("all-")) return row.verdict === show.slice(4);
    const kind = show.slice(4);
    if (kind === "missing") return row.kinds.some((found) => missing.includes(found));
    if (kind === "ambiguous") return row.kinds.includes("ambiguous") || row.kinds.includes("mixed");
    return row.kinds.includes(kind);
  };
  const orders = {
    rank: (one, two) => one.rank - two.rank,
    text: (one, two) => one.text.localeCompare(two.text) || one.rank - two.rank,
    confidence: (one, two) => one.sure - two.sure || one.rank - two.rank,
    away: (one, two) => two.away - one.away || one.rank - two.rank,
    balance: (one, two) => Math.abs(one.share - even) - Math.abs(two.share - even) || one.rank - two.rank,
  };
  let sorted = "rank";
  const apply = () => {
    const words = byId("find").value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const show = byId("show").value;
    const below = byId("sure-below").value;
    let count = 0;
    for (const row of rows) {
      const on = words.every((word) => row.text.includes(word)) && fits(row, show) && (!below || row.sure < Number(below));
      row.element.hidden = !on;
      count += on ? 1 : 0;
    }
    const order = byId("sort").value;
    if (order !== sorted) {
      sorted = order;
      list.append(...rows.slice().sort(orders[order]).map((row) => row.element));
    }
    byId("shown").textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} prompts`;
    byId("none").hidden = count > 0;
  };

  /* the filter is in the address, so that what is seen can be sent */
  const fields = ["find", "show", "sure-below", "sort"];
  const remember = () => {
    const state = new URLSearchParams();
    for (const name of fields) {
      const field = byId(name);
      const usual = name === "sort" ? "rank" : "";
      if (field.value.trim() !== usual) state.set(name, field.value.trim());
    }
    const said = state.toString();
    if (said || location.hash.includes("=")) history.replaceState(null, "", `#${said}`);
  };
  const recall = () => {
    const anchor = location.hash.slice(1);
    if (!anchor.includes("=")) {
      const target = anchor && document.getElementById(anchor);
      if (target) reveal(target);
      return;
    }
    const state = new URLSearchParams(anchor);
    for (const name of fields) {
      const value = state.get(name) ?? (name === "sort" ? "rank" : "");
      const field = byId(name);
      if (name === "find" || Array.from(field.options, (option) => option.value).includes(value)) field.value = value;
    }
    apply();
  };

  /* rows and sections that are folded */
  const unfold = (row, open) => {
    row.classList.toggle("open", open);
    row.querySelector(".unfold").setAttribute("aria-expanded", String(open));
  };
  const reveal = (target) => {
    const row = target.closest(".row");
    if (row) {
      if (row.hidden) { controls.reset(); apply(); }
      unfold(row, true);
    }
    const folded = target.matches("section.folded") ? target.querySelector(".fold") : target.closest("details");
    if (folded) folded.open = true;
  };
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row || event.target.closest("a, .thumb, summary, .row-more")) return;
    const open = row.classList.contains("open");
    if (open && !event.target.closest(".unfold")) return;
    unfold(row, !open);
  });
  byId("unfold").addEventListener("click", (event) => {
    const open = event.target.getAttribute("aria-pressed") !== "true";
    for (const row of rows) unfold(row.element, open);
    event.target.setAttribute("aria-pressed", String(open));
    event.target.textContent = open ? "Close all" : "Open all";
  });
  /* also where the address is that already: a square may be followed twice */
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (target) reveal(target);
  });
  addEventListener("hashchange", recall);
  controls.addEventListener("input", () => { apply(); remember(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(() => { apply(); remember(); }));
  byId("reset-empty").addEventListener("click", () => { controls.reset(); byId("find").focus(); });
  apply();
  recall();

  /* image detail */
  const dialog = byId("detail");
  let opener = null;
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const scoreBlock = (score, people) => {
    const block = make("div", undefined, "score");
    block.append(make("h3", people ? `${score.attribute}, person ${score.person + 1}: ${score.decision}` : `${score.attribute}: ${score.decision}`));
    const ranked = score.probabilities.slice().sort((one, two) => two[1] - one[1]);
    const best = ranked.length ? ranked[0][1] : 0;
    for (const [label, value] of ranked) {
      const line = make("div", undefined, value === best ? "score-line best" : "score-line");
      const chart = document.createElementNS(SVG, "svg");
      chart.setAttribute("width", "100%");
      chart.setAttribute("height", "8");
      chart.setAttribute("aria-hidden", "true");
      const bar = document.createElementNS(SVG, "rect");
      bar.setAttribute("width", `${Math.max(value * 100, 0.3)}%`);
      bar.setAttribute("height", "8");
      chart.append(bar);
      line.append(make("span", label), chart, make("span", value.toFixed(3)));
      block.append(line);
    }
    return block;
  };
  /* a numbered box around everybody that was found, in shares of the picture */
  const frame = ({ number, box, kind }) => {
    const [left, top, right, bottom] = box;
    const shapes = ["halo", `s-${kind}`].map((name) => {
      const shape = document.createElementNS(SVG, "rect");
      for (const [key, value] of [["class", name], ["x", `${left * 100}%`], ["y", `${top * 100}%`], ["width", `${(right - left) * 100}%`], ["height", `${(bottom - top) * 100}%`]]) shape.setAttribute(key, value);
      return shape;
    });
    const text = document.createElementNS(SVG, "text");
    for (const [key, value] of [["x", `${left * 100}%`], ["y", `${top * 100}%`], ["dx", "5"], ["dy", "16"], ["class", "who"]]) text.setAttribute(key, value);
    text.textContent = number;
    return [...shapes, text];
  };
  const visibleThumbs = () => Array.from(list.querySelectorAll(".row:not([hidden]) .thumb"));
  const show = (thumb) => {
    opener = thumb;
    const image = images[Number(thumb.dataset.n)];
    const all = visibleThumbs();
    const picture = thumb.querySelector("img");
    byId("detail-image").hidden = !picture;
    byId("detail-absent").hidden = Boolean(picture);
    if (picture) byId("detail-image").src = picture.src;
    byId("detail-image").alt = picture ? `Image ${image.index} for ${image.prompt}` : "";
    byId("detail-title").textContent = image.prompt;
    byId("detail-label").textContent = `Image ${image.index}: ${image.label}`;
    byId("detail-place").textContent = `${all.indexOf(thumb) + 1} of ${all.length}`;
    const people = image.scores.some((score) => score.person > 0);
    byId("detail-people").replaceChildren(...(picture ? image.people.flatMap(frame) : []));
    byId("detail-scores").replaceChildren(...image.scores.map((score) => scoreBlock(score, people)));
    byId("detail-facts").replaceChildren(...image.facts.map(([name, value]) => {
      const fact = make("div");
      fact.append(make("dt", name), make("dd", value));
      return fact;
    }));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  const step = (by) => {
    const all = visibleThumbs();
    const next = all[(all.indexOf(opener) + by + all.length) % all.length];
    const folded = next.closest("details");
    if (folded) folded.open = true;
    show(next);
  };
  list.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) show(thumb);
  });
  list.addEventListener("keydown", (event) => {
    const thumb = event.target.closest(".thumb");
    if (!thumb || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const strip = Array.from(thumb.closest(".strip").querySelectorAll(".thumb"));
    const next = strip[strip.indexOf(thumb) + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) { next.focus(); event.preventDefault(); }
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => { if (opener) opener.focus(); });

  /* copy a figure as SVG, a table as CSV */
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
    if (figure === list) {
      const shownRows = Array.from(list.querySelectorAll(".row:not([hidden])"));
      return lined([data.prompts.columns, ...shownRows.map((row) => data.prompts.rows[row.id])]);
    }
    const table = figure.querySelector("table");
    const heads = Array.from(table.tHead.rows[0].cells, cellText);
    const body = Array.from(table.tBodies).flatMap((part) => Array.from(part.rows));
    if (!table.querySelector("svg[data-csv]")) return lined([heads, ...body.map((row) => Array.from(row.cells, (cell) => wholeNumber(cellText(cell)) ?? cellText(cell)))]);
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
