// One mesh in a notebook cell.

import { Camera } from "./camera.js";
import { readDisplayMesh } from "./display_mesh.js";
import { redraw, renderer, View } from "./view.js";

const canvas = document.querySelector("canvas");
const shown = { boundary: document.getElementById("boundary").checked, back: true, errors: false, material: true, coarsest: -2, decades: 3 };
if (renderer()) {
  const mesh = document.getElementById("mesh").textContent;
  new View(canvas, () => readDisplayMesh(mesh), new Camera(redraw, Number(canvas.dataset.radius)), shown);
} else {
  canvas.replaceWith("3D views need WebGL 2, which is off in this browser.");
}
for (const name of ["boundary", "back", "material"]) {
  document.getElementById(name)?.addEventListener("change", (event) => {
    shown[name] = event.target.checked;
    redraw();
  });
}
