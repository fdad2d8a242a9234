// What is drawn over a pane: letters, a bar in mm, the crosshair, needles at their true thickness,
// their ends to be taken hold of, points of the skin, strokes of the brush.
import { add, dot, letters, norm, sub } from "./bench-geometry.js";

const SVG = "http://www.w3.org/2000/svg";
const NEAR_MM = 1.5;
export const COLOURS = { ok: "#4ade80", caution: "#ffbe3c", stop: "#ff5c5c", unknown: "#c8cdd4" };
const SIGNS = { ok: "✓", caution: "!", stop: "✕", unknown: "?" };
export const HOLD_PX = 9;

function put(parent, name, given, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

export function makeSvg(parent) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "marks");
  svg.setAttribute("aria-hidden", "true");
  parent.append(svg);
  return svg;
}

// What stands in a pane's corner: its name, and buttons from slice to slice.
export function makeHead(parent, plane, words) {
  const title = document.createElement("span");
  title.className = "pane-title";
  title.textContent = words[plane];
  const head = document.createElement("div");
  head.className = "pane-steps"; // apart, so that the letter between them is never covered
  for (const [step, sign, word] of [[-1, "‹", words.previous], [1, "›", words.next]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "step";
    button.dataset.step = step;
    button.dataset.plane = plane;
    button.textContent = sign;
    button.setAttribute("aria-label", `${words[plane]}: ${word}`);
    head.append(button);
  }
  parent.append(title, head);
}

// One pane anew. `told` holds: at, needles, chosen, end, skin, click, strokes, radius, pointer.
export function draw(pane, told) {
  const { svg, placed, width, height } = pane;
  svg.replaceChildren();
  if (!placed) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (told.at) crosshair(svg, placed, told.at, width, height);
  for (const point of told.skin || []) skinPoint(svg, placed, point);
  for (const needle of told.needles) {
    if (!told.chosen || needle.index === null || needle.index !== told.chosen.index) drawNeedle(svg, placed, needle, false);
  }
  if (told.chosen) {
    drawNeedle(svg, placed, told.chosen, true, told.holds);
    for (const end of told.holds ? ["entry", "target"] : []) hold(svg, placed, told, end);
  }
  if (pane.hasLetters) for (const stroke of told.strokes || []) drawStroke(svg, placed, stroke, told.half);
  if (told.click) clicked(svg, placed, told.click);
  if (told.pointer && told.pointer.pane === pane) {
    const [x, y] = placed.toPx(told.pointer.mm);
    put(svg, "circle", { cx: x, cy: y, r: told.radius * placed.scale, fill: "none", stroke: "#fff", "stroke-width": 1.2, class: "brush" });
  }
  if (!pane.hasLetters) lettersAndBar(svg, placed, width, height, pane.box);
}

function crosshair(svg, placed, at, width, height) {
  const [x, y] = placed.toPx(at);
  for (const [x1, y1, x2, y2] of [[0, y, x - 12, y], [x + 12, y, width, y], [x, 0, x, y - 12], [x, y + 12, x, height]]) {
    put(svg, "line", { x1, y1, x2, y2, stroke: "#3fe0ff", "stroke-width": 0.8, opacity: 0.6 });
  }
}

function skinPoint(svg, placed, point) {
  if (Math.abs(placed.height(point.mm)) > NEAR_MM) return;
  const [x, y] = placed.toPx(point.mm);
  put(svg, "circle", { cx: x, cy: y, r: 3, fill: COLOURS[point.verdict], stroke: "#101418", "stroke-width": 0.6, class: `skin ${point.verdict}` });
}

function drawNeedle(svg, placed, needle, isChosen, isHeld) {
  const colour = COLOURS[needle.verdict] || COLOURS.unknown;
  const group = put(svg, "g", { class: `needle ${needle.verdict}${isChosen ? " chosen" : ""}`, opacity: isChosen ? 1 : 0.75 });
  const tip = placed.toPx(needle.target);
  const hub = placed.toPx(needle.hub || needle.entry);
  const wide = Math.max(1, needle.outer * placed.scale);
  const along = [hub[0] - tip[0], hub[1] - tip[1]];
  const long = Math.hypot(...along);
  if (long < 2 * wide) {
    put(group, "circle", { cx: tip[0], cy: tip[1], r: wide / 2, fill: colour, "fill-opacity": 0.5, stroke: colour });
  } else {
    const aside = [-along[1] / long * wide / 2, along[0] / long * wide / 2];
    const corners = [[tip[0] + aside[0], tip[1] + aside[1]], [hub[0] + aside[0], hub[1] + aside[1]],
      [hub[0] - aside[0], hub[1] - aside[1]], [tip[0] - aside[0], tip[1] - aside[1]]];
    put(group, "polygon", { points: corners.map((c) => c.map((v) => v.toFixed(1)).join(",")).join(" "), fill: colour, "fill-opacity": 0.12, stroke: colour, "stroke-width": 0.7, "stroke-dasharray": isChosen ? "none" : "4 2" });
    const inside = insideOf(placed, needle);
    if (inside) {
      const [a, b] = inside.map((mm) => placed.toPx(mm));
      put(group, "line", { x1: a[0], y1: a[1], x2: b[0], y2: b[1], stroke: colour, "stroke-width": wide, "stroke-opacity": 0.85 });
    }
  }
  // Needles meet at the lesion: each is told where it goes in, and the chosen one at its tip as well.
  const number = needle.index < 1000 ? `${needle.index + 1} ` : "";
  const entry = placed.toPx(needle.entry);
  const side = entry[0] < tip[0] ? { x: entry[0] - 8, "text-anchor": "end" } : { x: entry[0] + 8 };
  if (!isHeld) put(group, "text", { ...side, y: entry[1] + 14, class: "word", fill: colour }, `${number}${SIGNS[needle.verdict]}`);
  if (isChosen) put(group, "text", { x: tip[0] + 8, y: tip[1] - 8, class: "word", fill: colour }, SIGNS[needle.verdict]);
}

// The part of a needle, skin to tip, that lies in the cut.
function insideOf(placed, needle) {
  const way = sub(needle.target, needle.entry);
  const near = Math.max(needle.outer / 2, NEAR_MM);
  const start = placed.height(needle.entry);
  const slope = dot(way, placed.normal);
  let [low, high] = [0, 1];
  if (Math.abs(slope) < 1e-6) return Math.abs(start) <= near ? [needle.entry, needle.target] : null;
  const ends = [(-near - start) / slope, (near - start) / slope].sort((a, b) => a - b);
  low = Math.max(low, ends[0]);
  high = Math.min(high, ends[1]);
  return low < high ? [add(needle.entry, way, low), add(needle.entry, way, high)] : null;
}

function hold(svg, placed, told, end) {
  const [x, y] = placed.toPx(told.chosen[end]);
  const isIn = Math.abs(placed.height(told.chosen[end])) <= NEAR_MM;
  put(svg, "circle", { cx: x, cy: y, r: HOLD_PX, class: `hold ${end}`, fill: told.end === end ? "#fff" : "none", "fill-opacity": 0.35, stroke: "#fff", "stroke-width": told.end === end ? 2.4 : 1.4, "stroke-dasharray": isIn ? "none" : "3 3" });
  put(svg, "text", { x: x + HOLD_PX + 3, y: y + 4, class: "word", fill: "#fff" }, told.words[end]);
}

// A stroke where no voxels can be painted: seen on the slice it was drawn on.
function drawStroke(svg, placed, stroke, half) {
  const lies = Math.abs(Math.abs(dot(stroke.normal, placed.normal)) - 1) < 1e-3;
  if (!lies || Math.abs(placed.height(stroke.points[0])) > half(placed.normal)) return;
  const points = stroke.points.length > 1 ? stroke.points : [stroke.points[0], stroke.points[0]];
  const line = points.map((mm) => placed.toPx(mm).map((v) => v.toFixed(1)).join(",")).join(" ");
  put(svg, "polyline", { points: line, fill: "none", stroke: stroke.adds ? "#ff4664" : "#101418", "stroke-width": 2 * stroke.radius * placed.scale, "stroke-linecap": "round", "stroke-linejoin": "round", opacity: 0.55, class: "stroke" });
}

function clicked(svg, placed, mm) {
  const [x, y] = placed.toPx(mm);
  const near = Math.abs(placed.height(mm)) <= NEAR_MM;
  for (const d of [[-7, -7, 7, 7], [-7, 7, 7, -7]]) {
    put(svg, "line", { x1: x + d[0], y1: y + d[1], x2: x + d[2], y2: y + d[3], stroke: "#ff4664", "stroke-width": 2.4, opacity: near ? 1 : 0.4, class: "click" });
  }
}

function lettersAndBar(svg, placed, width, height, box) {
  const [left, top, right, bottom] = box || [0, 0, width, height];
  const middle = [(left + right) / 2, (top + bottom) / 2];
  const minus = (v) => v.map((c) => -c);
  const told = [
    ["left", left + 6, middle[1] + 6, "start", minus(placed.right)],
    ["right", right - 6, middle[1] + 6, "end", placed.right],
    ["top", middle[0], top + 18, "middle", minus(placed.down)],
    ["bottom", middle[0], bottom - 6, "middle", placed.down],
  ];
  for (const [edge, x, y, anchor, direction] of told) {
    put(svg, "text", { x, y, "text-anchor": anchor, class: `letter ${edge}` }, letters(direction));
  }
  const wide = (right - left) / placed.scale;
  const long = wide > 120 ? 50 : 10;
  const y = bottom - 12;
  put(svg, "line", { x1: left + 12, y1: y, x2: left + 12 + long * placed.scale, y2: y, class: "bar-rim" });
  put(svg, "line", { x1: left + 12, y1: y, x2: left + 12 + long * placed.scale, y2: y, class: "bar-mm" });
  put(svg, "text", { x: left + 12, y: y - 5, class: "word", fill: "#fff" }, `${long} mm`);
}

// Which end of a needle is under the pointer, "" when none is.
export function endAt(placed, needle, px, py) {
  let found = "";
  let best = HOLD_PX + 6;
  for (const end of ["target", "entry"]) {
    const [x, y] = placed.toPx(needle[end]);
    const far = Math.hypot(x - px, y - py);
    if (far < best) { best = far; found = end; }
  }
  return found;
}

export const lengthOf = (needle) => norm(sub(needle.target, needle.entry));
