"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");
  const byId = (id) => document.getElementById(id);
  const images = JSON.parse(byId("data").textContent).images;

  /* theme */
  const theme = byId("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const showTheme = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-pressed", String(dark())); };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; showTheme(); });
  showTheme();

  /* filter and sort */
  const list = byId("rows");
  const rows = Array.from(list.children).map((element) => ({
    element,
    text: element.querySelector("h3").textContent.toLocaleLowerCase(),
    rank: Number(element.dataset.rank),
    share: Number(element.dataset.share),
    sure: Number(element.dataset.sure),
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
    balance: (one, two) => Math.abs(one.share - 0.5) - Math.abs(two.share - 0.5) || one.rank - two.rank,
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
  controls.addEventListener("input", apply);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(apply));
  byId("reset-empty").addEventListener("click", () => { controls.reset(); byId("find").focus(); });
  apply();

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
    const best = Math.max(...score.probabilities.map((pair) => pair[1]));
    for (const [label, value] of score.probabilities) {
      const line = make("div", undefined, value === best ? "score-line top" : "score-line");
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
})();
