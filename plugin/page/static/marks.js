/* Phrases in the text and regions on the pictures, and which belong together. */
import { all, byId, numbersOf } from "./dom.js";

const put = (map, key, value) => {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
};

/* Pieces of text, and shapes, by the number of their phrase. */
export const runs = new Map();
export const shapesOf = new Map();
const shapeOf = new Map();

export const ownerOf = (run) => Number(run.dataset.owner);
/* Phrases in reading order, each at the piece that can have the focus. */
export const anchors = all(".phrase[role=button]")
  .map((run) => [ownerOf(run), run]).sort(([a], [b]) => a - b).map(([, run]) => run);
export const anchorOf = (number) => byId(`phrase-${number}`);
export const lineOf = (number) => byId(`line-${number}`);
export const uidOf = (number) => lineOf(number).dataset.uid;
const uids = new Map(all(".line").map((line) => [line.dataset.uid, Number(line.id.slice(5))]));
export const numberOf = (uid) => uids.get(uid);

export const pictures = all(".picture").map((figure, number) => ({
  figure,
  number,
  svg: figure.querySelector(".film"),
  hole: figure.querySelector(".hole"),
  button: document.querySelector(`[data-show="${number}"]`),
}));

for (const run of all(".phrase")) {
  for (const number of numbersOf(run)) put(runs, number, run);
}
for (const picture of pictures) {
  all(".region", picture.figure).forEach((region, place) => {
    const path = byId(`shape-${picture.number}-${place}`).getAttribute("d");
    const shape = { region, picture, path, numbers: numbersOf(region) };
    shapeOf.set(region, shape);
    for (const number of shape.numbers) put(shapesOf, number, shape);
  });
}

/* What *number* lights up when it is chosen at the element *source*. */
export const choiceOf = (number, source) => ({ numbers: [number], shapes: shapesOf.get(number) ?? [], source });

/* What an element stands for: a region for itself, a piece of text or a line for its phrase; null for others. */
export const pick = (target) => {
  const region = target.closest(".region");
  if (region) {
    const shape = shapeOf.get(region);
    return { numbers: shape.numbers, shapes: [shape], source: region };
  }
  const holder = target.closest("[data-owner], [data-go]");
  return holder ? choiceOf(Number(holder.dataset.owner ?? holder.dataset.go), holder) : null;
};

export const same = (a, b) => Boolean(a && b) && a.numbers.join() === b.numbers.join()
  && a.shapes.length === b.shapes.length && a.shapes.every((shape, at) => shape === b.shapes[at]);
