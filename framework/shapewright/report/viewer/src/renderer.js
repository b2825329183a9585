// One WebGL context draws every view; the picture is then copied to the view's own canvas. Browsers allow few contexts.

import {
  createBufferInfoFromArrays,
  createProgramInfo,
  createVertexArrayInfo,
  drawBufferInfo,
  m4,
  setBuffersAndAttributes,
  setUniforms,
} from "twgl.js";
import { ERROR_STEPS } from "./display_mesh.js";
import { drawableTexture, farToNear } from "./painting.js";
import { runs } from "./paint.js";
import { EDGE_FRAGMENT, EDGE_VERTEX, FACE_FRAGMENT, FACE_VERTEX, PAINT_FRAGMENT, PAINT_VERTEX } from "./shaders.js";

const FIELD_OF_VIEW = (28 * Math.PI) / 180;
const KEPT_ON_CARD = 48;
const FACE_ATTRIBUTES = ["position", "error", "uv", "tint"];
const OPAQUE = 1 - 1 / 512; // alpha from which a pixel hides what is behind it
const CLEAR = 1 / 512;
const CORNERS = { numComponents: 2, data: [0, -1, 1, -1, 0, 1, 1, 1] };

export const FRONT = [0.7, 0.72, 0.76];
export const BACK = [0.93, 0.55, 0.2];
export const BOUNDARY = [0.86, 0.08, 0.24];
export const JUNCTION = [0.13, 0.35, 0.95];

