"use strict";
(() => {
  const body = document.getElementById("runs");
  const rows = Array.from(body.rows);
  const find = document.getElementById("find");
  const sort = document.getElementById("sort");
  const orders = {
    name: (one, two) => one.dataset.name.localeCompare(two.dataset.name),
    day: (one, two) => two.dataset.day.localeCompare(one.dataset.day),
    value: (one, two) => Number(two.dataset.value) - Number(one.dataset.value),
  };
  const apply = () => {
    const words = find.value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLocaleLowerCase().includes(word));
    body.append(...rows.slice().sort(orders[sort.value]));
    document.getElementById("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs`;
  };
  const controls = document.getElementById("controls");
  controls.addEventListener("input", apply);
  controls.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
