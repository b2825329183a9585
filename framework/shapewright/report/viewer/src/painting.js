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

/** Places of `middles` (three numbers each) from far to near, as `modelView` sees them. */
export function depthOrder(middles, modelView) {
  const depths = Float32Array.from({ length: middles.length / 3 }, (_, face) => {
    const [x, y, z] = middles.subarray(3 * face, 3 * face + 3);
    return modelView[2] * x + modelView[6] * y + modelView[10] * z;
  });
  return Uint32Array.from(depths.keys()).sort((a, b) => depths[a] - depths[b]);
}