export class Renderer {
  /** Throws where the browser offers no WebGL 2. */
  constructor() {
    this.canvas = document.createElement("canvas");
    this.gl = this.canvas.getContext("webgl2", { alpha: true, antialias: true, premultipliedAlpha: true });
    if (!this.gl) throw new Error("no WebGL 2");
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      this.onrestore?.();
    });
    this.prepare();
  }

  prepare() {
    // One vertex array serves both programs, so their attributes lie at the same places.
    this.faces = createProgramInfo(this.gl, [FACE_VERTEX, FACE_FRAGMENT], FACE_ATTRIBUTES);
    this.painted = createProgramInfo(this.gl, [PAINT_VERTEX, PAINT_FRAGMENT], FACE_ATTRIBUTES);
    this.edges = createProgramInfo(this.gl, [EDGE_VERTEX, EDGE_FRAGMENT]);
    this.buffers = new Map();
  }

  /** Buffers of a mesh on the graphics card; the least recently drawn ones make room. */
  upload(mesh) {
    let kept = this.buffers.get(mesh);
    this.buffers.delete(mesh);
    kept ??= {
      faces: this.arrays(mesh.paint ? [this.faces, this.painted] : this.faces, {
        position: { numComponents: 3, data: mesh.positions },
        error: { numComponents: 1, data: mesh.errors ?? new Uint8Array(mesh.positions.length / 3), normalize: true },
        ...(mesh.paint && {
          uv: { numComponents: 2, data: mesh.paint.uvs },
          tint: { numComponents: 4, data: mesh.paint.colors, normalize: true },
        }),
        indices: mesh.faces,
      }),
      textures: mesh.paint?.materials.map((material) => drawableTexture(this.gl, material)) ?? [],
      boundary: this.ribbons(mesh, mesh.boundary),
      junctions: this.ribbons(mesh, mesh.junctions),
    };
    this.buffers.set(mesh, kept);
    if (this.buffers.size > KEPT_ON_CARD) this.drop(this.buffers.keys().next().value);
    return kept;
  }

  drop(mesh) {
    const { textures, ...parts } = this.buffers.get(mesh);
    textures.forEach((texture) => this.gl.deleteTexture(texture));
    for (const part of Object.values(parts)) {
      if (!part) continue;
      this.gl.deleteVertexArray(part.vao.vertexArrayObject);
      for (const attribute of Object.values(part.info.attribs)) this.gl.deleteBuffer(attribute.buffer);
      if (part.info.indices) this.gl.deleteBuffer(part.info.indices);
    }
    this.buffers.delete(mesh);
  }

  arrays(programs, contents) {
    this.gl.bindVertexArray(null); // or the new indices would go to the mesh drawn last
    const info = createBufferInfoFromArrays(this.gl, contents);
    return { info, vao: createVertexArrayInfo(this.gl, programs, info) };
  }

  ribbons(mesh, edges) {
    if (!edges.length) return null;
    const ends = [0, 1].map((which) => {
      const data = new Float32Array((edges.length / 2) * 3);
      for (let i = 0; i < edges.length / 2; i++) {
        const vertex = edges[2 * i + which];
        data.set(mesh.positions.subarray(3 * vertex, 3 * vertex + 3), 3 * i);
      }
      return { numComponents: 3, data, divisor: 1 };
    });
    return { ...this.arrays(this.edges, { corner: CORNERS, start: ends[0], end: ends[1] }), count: edges.length / 2 };
  }

  /**
   * Draw `mesh` as `camera` sees it and copy it to `target`.
   * `shown`: `{boundary, back, errors, material, coarsest, decades}`; the error map hides materials.
   */
  draw(mesh, camera, shown, target) {
    const { gl } = this;
    const { width, height } = target;
    if (!width || !height || gl.isContextLost()) return;
    if (this.canvas.width < width || this.canvas.height < height) {
      this.canvas.width = Math.max(this.canvas.width, width);
      this.canvas.height = Math.max(this.canvas.height, height);
    }
    const bottom = this.canvas.height - height;
    gl.viewport(0, bottom, width, height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, bottom, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const matrices = view(camera, width / height);
    const errors = shown.errors && mesh.errors !== null;
    if (mesh.paint && shown.material && !errors) this.drawPainted(mesh, matrices, shown);
    else this.drawFaces(mesh, matrices, shown, errors);
    if (shown.boundary) this.drawEdges(mesh, matrices, [width, height]);
    const context = target.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.drawImage(this.canvas, 0, 0, width, height, 0, 0, width, height);
  }

  drawFaces(mesh, matrices, shown, showErrors) {
    const { gl } = this;
    const part = this.upload(mesh).faces;
    gl.useProgram(this.faces.program);
    setBuffersAndAttributes(gl, this.faces, part.vao);
    setUniforms(this.faces, {
      ...matrices,
      showErrors,
      showBack: shown.back && mesh.oriented,
      coarsest: shown.coarsest,
      decades: shown.decades,
      stepsPerDecade: ERROR_STEPS * Math.log2(10),
      pixel: window.devicePixelRatio,
      frontColor: FRONT,
      backColor: BACK,
    });
    this.bothSides(() => drawBufferInfo(gl, part.vao));
  }

  /** Front faces, then back faces: where two lie back to back, the one that faces the viewer wins. */
  bothSides(draw) {
    const { gl } = this;
    gl.enable(gl.CULL_FACE);
    gl.cullFace(gl.BACK);
    draw();
    gl.cullFace(gl.FRONT);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    draw();
    gl.disable(gl.POLYGON_OFFSET_FILL);
    gl.disable(gl.CULL_FACE);
  }

  /** Faces with their materials; those that may be seen through last, from far to near. */
  drawPainted(mesh, matrices, shown) {
    const { gl } = this;
    const { faces: part, textures } = this.upload(mesh);
    const { materials, groups, clear } = mesh.paint;
    gl.useProgram(this.painted.program);
    setBuffersAndAttributes(gl, this.painted, part.vao);
    setUniforms(this.painted, { ...matrices, pixel: window.devicePixelRatio });
    const drawRuns = (found, start, how) => {
      for (const { row, start: first, count } of found) {
        const { alpha, cutoff, double_sided: both } = materials[row];
        setUniforms(this.painted, {
          picture: textures[row],
          opaque: alpha === "opaque",
          showBack: shown.back && mesh.oriented && !both,
          ...(how ?? { solid: true, least: alpha === "mask" ? cutoff : -1, most: 2 }),
        });
        drawBufferInfo(gl, part.vao, gl.TRIANGLES, 3 * count, 12 * (start + first));
      }
    };
    this.bothSides(() => drawRuns(groups, 0));
    if (!clear.rows.length) return;
    const sorted = farToNear(clear, matrices.modelView);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.info.indices);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 12 * clear.start, sorted.indices);
    const found = runs(sorted.rows);
    drawRuns(found, clear.start, { solid: true, least: OPAQUE, most: 2 });
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    drawRuns(found, clear.start, { solid: false, least: CLEAR, most: OPAQUE });
    gl.depthMask(true);
    gl.disable(gl.BLEND);
  }

  drawEdges(mesh, matrices, size) {
    const { gl } = this;
    gl.useProgram(this.edges.program);
    const parts = this.upload(mesh);
    for (const [part, edgeColor, width] of [
      [parts.boundary, BOUNDARY, 2],
      [parts.junctions, JUNCTION, 3.5],
    ]) {
      if (!part) continue;
      setBuffersAndAttributes(gl, this.edges, part.vao);
      setUniforms(this.edges, { ...matrices, size, edgeColor, width: width * window.devicePixelRatio });
      drawBufferInfo(gl, part.vao, gl.TRIANGLE_STRIP, 4, 0, part.count);
    }
  }
}

/** Matrices of a turntable around the origin; a mesh may be of any size. */
function view(camera, aspect) {
  const distance = (1.04 * camera.radius) / Math.sin(FIELD_OF_VIEW / 2) / camera.zoom;
  const projection = m4.perspective(aspect < 1 ? 2 * Math.atan(Math.tan(FIELD_OF_VIEW / 2) / aspect) : FIELD_OF_VIEW, aspect, 0.023 * camera.radius, 46 * camera.radius);
  let modelView = m4.translation([0, 0, -distance]);
  modelView = m4.rotateX(modelView, camera.pitch);
  modelView = m4.rotateY(modelView, camera.yaw);
  return { modelView, projection };
}
