"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const { review, answers, images } = JSON.parse(byId("data").textContent);

  /* answers: by rater, kept in this browser under the sample's name */
  const place = `allfour-review-${review}`;
  const values = new Set(answers.map((answer) => answer.value));
  const names = new Set(images.map((entry) => entry.image));
  const raters = new Map();
  let current = "";
  let stored = true;
  try {
    const kept = JSON.parse(localStorage.getItem(place) || "{}");
    for (const [rater, given] of Object.entries(kept.raters || {})) {
      raters.set(rater, new Map(Object.entries(given).filter(([image, value]) => names.has(image) && values.has(value))));
    }
    if (raters.has(kept.current)) current = kept.current;
  } catch { stored = false; }
  const save = () => {
    try {
      const kept = Object.fromEntries(Array.from(raters, ([rater, given]) => [rater, Object.fromEntries(given)]));
      localStorage.setItem(place, JSON.stringify({ current, raters: kept }));
      stored = true;
    } catch { stored = false; }
    byId("storage").hidden = stored;
  };

  let position = 0;
  const mine = () => raters.get(current);
  const firstOpen = () => {
    const found = images.findIndex((entry) => !mine().has(entry.image));
    return found < 0 ? images.length : found;
  };
  const show = (name) => { for (const id of ["start", "work", "finish"]) byId(id).hidden = id !== name; };
  const buttons = Array.from(byId("answers").children);
  const count = (number) => number.toLocaleString("en");

  const draw = (words = "") => {
    const entry = images[position];
    if (!entry) {
      show("finish");
      byId("exported").textContent = "";
      byId("finish-title").focus();
      return;
    }
    show("work");
    const given = mine().get(entry.image);
    byId("image").src = entry.src;
    byId("image").alt = `Image ${position + 1}, to be labelled`;
    byId("place").textContent = `Image ${count(position + 1)} of ${count(images.length)}`;
    byId("done-count").textContent = `${count(mine().size)} labelled`;
    byId("progress").value = mine().size;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === given));
    byId("back").disabled = position === 0;
    byId("forward").disabled = given === undefined;
    byId("said").textContent = `${words} Image ${position + 1} of ${images.length}${given === undefined ? "" : ", labelled already"}.`;
  };
  const answer = (value) => {
    mine().set(images[position].image, value);
    save();
    position += 1;
    draw(`${answers.find((one) => one.value === value).text}.`);
  };
  const back = () => { if (position > 0) { position -= 1; draw(); } };
  const forward = () => { if (images[position] && mine().has(images[position].image)) { position += 1; draw(); } };

  /* the file: one line per answer; the rater's name is the only foreign text in it */
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const save_file = () => {
    const lines = ["review,rater,image,label"];
    for (const entry of images) {
      if (mine().has(entry.image)) lines.push([review, quoted(current), entry.image, quoted(mine().get(entry.image))].join(","));
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv;charset=utf-8" }));
    link.download = `review-${review.slice(0, 8)}-${current.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "") || "rater"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    const words = `${count(mine().size)} of ${count(images.length)} answers written to ${link.download}.`;
    byId("said").textContent = words;
    byId("exported").textContent = words;
  };

  const begin = () => {
    const rater = byId("rater").value.normalize("NFC").trim().replace(/\s+/g, " ");
    const fits = /^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._'’-]{0,59}$/u.test(rater);
    byId("rater").setAttribute("aria-invalid", String(!fits));
    byId("rater-note").classList.toggle("wrong", !fits);
    if (!fits) {
      byId("rater-note").textContent = "Please use letters, digits, spaces, dots and hyphens, beginning with a letter or digit.";
      byId("rater").focus();
      return;
    }
    current = rater;
    if (!raters.has(rater)) raters.set(rater, new Map());
    save();
    position = firstOpen();
    draw();
    if (images[position]) byId("place").focus();
  };

  byId("begin").addEventListener("click", begin);
  byId("rater").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); begin(); } });
  for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.value));
  byId("back").addEventListener("click", back);
  byId("forward").addEventListener("click", forward);
  byId("export").addEventListener("click", save_file);
  byId("export-end").addEventListener("click", save_file);
  byId("review-again").addEventListener("click", () => { position = 0; draw(); byId("place").focus(); });
  byId("change").addEventListener("click", () => { show("start"); byId("rater").value = ""; byId("rater").focus(); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.id === "rater") return;
    if (!byId("start").hidden || !byId("keys").checked) return;
    if (event.key === "Backspace" || event.key === "ArrowLeft") { event.preventDefault(); back(); return; }
    if (byId("work").hidden) return;
    if (event.key === "ArrowRight") { event.preventDefault(); forward(); return; }
    const found = answers.find((one) => one.key === event.key.toUpperCase());
    if (found) { event.preventDefault(); answer(found.value); }
  });

  if (current) {
    byId("rater").value = current;
    position = firstOpen();
    draw();
  } else show("start");
})();
