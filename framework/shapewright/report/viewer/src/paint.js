// Read what is painted on a display mesh, and put its faces in the order in which they are drawn.

import { bytes, planes } from "./reader.js";

const [UVS, COLORS] = [8, 16];

/**
 * The paint of `mesh`, whose faces are sorted on the way: by material, those that may be seen through last.
 * `uvs` have `v` downward, as the pictures are uploaded; `groups` are runs of faces of one material.
 */
export async function readPaint(reader, flags, vertices, mesh) {
  const steps = flags & UVS ? [0, 1].map(() => planes(reader, vertices, 2)) : null;
  const colors = new Uint8Array(4 * vertices).fill(255);
  for (let channel = 0; flags & COLORS && channel < 4; channel++) {
    const changes = bytes(reader, vertices);
    for (let i = 0, sum = 0; i < vertices; i++) colors[4 * i + channel] = sum += changes[i];
  }
  const rows = planes(reader, mesh.faces.length / 3, 2);
  const [length] = new Uint32Array(bytes(reader, 4).buffer);
  const told = JSON.parse(new TextDecoder().decode(bytes(reader, length)));
  const files = told.images.map((size) => new Blob([bytes(reader, size)]));
  // Multiplied by alpha, so that what is clear lends no colour to what lies beside it.
  const images = await Promise.all(
    files.map((file) => createImageBitmap(file, { premultiplyAlpha: "premultiply", colorSpaceConversion: "none" })),
  );
  const uvs = new Float32Array(2 * vertices);
  steps?.forEach((changes, axis) => {
    for (let i = 0, sum = 0; i < vertices; i++) {
      sum += (changes[i] >>> 1) ^ -(changes[i] & 1);
      const place = told.uv[axis] + sum * told.uv[2];
      uvs[2 * i + axis] = axis ? 1 - place : place;
    }
  });
  const materials = told.materials.map((material) => ({ ...material, picture: images[material.image] ?? null }));
  return { uvs, colors, materials, ...sortFaces(mesh, rows, materials) };
}

/** Sort `mesh.faces` in place; returns `{groups, clear}`: runs of opaque faces, and the run of the others. */
function sortFaces(mesh, rows, materials) {
  const rank = (row) => (materials[row].alpha === "blend" ? materials.length : 0) + row;
  const order = Uint32Array.from(rows.keys()).sort((a, b) => rank(rows[a]) - rank(rows[b]) || a - b);
  const faces = mesh.faces.slice();
  order.forEach((face, place) => mesh.faces.set(faces.subarray(3 * face, 3 * face + 3), 3 * place));
  const sorted = Array.from(order, (face) => rows[face]);
  const first = sorted.findIndex((row) => materials[row].alpha === "blend");
  const start = first < 0 ? sorted.length : first;
  const middles = new Float32Array(3 * (sorted.length - start));
  for (let i = 0; i < middles.length; i++) {
    const corner = 3 * start + 3 * Math.floor(i / 3);
    for (let k = 0; k < 3; k++) middles[i] += mesh.positions[3 * mesh.faces[corner + k] + (i % 3)] / 3;
  }
  return { groups: runs(sorted.slice(0, start)), clear: { start, rows: sorted.slice(start), faces: mesh.faces.slice(3 * start), middles } };
}

/** Neighbours of one material: `{row, start, count}` in faces. */
export function runs(rows) {
  const found = [];
  rows.forEach((row, place) => {
    if (found.at(-1)?.row === row) found.at(-1).count++;
    else found.push({ row, start: place, count: 1 });
  });
  return found;
}
