/* Drawing regions on the picture: points by pointer or keys, a box by a pull; in pixels of the upright picture. */
import { pointAt } from "./film.js";

const NAMES = ["pointerdown", "pointermove", "pointerup", "pointercancel", "click", "dblclick", "keydown"];
const SVG = "http://www.w3.org/2000/svg";
const PULLED = 6; // pixels of the screen from which a press is a pull
const NEAR = 12;
const MOST = 500;
let at = null; // { svg, figure, layer, done, open, cursor, press, box, told }

const within = (value, limit) => Math.min(limit, Math.max(0, value));
const sizeOf = (svg) => [Number(svg.dataset.width), Number(svg.dataset.height)];
const inside = (svg, { x, y }) => {
  const [width, height] = sizeOf(svg);
  return { x: within(x, width), y: within(y, height) };
};
const part = (name, attributes) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const lineOf = (points) => `M${points.map(({ x, y }) => `${x} ${y}`).join("L")}`;
const boxOf = (a, b) => [
  { x: a.x, y: a.y }, { x: b.x, y: a.y }, { x: b.x, y: b.y }, { x: a.x, y: b.y },
];

const draw = () => {
  const { svg, layer, done, open, cursor, box } = at;
  const scale = 1 / Math.abs(svg.getScreenCTM().a);
  const shapes = [...done, ...(box ? [box] : [])];
  layer.replaceChildren(
    ...shapes.map((points) => part("path", { d: `${lineOf(points)}Z`, class: "whole" })),
    ...(open.length ? [part("path", { d: lineOf(open), class: "line" })] : []),
    ...open.map(({ x, y }, number) => part("circle", { cx: x, cy: y, r: (number ? 4 : 6) * scale, class: "point" })),
    ...(cursor ? [part("path", {
      d: `M${cursor.x - 14 * scale} ${cursor.y}h${28 * scale}M${cursor.x} ${cursor.y - 14 * scale}v${28 * scale}`,
      class: "cursor",
    })] : []),
  );
};
const changed = (what) => {
  draw();
  at.told(what);
};

export const closeShape = () => {
  if (!at || at.open.length < 3) return;
  at.done.push(at.open);
  at.open = [];
  changed({ shapes: at.done.length });
};
export const removeLast = () => {
  if (!at) return;
  if (at.open.length) at.open.pop();
  else at.done.pop();
  changed({ removed: true });
};
const add = (point) => {
  if (at.open.length >= MOST) return;
  at.open.push(point);
  const [width, height] = sizeOf(at.svg);
  changed({
    point: at.open.length, x: Math.round((100 * point.x) / width), y: Math.round((100 * point.y) / height),
  });
};

const onScreen = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
const ACTS = {
  pointerdown(event) {
    if (event.button !== 0) return;
    at.press = event;
    at.svg.setPointerCapture(event.pointerId);
  },
  pointermove(event) {
    if (!at.press || onScreen(at.press, event) < PULLED) return;
    const ends = [at.press, event].map((each) => inside(at.svg, pointAt(at.svg, each.clientX, each.clientY)));
    at.box = boxOf(...ends);
    draw();
  },
  pointerup(event) {
    if (!at.press) return;
    const { box } = at;
    at.press = at.box = null;
    if (box) {
      at.done.push(box);
      changed({ shapes: at.done.length });
      return;
    }
    const point = inside(at.svg, pointAt(at.svg, event.clientX, event.clientY));
    const first = at.open[0];
    const matrix = at.svg.getScreenCTM();
    const far = first ? Math.hypot(first.x - point.x, first.y - point.y) * Math.abs(matrix.a) : Infinity;
    if (at.open.length >= 3 && far < NEAR) closeShape();
    else add(point);
  },
  pointercancel() {
    at.press = at.box = null;
    draw();
  },
  click() {},
  dblclick: closeShape,
  keydown(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return false;
    const [width, height] = sizeOf(at.svg);
    const by = width / (event.shiftKey ? 250 : 50);
    const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
    const cursor = at.cursor ?? { x: width / 2, y: height / 2 };
    if (event.key in moves) {
      const [right, down] = moves[event.key];
      at.cursor = inside(at.svg, { x: cursor.x + right, y: cursor.y + down });
      draw();
    } else if (event.key === "Enter" || event.key === " ") {
      at.cursor = cursor;
      add(cursor);
    } else if (event.key === "Escape") {
      at.told({ cancelled: true });
    } else if (event.key === "c") {
      closeShape();
    } else if (event.key === "Backspace") {
      removeLast();
    } else {
      return false;
    }
    event.preventDefault();
    return true;
  },
};
const take = (event) => {
  const own = at?.figure.contains(event.target) && event.target.closest(".film");
  if (own && ACTS[event.type](event) !== false) event.stopPropagation();
};

export const endSketch = () => {
  if (!at) return;
  for (const name of NAMES) at.figure.removeEventListener(name, take, true);
  at.layer.remove();
  at.figure.classList.remove("sketching");
  at.svg.setAttribute("role", "group");
  at = null;
};
/* Draw on *picture*; *told* hears of every change. */
export const beginSketch = (picture, told) => {
  endSketch();
  const layer = part("g", { class: "sketch", "aria-hidden": "true" });
  picture.svg.append(layer);
  picture.figure.classList.add("sketching");
  picture.svg.setAttribute("role", "application"); // its keys are its own now
  at = { ...picture, layer, told, done: [], open: [], cursor: null, press: null, box: null };
  for (const name of NAMES) picture.figure.addEventListener(name, take, true);
  picture.svg.focus({ preventScroll: true });
};
/* What was drawn, closed as it stands. */
export const sketched = () => {
  if (!at) return [];
  return [...at.done, ...(at.open.length >= 3 ? [at.open] : [])].map((points) => points.map(({ x, y }) => [x, y]));
};
/* From the upright picture back to the stored one (see evidence.json's orientation). */
export const asStored = (svg, outlines) => {
  const [width, height] = sizeOf(svg);
  const turns = svg.dataset.turn.split(" ");
  return outlines.map((points) => points.map(([x, y]) => {
    const [right, down] = [turns.includes("columns") ? width - x : x, turns.includes("rows") ? height - y : y];
    return (turns.includes("transpose") ? [down, right] : [right, down]).map((each) => Math.round(each * 100) / 100);
  }));
};
