// The report page: makes its table sortable, draws its plots, shows its meshes.

import { everyCell } from "./cells.js";
import { el } from "./dom.js";
import { Gallery } from "./gallery.js";
import { badge } from "./pipelines.js";
import { drawPlots } from "./plots.js";
import { sortable } from "./table.js";
import { redraw } from "./view.js";

const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const resolutions = [...new Set(data.cells.map((cell) => cell.resolution))].sort((a, b) => (a ?? 0) - (b ?? 0));
const state = {
  resolution: resolutions.at(-1),
  chosen: new Set(data.pipelines.keys()),
  filter: "",
  dataset: data.rows[0].dataset,
  column: Math.max(0, data.columns.findIndex((column) => column.better)),
  shown: { boundary: true, back: true, errors: false, material: true, coarsest: -2, decades: 3 },
};

sortable(by("summary"));
const plots = () => drawPlots(by("plots-drawn"), data, state);
const gallery = new Gallery(by("gallery"), data, state);
const rebuild = () => {
  const found = gallery.refresh();
  by("found").textContent = state.filter ? `${found} of ${data.samples.length} shapes` : "";
};

function choice(id, entries, chosen, onchange) {
  const select = by(id);
  select.append(...entries.map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
  select.addEventListener("change", () => onchange(select.value));
  select.closest("label").hidden = entries.length < 2;
}

// Both pickers of the resolution show the same state.
function chooseResolution(resolution) {
  state.resolution = resolution;
  document.querySelectorAll("[data-resolutions] button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.value === String(resolution)));
  });
  plots();
  rebuild();
}

for (const picker of document.querySelectorAll("[data-resolutions]")) {
  picker.append(
    ...resolutions.map((resolution) =>
      el("button", { type: "button", value: String(resolution), "aria-pressed": String(resolution === state.resolution), onclick: () => chooseResolution(resolution) }, resolution ?? "own"),
    ),
  );
}

by("legend").append(
  ...data.pipelines.map((name, pipeline) => {
    const button = el("button", { type: "button", "aria-pressed": "true" }, badge(pipeline), name);
    button.addEventListener("click", () => {
      const on = state.chosen.has(pipeline);
      if (on) state.chosen.delete(pipeline);
      else state.chosen.add(pipeline);
      button.setAttribute("aria-pressed", String(!on));
      plots();
      rebuild();
    });
    return button;
  }),
);

const figures = data.columns
  .map((column, index) => [String(index), column.title, column])
  .filter(([, , column]) => column.better && !/^(seconds|peak_memory)/.test(column.figure));
choice("figure", figures, String(state.column), (value) => {
  state.column = Number(value);
  plots();
});
choice("dataset", [...new Set(data.rows.map((row) => row.dataset))].map((name) => [name, name]), state.dataset, (value) => {
  state.dataset = value;
  plots();
});
plots();

by("show-material").closest("label").hidden = !data.materials;
for (const name of ["boundary", "back", "material", "errors"]) {
  by(`show-${name}`).addEventListener("change", (event) => {
    state.shown[name] = event.target.checked;
    by("scale").hidden = !state.shown.errors;
    redraw();
  });
  state.shown[name] = by(`show-${name}`).checked; // a browser may keep it over a reload
}
by("scale").hidden = !state.shown.errors;
const ticks = () => {
  const { coarsest, decades } = state.shown;
  const labels = Array.from({ length: decades + 1 }, (_, k) => el("span", {}, `${k === decades ? "≥ " : ""}${Number((10 ** (coarsest - decades + k)).toPrecision(1))}`));
  by("scale-ticks").replaceChildren(...labels);
};
by("coarsest").addEventListener("change", (event) => {
  state.shown.coarsest = Number(event.target.value);
  ticks();
  redraw();
});
state.shown.coarsest = Number(by("coarsest").value);
ticks();

by("filter").addEventListener("input", (event) => {
  state.filter = event.target.value;
  rebuild();
});
everyCell(by("cells"), data, (cell) => chooseResolution(cell.resolution));
document.documentElement.dataset.ready = "yes";
