"use strict";
/* a page of work in progress: it loads itself again until told to pause, which it remembers while the window is open */
(() => {
  const pause = document.getElementById("pause");
  if (!pause) return;
  const seconds = Number(pause.dataset.seconds), key = "allfour-paused";
  let paused = sessionStorage.getItem(key) === "yes", timer = 0;
  const show = () => {
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    clearTimeout(timer);
    if (!paused) timer = setTimeout(() => location.reload(), 1000 * seconds);
  };
  pause.addEventListener("click", () => { paused = !paused; sessionStorage.setItem(key, paused ? "yes" : "no"); show(); });
  show();
})();
