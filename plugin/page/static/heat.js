/* For radiologists: the model's graded map of the chosen phrase over the picture. */
import { all, byId, isOn, press } from "./dom.js";
import { pictures } from "./marks.js";

const button = byId("heat");
const range = (name) => document.querySelector(`[data-range="${name}"]`);
const STEEP = 8; // how soon a value above the threshold is fully coloured
let chosen = null;

const draw = () => {
  const threshold = range("threshold").value / 100;
  for (const { figure, number } of pictures) {
    const glow = figure.querySelector(".glow");
    if (!glow) continue;
    const frame = glow.firstElementChild;
    const row = frame.dataset.order.split(" ").indexOf(String(chosen));
    const on = isOn(button) && row >= 0;
    glow.toggleAttribute("hidden", !on);
    if (!on) continue;
    const maps = frame.firstElementChild;
    if (!maps.hasAttribute("href")) maps.setAttribute("href", maps.dataset.href);
    const rows = frame.dataset.order.split(" ").length;
    frame.setAttribute("viewBox", `0 ${row} 1 1`);
    maps.setAttribute("width", 1);
    maps.setAttribute("height", rows);
    glow.setAttribute("opacity", range("opacity").value / 100);
    const alpha = byId(`glow-${number}`).querySelector("feFuncA");
    alpha.setAttribute("slope", STEEP);
    alpha.setAttribute("intercept", -threshold * STEEP + 0.5);
  }
};

export const heatOf = (number) => {
  if (!button || number === chosen) return;
  chosen = number;
  if (isOn(button)) draw();
};

if (button) {
  button.addEventListener("click", () => {
    press(button, !isOn(button));
    draw();
  });
  for (const each of all('[data-range="opacity"], [data-range="threshold"]')) each.addEventListener("input", draw);
}
