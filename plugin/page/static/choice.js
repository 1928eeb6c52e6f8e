/* Which phrases are chosen: the pointer's choice, else the keyboard's, else the one that is kept.

   Others take part by events of the document. A phrase that is kept is told as `sightline:phrase-selected` with
   {trackingUid, number} (both null when it is let go), and `sightline:select-phrase` with {trackingUid} keeps one, or
   lets go without one; what came from outside is not told again. */
import { press, tell } from "./dom.js";
import { heatOf } from "./heat.js";
import { lightUp, putOut } from "./light.js";
import { anchorOf, anchors, choiceOf, numberOf, ownerOf, same, uidOf } from "./marks.js";
import { describe, forget } from "./panel.js";

const chosen = { hovered: null, focused: null, kept: null };
let pressed = [];
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const render = () => {
  const choice = chosen.hovered ?? chosen.focused ?? chosen.kept;
  if (!choice) return putOut(); // the words stay, so that the way to them puts nothing out
  lightUp(choice);
  heatOf(choice.numbers[0]);
  return describe(choice);
};

const set = (slot, choice) => {
  if (chosen[slot] === choice || same(chosen[slot], choice)) return;
  chosen[slot] = choice;
  render();
};
export const hover = (choice) => set("hovered", choice);
export const focusOn = (choice) => set("focused", choice);

export const keep = (choice, outside = false) => {
  const before = chosen.kept?.numbers[0];
  chosen.kept = choice;
  chosen.focused = null;
  document.body.classList.toggle("kept", Boolean(choice));
  for (const number of pressed) press(anchorOf(number), false);
  pressed = choice?.numbers ?? [];
  for (const number of pressed) press(anchorOf(number), true);
  if (!choice) forget();
  render();
  const now = choice?.numbers[0];
  if (now !== before && !outside) {
    tell("sightline:phrase-selected", { trackingUid: now === undefined ? null : uidOf(now), number: now ?? null });
  }
};

export const letGo = () => {
  chosen.hovered = null;
  keep(null);
};

export const reveal = (number) => {
  anchorOf(number).scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
};

export const toggle = (choice) => {
  const off = same(chosen.kept, choice);
  keep(off ? null : choice);
  if (!off) reveal(choice.numbers[0]);
};

/* Keep and reveal a phrase by its number. */
export const go = (number, outside = false) => {
  const anchor = anchorOf(number);
  if (!anchor) return;
  keep(choiceOf(number, anchor), outside);
  reveal(number);
};

/* The phrase *by* places after *from*, around the ends; after the chosen one when *from* is left out. */
export const step = (by, from = (chosen.focused ?? chosen.kept)?.numbers[0]) => {
  if (!anchors.length) return null;
  const at = anchors.findIndex((anchor) => ownerOf(anchor) === from);
  if (at < 0) return anchors[by > 0 ? 0 : anchors.length - 1];
  return anchors[(at + by + anchors.length) % anchors.length];
};

document.addEventListener("sightline:select-phrase", (event) => {
  const uid = event.detail?.trackingUid;
  const number = uid ? numberOf(uid) : undefined;
  if (number === undefined) keep(null, true);
  else go(number, true);
});
