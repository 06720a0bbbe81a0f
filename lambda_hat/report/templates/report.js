"use strict";
(() => {
  const table = document.querySelector("#trial-table table");
  if (table) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const count = document.querySelector("#shown");
    const filter = document.querySelector("#filter");

    // Cells without a value go last, whichever way the others go.
    const compare = (index, sign) => (a, b) => {
      const [x, y] = [a.cells[index].dataset.v, b.cells[index].dataset.v];
      if (x === "" || y === "") return (x === "") - (y === "");
      const difference = heads[index].classList.contains("number") ? x - y : x.localeCompare(y);
      return sign * difference;
    };
    const sort = (name, isDescending) => {
      const index = heads.findIndex((head) => head.dataset.name === name);
      if (index < 0) return;
      const rows = [...body.rows].sort(compare(index, isDescending ? -1 : 1));
      body.replaceChildren(...rows);
      heads.forEach((head, place) => {
        if (place === index) head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
    };
    const show = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${body.rows.length}`;
    };
    const followHash = () => {
      const wanted = new URLSearchParams(location.hash.slice(1));
      const name = wanted.get("sort");
      if (name) sort(name.replace(/^-/, ""), name.startsWith("-"));
      if (wanted.has("filter")) {
        filter.value = wanted.get("filter");
        show();
      }
    };
    for (const head of heads)
      head.querySelector("button").addEventListener("click", () =>
        sort(head.dataset.name, head.getAttribute("aria-sort") === "ascending"));
    filter.addEventListener("input", show);
    addEventListener("hashchange", followHash);
    show();
    followHash();
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
})();
