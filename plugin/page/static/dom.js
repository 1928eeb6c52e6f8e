/* What every module needs of the document. */
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];
export const byId = (id) => document.getElementById(id);
export const numbersOf = (element) => (element.dataset.phrases ?? element.dataset.owner).split(" ").map(Number);
export const isOn = (button) => button.getAttribute("aria-pressed") === "true";
export const press = (button, on) => {
  if (isOn(button) !== on) button.setAttribute("aria-pressed", String(on));
};
export const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
