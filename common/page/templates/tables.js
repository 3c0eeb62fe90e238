// A click (or Enter) on a heading of a .sortable table sorts its rows: data-sort of a cell, else its text.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) continue;
  const value = (row, index) => {
    const cell = row.cells[index];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  };
  const empty = (one) => one === "" || one === "–";
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), "en", { numeric: true });
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    head.classList.add("can-sort");
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, index), row]);
      rows.sort(([one], [other]) => {
        if (empty(one) || empty(other)) return empty(one) - empty(other);
        return (down ? -1 : 1) * compare(one, other);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
