/* Tables are sorted by a click on a heading: by number where both cells begin with one, else as text. */
document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".cell_output, .wide, article table")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0; // so that keys can scroll it
  }
  for (const table of document.querySelectorAll("article table")) {
    if (table.closest(".cell_output")) continue; // of a notebook, as it was printed
    const body = table.tBodies[0];
    if (table.tHead?.rows.length !== 1 || !body || body.rows.length < 4) continue;
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      if (!cell.textContent.trim()) return;
      const button = Object.assign(document.createElement("button"), { className: "sort", type: "button" });
      button.append(...(cell.querySelector("p") ?? cell).childNodes);
      cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[i]?.textContent.trim().replace(/−/g, "-").replace(/,(?=\d{3})/g, "") ?? "";
        const order = (a, b) => {
          const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
          return Number.isNaN(x) || Number.isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
        };
        body.append(...[...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
      });
    });
  }
});
