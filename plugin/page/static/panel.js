/* What is told of the chosen phrases, beside the picture. */
import { byId } from "./dom.js";
import { lineOf } from "./marks.js";

const words = byId("words");
const idle = words.firstElementChild;
const copied = (element) => {
  const copy = element.cloneNode(true);
  copy.removeAttribute("id");
  copy.removeAttribute("aria-labelledby");
  return copy;
};

export const describe = (choice) => {
  words.replaceChildren(...choice.numbers.slice(0, 3).flatMap((number) => {
    const line = lineOf(number);
    const said = document.createElement("p");
    said.className = "said";
    said.append(...line.querySelector(".go").cloneNode(true).childNodes);
    const ask = line.querySelector(".ask");
    return [said, ...copied(byId(`why-${number}`)).children, ...(ask ? [copied(ask)] : [])];
  }));
  requestAnimationFrame(() => words.parentElement.scrollTo(0, 0));
};

export const forget = () => {
  words.replaceChildren(idle);
};
