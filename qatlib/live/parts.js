/* Small parts of the page, and how numbers are written. */
export const $ = (id) => document.getElementById(id);

export function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
  select.closest("label").hidden = options.length < 2;
}

export function distinct(entries, key, text) {
  return [...new Map(entries.map((entry) => [entry[key], entry[text]]))];
}

/* The table of integers. */
export function list(head, lines) {
  const row = (cells, kind) => {
    const made = document.createElement("tr");
    made.append(...cells.map((text, i) => Object.assign(document.createElement(i ? kind : "th"), { textContent: text,
      scope: kind === "th" ? "col" : i ? "" : "row" })));
    return made;
  };
  $("head").replaceChildren(row(head, "th"));
  $("values").replaceChildren(...lines.map((line) => row(line, "td")));
}

export function decimal(number) {
  return number.toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).replace("-", "−");
}

export function thousands(number) {
  return Number(number).toLocaleString("en-GB").replace("-", "−");
}
