/* lists of prompts: find, show, sort, unfold; what is typed stands in the address, so that what is seen can be sent */
(() => {
  const byId = (id) => document.getElementById(id);
  const amount = (number) => number.toLocaleString("en");

  const unfold = (row, open) => {
    row.classList.toggle("open", open);
    row.querySelector(".unfold").setAttribute("aria-expanded", String(open));
  };

  document.addEventListener("click", (event) => {
    const row = event.target.closest(".rows > .row");
    if (!row || event.target.closest("a, .thumb, summary, .row-more")) return;
    const open = row.classList.contains("open");
    if (open && !event.target.closest(".unfold")) return;
    unfold(row, !open);
  });

  const made = (form) => {
    const list = byId(form.dataset.list);
    const field = (name) => form.elements.namedItem(name);
    const named = ["find", "show", "sure-below", "sort"].filter((name) => field(name));
    const usual = (name) => name === "sort" ? "rank" : "";
    const prefix = form.dataset.prefix;
    const none = byId(`${prefix}none`);
    const rows = Array.from(list.children).map((element) => ({
      element,
      text: element.dataset.text.toLocaleLowerCase(),
      kinds: element.dataset.kinds.split(" "),
      number: (name) => Number(element.dataset[name]),
    }));
    /* an option says by which number it orders: the larger first, or the nearest to one value */
    const order = (option) => {
      const { by, from, down } = option.dataset;
      const rank = (one, two) => one.number("rank") - two.number("rank");
      if (!by) return option.value === "text" ? (one, two) => one.text.localeCompare(two.text) || rank(one, two) : rank;
      const key = (row) => (from === undefined ? row.number(by) : Math.abs(row.number(by) - Number(from))) * (down === undefined ? 1 : -1);
      return (one, two) => key(one) - key(two) || rank(one, two);
    };
    let sorted = "rank";
    const apply = () => {
      const words = field("find").value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
      const kind = field("show").value;
      const below = field("sure-below")?.value;
      let count = 0;
      for (const row of rows) {
        const on = words.every((word) => row.text.includes(word)) && (!kind || row.kinds.includes(kind)) && (!below || row.number("sure") < Number(below));
        row.element.hidden = !on;
        count += on ? 1 : 0;
      }
      const by = field("sort");
      if (by.value !== sorted) {
        sorted = by.value;
        list.append(...rows.slice().sort(order(by.selectedOptions[0])).map((row) => row.element));
      }
      form.querySelector("output").textContent = `${amount(count)} of ${amount(rows.length)} prompts`;
      none.hidden = count > 0;
    };
    const recall = (state) => {
      for (const name of named) {
        const value = state.get(prefix + name) ?? usual(name);
        if (name === "find" || Array.from(field(name).options, (option) => option.value).includes(value)) field(name).value = value;
      }
      apply();
    };
    const remember = (state) => {
      for (const name of named) {
        const value = field(name).value.trim();
        if (value !== usual(name)) state.set(prefix + name, value);
      }
    };
    const reset = () => { form.reset(); apply(); };
    form.querySelector(".unfold-all").addEventListener("click", (event) => {
      const open = event.target.getAttribute("aria-pressed") !== "true";
      for (const row of rows) unfold(row.element, open);
      event.target.setAttribute("aria-pressed", String(open));
      event.target.textContent = open ? "Close all" : "Open all";
    });
    none.querySelector("button").addEventListener("click", () => { form.reset(); field("find").focus(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    return { form, list, apply, recall, remember, reset };
  };

  const lists = Array.from(document.querySelectorAll("form.controls"), made);
  const remember = () => {
    const state = new URLSearchParams();
    for (const one of lists) one.remember(state);
    const said = state.toString();
    if (said || location.hash.includes("=")) history.replaceState(null, "", `#${said}`);
  };
  for (const one of lists) {
    one.form.addEventListener("input", () => { one.apply(); remember(); });
    one.form.addEventListener("reset", () => setTimeout(() => { one.apply(); remember(); }));
  }

  /* what an address leads to is unfolded, also where the address is that already: a square may be followed twice */
  const reveal = (target) => {
    const row = target.closest(".row");
    if (row) {
      if (row.hidden) lists.find((one) => one.list.contains(row))?.reset();
      unfold(row, true);
    }
    const folded = target.matches("section.folded") ? target.querySelector(".fold") : target.closest("details");
    if (folded) folded.open = true;
  };
  const recall = () => {
    const anchor = location.hash.slice(1);
    if (anchor.includes("=")) {
      for (const one of lists) one.recall(new URLSearchParams(anchor));
      return;
    }
    const target = anchor && byId(anchor);
    if (target) reveal(target);
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && byId(link.getAttribute("href").slice(1));
    if (target) reveal(target);
  });
  addEventListener("hashchange", recall);
  for (const one of lists) one.apply();
  recall();
})();
