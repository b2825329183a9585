// Plots as inline SVG: quality against resolution, seconds and memory, and the spread over shapes.

import { el, number, svg } from "./dom.js";
import { colourOf, dashOf, markOf } from "./pipelines.js";

const [WIDTH, HEIGHT] = [460, 300];
const MARGIN = { left: 64, right: 14, top: 14, bottom: 44 };

/** A scale from values to places, with its ticks. */
function scale(values, from, to, logarithmic, ticksWanted = 5) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (logarithmic) {
    if (low === high) [low, high] = [low / 2, high * 2];
    const [a, b] = [Math.log(low), Math.log(high)];
    const pad = (b - a) * 0.06;
    const place = (value) => from + ((Math.log(value) - a + pad) / (b - a + 2 * pad)) * (to - from);
    return { place, ticks: logarithmicTicks(low, high, ticksWanted) };
  }
  if (low === high) [low, high] = [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
  const pad = (high - low) * 0.06;
  const place = (value) => from + ((value - low + pad) / (high - low + 2 * pad)) * (to - from);
  const raw = (high - low) / ticksWanted;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * unit >= raw) * unit;
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return { place, ticks };
}

function logarithmicTicks(low, high, wanted) {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) {
        const tick = Number((step * 10 ** power).toPrecision(6));
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    if (ticks.length >= 3) return thinned(ticks, wanted + 2);
  }
  return [low, high].map((value) => Number(value.toPrecision(2)));
}

const thinned = (ticks, most) => ticks.filter((_, index) => index % Math.ceil(ticks.length / most) === 0);

/** Axes, grid and titles; returns the drawing and its scales. */
function frame({ title, xTitle, yTitle, x, y, xTicks }) {
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const [bottom, right] = [HEIGHT - MARGIN.bottom, WIDTH - MARGIN.right];
  for (const tick of y.ticks) {
    const at = y.place(tick);
    plot.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: at, y2: at }),
      text(number(tick), MARGIN.left - 7, at + 4, "end"),
    );
  }
  for (const [at, label] of xTicks) {
    plot.append(svg("line", { class: "grid", x1: at, x2: at, y1: MARGIN.top, y2: bottom }), text(label, at, bottom + 17, "middle"));
  }
  plot.append(
    svg("path", { class: "axis", d: `M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}` }),
    text(xTitle, (MARGIN.left + right) / 2, HEIGHT - 7, "middle", "title"),
    svg("text", { class: "title", "text-anchor": "middle", transform: `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)` }, yTitle),
  );
  return plot;
}

function text(content, x, y, anchor, name = "tick") {
  return svg("text", { class: name, x, y, "text-anchor": anchor }, content);
}

const logarithmic = (column, values) => column.better !== "high" && values.every((value) => value > 0);
const entryOf = (row, column) => row.entries[column];
const arrow = (column) => ({ high: " ↑", low: " ↓" })[column.better] ?? "";
const resolutionText = (resolution) => (resolution === null ? "own" : String(resolution));

function card(title, content) {
  return el("figure", { class: "plot" }, el("figcaption", {}, title), content ?? el("p", { class: "empty" }, "Nothing to draw."));
}

/** Lines of one figure over `place(row)` (resolution, seconds or megabytes), one line a pipeline, with 95 % intervals. */
function curves(data, rows, column, title, xTitle, place, log, xTicks) {
  const drawn = rows.filter((row) => entryOf(row, column) && place(row) > 0);
  if (!drawn.length) return card(title);
  const yValues = drawn.flatMap((row) => entryOf(row, column));
  const heading = data.columns[column];
  const y = scale(yValues, HEIGHT - MARGIN.bottom, MARGIN.top, logarithmic(heading, yValues));
  const x = scale(drawn.map(place), MARGIN.left, WIDTH - MARGIN.right, log);
  const ticks = (xTicks ?? x.ticks).map((tick) => [x.place(tick), number(tick)]);
  const plot = frame({ title: `${heading.title}: ${title}`, xTitle, yTitle: heading.title + arrow(heading), x, y, xTicks: ticks });
  data.pipelines.forEach((name, pipeline) => {
    const points = drawn.filter((row) => row.pipeline === name).sort((a, b) => a.resolution - b.resolution);
    const aside = xTicks ? (pipeline - (data.pipelines.length - 1) / 2) * 2.5 : 0; // intervals at one resolution stay apart
    const at = (row) => [x.place(place(row)) + aside, y.place(entryOf(row, column)[0])];
    if (points.length > 1) {
      const d = points.map((row, index) => `${index ? "L" : "M"}${at(row).map((v) => v.toFixed(1)).join(" ")}`).join("");
      plot.append(svg("path", { class: "curve", d, stroke: colourOf(pipeline), "stroke-dasharray": dashOf(pipeline) }));
    }
    for (const row of points) {
      const [mean, low, high] = entryOf(row, column);
      const [px, py] = at(row);
      plot.append(svg("line", { class: "whisker", x1: px, x2: px, y1: y.place(low), y2: y.place(high), stroke: colourOf(pipeline) }));
      const note = `${name}, R ${resolutionText(row.resolution)}: ${number(mean)} [${number(low)}, ${number(high)}]`;
      plot.append(markOf(pipeline, px, py, 1, {}, svg("title", {}, note)));
    }
  });
  return card(title, plot);
}

