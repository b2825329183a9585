// A canvas that shows one mesh: drawn when it comes into sight, its memory given back when it is far away.

import { Renderer } from "./renderer.js";

let shared;
/** The page's only renderer; `null` where the browser has no WebGL. */
export function renderer() {
  if (shared === undefined) {
    try {
      shared = new Renderer();
      shared.onrestore = () => near.forEach((view) => view.invalidate());
    } catch {
      shared = null;
    }
  }
  return shared;
}

const near = new Set();
const waiting = new Set();
const views = new WeakMap();
const sight = new IntersectionObserver(
  (entries) => entries.forEach((entry) => views.get(entry.target).sighted(entry.isIntersecting)),
  { rootMargin: "200px" },
);
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => views.get(entry.target).invalidate()));

export class View {
  /** `load()` gives a promise of the mesh; `shown` is what is switched on, shared by all views. */
  constructor(canvas, load, camera, shown) {
    Object.assign(this, { canvas, load, camera, shown, mesh: null });
    views.set(canvas, this);
    camera.steer(canvas);
    sight.observe(canvas);
    sizes.observe(canvas);
  }

  async sighted(visible) {
    if (!visible) {
      near.delete(this);
      this.mesh = null;
      this.canvas.width = this.canvas.height = 1; // gives its memory back
      delete this.canvas.dataset.drawn;
      return;
    }
    near.add(this);
    try {
      this.mesh ??= await this.load();
      this.invalidate();
    } catch (error) {
      this.canvas.replaceWith(Object.assign(document.createElement("p"), { className: "empty", textContent: `This mesh cannot be shown: ${error.message}` }));
    }
  }

  invalidate() {
    if (!waiting.size) requestAnimationFrame(drawWaiting);
    waiting.add(this);
  }

  close() {
    sight.unobserve(this.canvas);
    sizes.unobserve(this.canvas);
    near.delete(this);
    waiting.delete(this);
  }

  draw() {
    if (!this.mesh || !near.has(this)) return;
    const box = this.canvas.getBoundingClientRect();
    const width = Math.round(box.width * window.devicePixelRatio);
    const height = Math.round(box.height * window.devicePixelRatio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    renderer().draw(this.mesh, this.camera, this.shown, this.canvas);
    this.canvas.dataset.drawn = "yes";
  }
}

function drawWaiting() {
  const now = [...waiting];
  waiting.clear();
  now.forEach((view) => view.draw());
}

/** Draw every view in sight again, after something was switched. */
export function redraw() {
  near.forEach((view) => view.invalidate());
}
