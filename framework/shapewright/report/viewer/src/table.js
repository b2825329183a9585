// Tables whose headings are buttons that sort.

/** Make the headings with `aria-sort` of a table sort its rows. */
export function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, heading.dataset.kind === "number", down);
    });
  });
}

function sortRows(body, column, numeric, down) {
  const keyed = [...body.rows].map((row, index) => {
    const cell = row.cells[column];
    const known = !numeric || cell.dataset.value !== undefined;
    return { row, index, known, key: numeric ? Number(cell.dataset.value) : cell.textContent };
  });
  const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
  keyed.sort((a, b) => {
    if (a.known !== b.known) return a.known ? -1 : 1; // no figure comes last either way
    const order = a.known ? compare(a.key, b.key) : 0;
    return (down ? -order : order) || a.index - b.index;
  });
  body.append(...keyed.map((entry) => entry.row));
}