/** One mark a shape and pipeline at one resolution; the median is a bar. */
function spread(data, cells, column, resolution) {
  const title = `Spread over shapes at R ${resolutionText(resolution)}`;
  const shown = cells.filter((cell) => cell.resolution === resolution && cell.values[column] !== null);
  const chosen = [...new Set(cells.map((cell) => cell.pipeline))].sort((a, b) => a - b);
  if (!shown.length) return card(title);
  const heading = data.columns[column];
  const values = shown.map((cell) => cell.values[column]);
  const y = scale(values, HEIGHT - MARGIN.bottom, MARGIN.top, logarithmic(heading, values));
  const lane = (WIDTH - MARGIN.left - MARGIN.right) / chosen.length;
  const middle = (pipeline) => MARGIN.left + (chosen.indexOf(pipeline) + 0.5) * lane;
  const plot = frame({
    title: `${heading.title}: ${title}`,
    xTitle: "one mark a shape; the bar is the median",
    yTitle: heading.title + arrow(heading),
    y,
    xTicks: [],
  });
  for (const pipeline of chosen) {
    const own = shown.filter((cell) => cell.pipeline === pipeline).sort((a, b) => a.values[column] - b.values[column]);
    own.forEach((cell, index) => {
      const shift = (((index * 0.618034) % 1) - 0.5) * Math.min(lane * 0.62, 60);
      const sample = data.samples[cell.sample];
      const note = `${sample.id}, ${data.pipelines[pipeline]}: ${number(cell.values[column])}`;
      plot.append(markOf(pipeline, middle(pipeline) + shift, y.place(cell.values[column]), 0.8, { "fill-opacity": 0.75 }, svg("title", {}, note)));
    });
    if (own.length) {
      const half = own.length >> 1;
      const median = own.length % 2 ? own[half].values[column] : (own[half - 1].values[column] + own[half].values[column]) / 2;
      const at = y.place(median);
      plot.append(svg("line", { class: "median", x1: middle(pipeline) - lane * 0.36, x2: middle(pipeline) + lane * 0.36, y1: at, y2: at }));
    }
    plot.append(markOf(pipeline, middle(pipeline), HEIGHT - MARGIN.bottom + 13, 0.9));
  }
  return card(title, plot);
}

/** The four plots for one figure of one dataset; `chosen` is the set of pipelines to draw. */
export function drawPlots(target, data, { column, dataset, resolution, chosen }) {
  const rows = data.rows.filter((row) => row.dataset === dataset && chosen.has(data.pipelines.indexOf(row.pipeline)));
  const cells = data.cells.filter((cell) => data.samples[cell.sample].dataset === dataset && chosen.has(cell.pipeline));
  const seconds = data.columns.findIndex((entry) => entry.figure === "seconds.total");
  const memory = data.columns.findIndex((entry) => entry.figure === "peak_memory_bytes");
  const mean = (index) => (row) => (index < 0 ? 0 : (entryOf(row, index)?.[0] ?? 0));
  const resolutions = [...new Set(rows.map((row) => row.resolution).filter(Boolean))].sort((a, b) => a - b);
  target.replaceChildren(
    curves(data, rows, column, "against resolution", "cells an axis (R)", (row) => row.resolution ?? 0, true, resolutions),
    curves(data, rows, column, "against time", "seconds a shape", mean(seconds), true),
    curves(data, rows, column, "against memory", "peak growth of memory, MB", mean(memory), true),
    spread(data, cells, column, resolution),
  );
}
