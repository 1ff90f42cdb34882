/* an image with all that is known of it; the page's data has a record per image, numbered as its thumbnail is */
(() => {
  const byId = (id) => document.getElementById(id);
  const images = JSON.parse(byId("data").textContent).images;
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
  const around = (thumb) => Array.from(thumb.closest(".rows").querySelectorAll(".row:not([hidden]) .thumb"));
  const show = (thumb) => {
    opener = thumb;
    const image = images[Number(thumb.dataset.n)];
    const all = around(thumb);
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
    const all = around(opener);
    const next = all[(all.indexOf(opener) + by + all.length) % all.length];
    const folded = next.closest("details");
    if (folded) folded.open = true;
    show(next);
  };
  document.addEventListener("click", (event) => {
    const thumb = event.target.closest(".rows .thumb");
    if (thumb) show(thumb);
  });
  document.addEventListener("keydown", (event) => {
    const thumb = event.target.closest(".rows .thumb");
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
  /* the picture that was looked at last may be in a row that is still folded */
  dialog.addEventListener("close", () => {
    if (!opener) return;
    const row = opener.closest(".row");
    if (!opener.getClientRects().length && !row.classList.contains("open")) row.querySelector(".unfold").click();
    opener.focus();
  });
})();
