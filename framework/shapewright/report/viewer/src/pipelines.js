// How a pipeline looks in plots and captions: a colour, and a mark and dash that tell it apart without colour.

import { svg } from "./dom.js";

const COLOURS = 8;
const MARKS = [
  "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z",
  "M-4.4-4.4H4.4V4.4H-4.4Z",
  "M0-5.6L5.4 4.2H-5.4Z",
  "M0-6L6 0L0 6L-6 0Z",
  "M-5-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",
  "M0 5.6L5.4-4.2H-5.4Z",
  "M-5-5L0-2.2L5-5L2.2 0L5 5L0 2.2L-5 5L-2.2 0Z",
  "M-5.5-2.4H5.5V2.4H-5.5Z",
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2 1 2"];

export const colourOf = (pipeline) => `var(--p${pipeline % COLOURS})`;
export const dashOf = (pipeline) => DASHES[pipeline % DASHES.length];

/** The mark of a pipeline at a place of a drawing; hollow beyond the eighth. */
export function markOf(pipeline, x = 0, y = 0, scale = 1, attributes = {}, ...children) {
  const hollow = pipeline >= MARKS.length;
  return svg(
    "path",
    {
      d: MARKS[pipeline % MARKS.length],
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${scale})`,
      fill: hollow ? "var(--paper)" : colourOf(pipeline),
      stroke: hollow ? colourOf(pipeline) : "var(--paper)",
      "stroke-width": hollow ? 2 : 1,
      ...attributes,
    },
    ...children,
  );
}

/** The mark alone, for text. */
export function badge(pipeline) {
  return svg("svg", { class: "badge", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, markOf(pipeline));
}
