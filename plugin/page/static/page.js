/* The pages' entry: what people do with pointer, finger and keyboard, and the address of a phrase. */
import { all, byId, isOn, press } from "./dom.js";
import { anchorOf, pick, pictures } from "./marks.js";
import { showPicture } from "./light.js";
import { focusOn, go, hover, keep, letGo, step, toggle } from "./choice.js";
import { isFilled, refreshCompass, unfill } from "./film.js";
import "./decide.js";
import "./questions.js";
import "./hub.js";

document.addEventListener("pointerover", (event) => {
  if (event.pointerType !== "touch") hover(pick(event.target));
});
document.documentElement.addEventListener("pointerleave", () => hover(null));
document.addEventListener("focusin", (event) => focusOn(pick(event.target)));
document.addEventListener("focusout", () => focusOn(null));

const walk = (by) => {
  const anchor = step(by);
  if (anchor) go(Number(anchor.dataset.owner));
};
byId("next").addEventListener("click", () => walk(1));
byId("previous").addEventListener("click", () => walk(-1));
byId("close").addEventListener("click", letGo);
byId("outlines").addEventListener("click", (event) => {
  const on = !isOn(event.currentTarget);
  press(event.currentTarget, on);
  for (const { figure } of pictures) figure.classList.toggle("plain", !on);
});
for (const button of all("[data-show]")) {
  button.addEventListener("click", () => {
    showPicture(Number(button.dataset.show));
    refreshCompass();
  });
}

const OWN = ".tools, .adjusting, .compass, .panel, .questions, .audiences, .elsewhere, .ask";
document.addEventListener("click", (event) => {
  const choice = pick(event.target);
  if (choice) toggle(choice);
  else if (!event.target.closest(OWN)) keep(null);
});

const BY = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (isFilled()) unfill();
    else letGo();
    return;
  }
  const holder = event.target.closest?.(".phrase[role=button], .region");
  if (!holder || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    toggle(pick(holder));
  } else if (event.key in BY) {
    event.preventDefault();
    hover(null);
    step(BY[event.key], pick(holder).numbers[0])?.focus();
  }
});

/* The address of a phrase, as reports link to it, opens the page with that phrase lit. */
const follow = () => {
  const number = /^#phrase-(\d+)$/.exec(location.hash)?.[1];
  if (number !== undefined && anchorOf(number)) go(Number(number));
};
window.addEventListener("hashchange", follow);
follow();
