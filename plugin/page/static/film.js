/* The picture as one wants to see it: nearer, moved, brighter, over the whole screen. */
import { all, byId, isOn, press } from "./dom.js";
import { shownPicture } from "./light.js";
import { pictures } from "./marks.js";

const NEAREST = 12;
const STEP = 1.5;
const compass = byId("compass");
const views = new Map(pictures.map(({ svg }) => {
  const [width, height] = [Number(svg.dataset.width), Number(svg.dataset.height)];
  return [svg, { width, height, zoom: 1, x: width / 2, y: height / 2 }];
}));
const within = (low, value, high) => Math.min(high, Math.max(low, value));
const here = () => shownPicture().svg;

export const refreshCompass = () => {
  compass.hidden = views.get(here()).zoom === 1;
};

const draw = (svg) => {
  const view = views.get(svg);
  const [width, height] = [view.width / view.zoom, view.height / view.zoom];
  view.x = within(width / 2, view.x, view.width - width / 2);
  view.y = within(height / 2, view.y, view.height - height / 2);
  svg.setAttribute("viewBox", `${view.x - width / 2} ${view.y - height / 2} ${width} ${height}`);
  svg.classList.toggle("near", view.zoom > 1);
  refreshCompass();
};

/* A point of the screen in pixels of the picture. */
export const pointAt = (svg, clientX, clientY) => new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());

const zoom = (svg, factor, at) => {
  const view = views.get(svg);
  const before = view.zoom;
  view.zoom = within(1, before * factor, NEAREST);
  if (at) {
    const gone = 1 - before / view.zoom;
    view.x += (at.x - view.x) * gone;
    view.y += (at.y - view.y) * gone;
  }
  draw(svg);
};
const pan = (svg, right, down) => {
  const view = views.get(svg);
  view.x += right;
  view.y += down;
  draw(svg);
};
const step = (svg, right, down) => {
  const view = views.get(svg);
  pan(svg, (right * view.width) / view.zoom / 4, (down * view.height) / view.zoom / 4);
};
const whole = (svg) => {
  views.get(svg).zoom = 1;
  draw(svg);
};

/* One pointer moves a near picture, two move and zoom any. */
const watchPointers = (svg) => {
  const pointers = new Map();
  let moved = false;
  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    pointers.set(event.pointerId, event);
    moved = pointers.size > 1;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const far = Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
    if (pointers.size === 1 && (views.get(svg).zoom === 1 || (!moved && far < 6))) return;
    if (!moved) svg.setPointerCapture(event.pointerId);
    moved = true;
    const [from, to] = [pointAt(svg, before.clientX, before.clientY), pointAt(svg, event.clientX, event.clientY)];
    if (pointers.size === 2) {
      const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const apart = ({ clientX, clientY }) => Math.hypot(clientX - other.clientX, clientY - other.clientY);
      zoom(svg, apart(event) / Math.max(1, apart(before)), pointAt(svg, other.clientX, other.clientY));
    } else {
      pan(svg, from.x - to.x, from.y - to.y);
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    svg.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  svg.addEventListener("click", (event) => {
    if (!moved) return;
    moved = false;
    event.stopPropagation(); // the end of a movement chooses nothing
  }, true);
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && !byId("viewer").classList.contains("filled")) return;
    event.preventDefault();
    zoom(svg, event.deltaY < 0 ? 1.2 : 1 / 1.2, pointAt(svg, event.clientX, event.clientY));
  }, { passive: false });
};

const KEYS = {
  "+": (svg) => zoom(svg, STEP),
  "=": (svg) => zoom(svg, STEP),
  "-": (svg) => zoom(svg, 1 / STEP),
  0: whole,
  ArrowUp: (svg) => step(svg, 0, -1),
  ArrowDown: (svg) => step(svg, 0, 1),
  ArrowLeft: (svg) => step(svg, -1, 0),
  ArrowRight: (svg) => step(svg, 1, 0),
};
const watchKeys = (svg) => {
  svg.addEventListener("keydown", (event) => {
    const deed = event.target === svg && !event.altKey && !event.ctrlKey && !event.metaKey && KEYS[event.key];
    if (!deed) return;
    event.preventDefault();
    deed(svg);
  });
};

/* Grey values: what lies *width* around *level* (both of 1) is spread over all that a screen shows. */
const ranges = Object.fromEntries(all("[data-range]").map((range) => [range.dataset.range, range]));
const wanted = () => ("width" in ranges
  ? { level: ranges.level.value / 100, width: ranges.width.value / 100 }
  : { level: 0.5 - ranges.brightness.value / 100, width: 100 / ranges.contrast.value });
const tone = () => {
  const { level, width } = wanted();
  const plain = level === 0.5 && width === 1;
  for (const { svg, number } of pictures) {
    for (const part of svg.querySelector(`#tone-${number}`).firstElementChild.children) {
      part.setAttribute("slope", 1 / width);
      part.setAttribute("intercept", 0.5 - level / width);
    }
    const image = svg.querySelector(".xray");
    if (plain) image.removeAttribute("filter");
    else image.setAttribute("filter", `url(#tone-${number})`);
  }
};

const fill = async (on) => {
  const viewer = byId("viewer");
  viewer.classList.toggle("filled", on);
  press(byId("full"), on);
  try {
    if (on && !document.fullscreenElement) await viewer.requestFullscreen?.();
    if (!on && document.fullscreenElement) await document.exitFullscreen();
  } catch {
    // A frame or a telephone may refuse: the viewer fills the page all the same.
  }
};

for (const { svg } of pictures) {
  watchPointers(svg);
  watchKeys(svg);
}
byId("zoom-in").addEventListener("click", () => zoom(here(), STEP));
byId("zoom-out").addEventListener("click", () => zoom(here(), 1 / STEP));
byId("whole").addEventListener("click", () => whole(here()));
for (const button of all("[data-pan]")) {
  button.addEventListener("click", () => step(here(), ...button.dataset.pan.split(" ").map(Number)));
}
byId("adjust").addEventListener("click", (event) => {
  const open = event.currentTarget.getAttribute("aria-expanded") !== "true";
  event.currentTarget.setAttribute("aria-expanded", String(open));
  byId("adjusting").hidden = !open;
});
for (const name of ["brightness", "contrast", "level", "width"]) ranges[name]?.addEventListener("input", tone);
byId("reset").addEventListener("click", () => {
  for (const name of ["brightness", "contrast", "level", "width"]) {
    if (ranges[name]) ranges[name].value = ranges[name].defaultValue;
  }
  tone();
});
byId("full").addEventListener("click", (event) => fill(!isOn(event.currentTarget)));
document.addEventListener("fullscreenchange", () => {
  if (!document.fullscreenElement) fill(false);
});
export const isFilled = () => byId("viewer").classList.contains("filled");
export const unfill = () => fill(false);
