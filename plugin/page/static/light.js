/* How a choice looks: the text marked, the regions in the light, the rest of the picture dimmed. */
import { press } from "./dom.js";
import { lineOf, pictures, runs } from "./marks.js";

let undo = [];
let shown = 0;

const light = (element, ...classes) => {
  element.classList.add(...classes);
  undo.push(() => element.classList.remove(...classes));
};

/* The picture that is shown. */
export const shownPicture = () => pictures[shown];

export const showPicture = (number) => {
  shown = number;
  for (const { figure, button, number: each } of pictures) {
    figure.hidden = each !== number;
    if (button) press(button, each === number);
  }
};

export const putOut = () => {
  for (const step of undo) step();
  undo = [];
};

export const lightUp = (choice) => {
  putOut();
  const lights = choice.shapes.length > 0;
  for (const number of choice.numbers) {
    for (const run of runs.get(number)) light(run, "on", ...(lights ? ["lights"] : []));
    light(lineOf(number), "on");
  }
  if (!lights) return;
  for (const picture of pictures) {
    const here = choice.shapes.filter((shape) => shape.picture === picture);
    if (!here.length) continue;
    picture.hole.setAttribute("d", here.map((shape) => shape.path).join(""));
    light(picture.figure, "spot");
    if (picture.button) light(picture.button, "lights");
    for (const shape of here) light(shape.region, "on");
  }
  if (!choice.shapes.some((shape) => shape.picture.number === shown)) showPicture(choice.shapes[0].picture.number);
};
