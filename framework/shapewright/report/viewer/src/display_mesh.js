// Read display meshes: the counterpart of report/display_mesh.py, which documents the format.

import { readPaint } from "./paint.js";
import { bytes, indices, planes } from "./reader.js";

const HEADER_BYTES = 4 + 8 * 4 + 4 * 4;
export const FINEST_ERROR = 1e-6;
export const ERROR_STEPS = 12;
const [ERRORS, PAINT] = [2, 4];

/** Base64 of a deflated display mesh to typed arrays. */
export async function readDisplayMesh(base64) {
  const deflated = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const view = new DataView(data.buffer);
  if (new TextDecoder().decode(data.subarray(0, 4)) !== "SWDM") throw new Error("not a display mesh");
  const [version, vertices, faces, boundary, junctions, flags, fullFaces] = Array.from({ length: 7 }, (_, k) =>
    view.getUint32(4 + 4 * k, true),
  );
  if (version !== 1 && version !== 2) throw new Error(`display mesh of version ${version}`);
  const [x, y, z, step] = Array.from({ length: 4 }, (_, k) => view.getFloat32(36 + 4 * k, true));
  const reader = { data, at: HEADER_BYTES };
  const positions = new Float32Array(3 * vertices);
  [x, y, z].forEach((lower, axis) => {
    const steps = planes(reader, vertices, 2);
    for (let i = 0, sum = 0; i < vertices; i++) {
      sum += (steps[i] >>> 1) ^ -(steps[i] & 1);
      positions[3 * i + axis] = lower + sum * step;
    }
  });
  const result = {
    positions,
    faces: indices(reader, faces, 3),
    boundary: indices(reader, boundary, 2),
    junctions: indices(reader, junctions, 2),
    errors: flags & ERRORS ? bytes(reader, vertices) : null,
    oriented: Boolean(flags & 1),
    fullFaces,
    paint: null,
  };
  if (version === 2 && flags & PAINT) result.paint = await readPaint(reader, flags, vertices, result);
  if (reader.at !== data.length) throw new Error("a display mesh of the wrong length");
  return result;
}
