// For each shape: its reference and every result, side by side, turning together. Built when scrolled to.

import { Camera } from "./camera.js";
import { el, number } from "./dom.js";
import { readDisplayMesh } from "./display_mesh.js";
import { badge, colourOf } from "./pipelines.js";
import { redraw, renderer, View } from "./view.js";

const CELL_FIGURES = 3;

/** All shapes. `state`: `{resolution, chosen, filter, shown}`. */
export class Gallery {
  constructor(target, data, state) {
    Object.assign(this, { target, data, state });
    this.figures = data.columns.map((column, index) => ({ ...column, index })).filter((column) => !column.detail);
    this.byShape = data.samples.map(() => []);
    data.cells.forEach((cell) => this.byShape[cell.sample].push(cell));
    this.sections = data.samples.map((sample, index) => this.section(sample, index));
    target.append(...this.sections.map((section) => section.node));
    this.sight = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const section = this.sections[entry.target.dataset.index];
          section.near = entry.isIntersecting;
          if (section.near) this.fill(section);
        }
      },
      { rootMargin: "500px" },
    );
    this.sections.forEach((section) => this.sight.observe(section.node));
  }

  section(sample, index) {
    const grid = el("div", { class: "views" });
    const heading = el("h3", {}, sample.id, el("span", { class: "tags" }, sample.tags.join(" · ")));
    const node = el("section", { class: "shape", id: `shape-${index}`, "data-index": index, "aria-label": sample.id }, heading, grid);
    return { node, grid, sample, index, camera: new Camera(redraw, sample.radius), views: [], filled: false, near: false };
  }

  /** What was switched or filtered; sections in sight are built again. */
  refresh() {
    const words = this.state.filter.toLowerCase();
    let found = 0;
    for (const section of this.sections) {
      const { sample } = section;
      const fits = `${sample.id} ${sample.dataset} ${sample.tags.join(" ")}`.toLowerCase().includes(words);
      section.node.hidden = !fits;
      found += fits;
      this.empty(section);
      if (fits && section.near) this.fill(section);
    }
    return found;
  }

  empty(section) {
    section.views.forEach((view) => view.close());
    section.views = [];
    if (section.filled) section.grid.style.minHeight = `${section.grid.offsetHeight}px`; // the page must not jump
    section.grid.replaceChildren();
    section.filled = false;
  }

  fill(section) {
    if (section.filled) return;
    section.filled = true;
    const cells = this.byShape[section.index].filter((cell) => this.state.chosen.has(cell.pipeline));
    const here = cells.filter((cell) => cell.resolution === this.state.resolution);
    section.grid.replaceChildren(
      this.reference(section),
      ...here.map((cell) => this.result(section, cell)),
      ...(here.length ? [] : [el("p", { class: "empty" }, "No result at this resolution with these pipelines.")]),
    );
    section.grid.style.minHeight = "";
  }

  reference(section) {
    const { sample } = section;
    const caption = el("figcaption", {}, el("strong", {}, "Reference"), this.faces(sample.view));
    return el("figure", { class: "view reference" }, this.picture(section, sample.view, `Reference ${sample.id}`), caption);
  }

  result(section, cell) {
    const name = this.data.pipelines[cell.pipeline];
    const heading = el("strong", {}, badge(cell.pipeline), name);
    const style = `--own: ${colourOf(cell.pipeline)}`;
    if (cell.status === "failed") {
      const reason = el("div", { class: "picture failed" }, el("p", {}, el("b", {}, "✕ failed "), cell.reason));
      return el("figure", { class: "view", style }, reason, el("figcaption", {}, heading));
    }
    const values = el("dl", {});
    const quality = this.figures.filter((column) => column.better && !/^(seconds|peak_memory)/.test(column.figure));
    const seconds = this.figures.filter((column) => column.figure === "seconds.total");
    for (const column of [...quality.slice(0, CELL_FIGURES), ...seconds]) {
      values.append(el("div", {}, el("dt", {}, column.title), el("dd", {}, number(cell.values[column.index], 3))));
    }
    const warnings = cell.warnings.length
      ? el("details", { class: "warnings" }, el("summary", {}, `⚠ ${cell.warnings.length === 1 ? "a note" : `${cell.warnings.length} notes`}`), ...cell.warnings.map((line) => el("p", {}, line)))
      : null;
    const label = `${name}, ${section.sample.id}, resolution ${cell.resolution ?? "its own"}`;
    const caption = el("figcaption", {}, heading, values, this.faces(cell.view, cell.faces), warnings);
    return el("figure", { class: "view", style }, this.picture(section, cell.view, label), caption);
  }

  faces(view, full) {
    const [shown, all] = view >= 0 ? this.data.views[view] : [full ?? 0, full ?? 0];
    if (view < 0 && full === undefined) return null;
    const text = shown < all ? `shown simplified: ${number(shown)} of ${number(all)} faces` : `${number(all)} faces`;
    return el("p", { class: shown < all ? "faces coarse" : "faces" }, text);
  }

  picture(section, view, label) {
    if (view < 0) return el("div", { class: "picture empty" }, el("p", {}, "No mesh was kept for this view."));
    if (!renderer()) return el("div", { class: "picture empty" }, el("p", {}, "3D views need WebGL 2, which is off in this browser."));
    const canvas = el("canvas", {
      class: "picture",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "3D view",
      "aria-label": `${label}. Arrow keys turn, plus and minus zoom, Home goes back.`,
    });
    section.views.push(new View(canvas, () => loadView(view), section.camera, this.state.shown));
    return canvas;
  }
}

const loaded = new Map();
const KEPT = 64;

/** A mesh of the page by number; the ones used last are kept ready. */
export function loadView(number) {
  let promise = loaded.get(number);
  loaded.delete(number);
  promise ??= readDisplayMesh(document.getElementById(`view-${number}`).textContent);
  loaded.set(number, promise);
  if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
  return promise;
}
