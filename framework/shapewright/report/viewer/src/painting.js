// What the renderer needs for materials: textures on the graphics card, and the order of faces that are seen through.

const WRAPS = { repeat: "REPEAT", clamp: "CLAMP_TO_EDGE", mirror: "MIRRORED_REPEAT" };

/** The picture of a material as a texture with smaller copies; one white texel where it has none. */
export function drawableTexture(gl, { picture, wrap, nearest }) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  if (picture) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
  else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4).fill(255));
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl[WRAPS[wrap[0]]]);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl[WRAPS[wrap[1]]]);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, nearest ? gl.NEAREST : gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, nearest ? gl.NEAREST : gl.LINEAR_MIPMAP_LINEAR);
  const sharper = gl.getExtension("EXT_texture_filter_anisotropic");
  if (sharper && !nearest) gl.texParameterf(gl.TEXTURE_2D, sharper.TEXTURE_MAX_ANISOTROPY_EXT, 8);
  return texture;
}

const STEPS = 65536;

/** The faces of `clear` from far to near, as `modelView` sees their middles: `{indices, rows}` of corners and materials. */
export function farToNear({ faces, rows, middles }, modelView) {
  const depths = new Float32Array(rows.length);
  let [low, high] = [Infinity, -Infinity];
  for (let face = 0, at = 0; face < depths.length; face++, at += 3) {
    depths[face] = modelView[2] * middles[at] + modelView[6] * middles[at + 1] + modelView[10] * middles[at + 2];
    low = Math.min(low, depths[face]); // as it was rounded
    high = Math.max(high, depths[face]);
  }
  // Counted by steps of depth: a comparing sort of every face for every frame would be felt while turning.
  const scale = (STEPS - 1) / Math.max(high - low, 1e-12);
  const places = new Uint32Array(STEPS + 1);
  for (const depth of depths) places[Math.floor((depth - low) * scale) + 1]++;
  for (let step = 1; step <= STEPS; step++) places[step] += places[step - 1];
  const sorted = { indices: new Uint32Array(faces.length), rows: new Uint16Array(rows.length) };
  for (let face = 0; face < depths.length; face++) {
    const place = places[Math.floor((depths[face] - low) * scale)]++;
    sorted.rows[place] = rows[face];
    for (let k = 0; k < 3; k++) sorted.indices[3 * place + k] = faces[3 * face + k];
  }
  return sorted;
}
