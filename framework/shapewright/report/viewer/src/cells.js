// The table of every cell, made when it is opened.

import { el, number } from "./dom.js";
import { sortable } from "./table.js";

/** Fill `details` with a row a cell when it is opened; `show(cell)` brings a cell's views into sight. */
export function everyCell(details, data, show) {
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const head = ["shape", "pipeline", "R", "status", ...data.columns.map((column) => column.title)].map((title, index) =>
      el("th", { scope: "col", "aria-sort": "none", "data-kind": index === 2 || index > 3 ? "number" : "text" }, el("button", { type: "button" }, title)),
    );
    const body = el("tbody", {});
    for (const cell of data.cells) {
      const sample = data.samples[cell.sample];
      const link = el("a", { href: `#shape-${cell.sample}` }, sample.id);
      link.addEventListener("click", () => show(cell));
      const status = cell.status === "ok" ? "ok" : `✕ ${cell.reason}`;
      body.append(
        el(
          "tr",
          { class: cell.status },
          el("th", { scope: "row" }, link),
          el("td", { class: "text" }, data.pipelines[cell.pipeline]),
          el("td", { "data-value": cell.resolution }, cell.resolution ?? "own"),
          el("td", { class: "text" }, status),
          ...cell.values.map((value) => el("td", { "data-value": value }, number(value))),
        ),
      );
    }
    const table = el("table", { class: "figures" }, el("thead", {}, el("tr", {}, ...head)), body);
    details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every cell" }, table));
    sortable(table);
  });
}
