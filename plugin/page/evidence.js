"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const numbers = (element) => element.dataset.phrases.split(" ").map(Number);
  const anchors = all(".phrase[role=button]").sort((a, b) => a.dataset.owner - b.dataset.owner);
  const runs = new Map();
  const shapes = [];
  const shapesOf = new Map();
  const words = document.getElementById("words");
  const idle = words.firstElementChild;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const put = (map, key, value) => map.get(key)?.push(value) ?? map.set(key, [value]);

  for (const run of all(".phrase")) {
    for (const number of numbers(run)) put(runs, number, run);
  }
  for (const [number, pieces] of runs) {
    const end = pieces.at(-1);
    if (Number(end.dataset.owner) === number) end.classList.add("last");
  }
  all(".picture").forEach((picture, at) => {
    const holes = [...picture.querySelectorAll(".hole")];
    [...picture.querySelectorAll(".region")].forEach((region, place) => {
      const shape = { region, hole: holes[place], picture: at, numbers: numbers(region) };
      shapes.push(shape);
      for (const number of shape.numbers) put(shapesOf, number, shape);
    });
  });

  /* What is lit: the pointer's choice, else the keyboard's, else the pinned one. */
  const chosen = { hovered: null, focused: null, pinned: null };
  let shown = [];
  let picture = 0;

  const pick = (target) => {
    const region = target.closest(".region");
    if (region) {
      const shape = shapes.find((candidate) => candidate.region === region);
      return { numbers: shape.numbers, shapes: [shape], source: region };
    }
    const holder = target.closest("[data-owner], [data-go]");
    if (!holder) return null;
    const number = Number(holder.dataset.owner ?? holder.dataset.go);
    return { numbers: [number], shapes: shapesOf.get(number) ?? [], source: holder };
  };
  const same = (a, b) => a && b && a.numbers.join() === b.numbers.join() && a.shapes.length === b.shapes.length
    && a.shapes.every((shape, at) => shape === b.shapes[at]);
  const light = (element, ...classes) => {
    element.classList.add(...classes);
    shown.push(() => element.classList.remove(...classes));
  };
  const show = (at) => {
    picture = at;
    all(".picture").forEach((figure, place) => { figure.hidden = place !== at; });
    for (const button of all("[data-show]")) button.setAttribute("aria-pressed", String(Number(button.dataset.show) === at));
  };
  const describe = (choice) => {
    const parts = choice.numbers.slice(0, 3).flatMap((number) => {
      const said = document.createElement("p");
      said.className = "said";
      said.append(...document.querySelector(`[data-go="${number}"]`).cloneNode(true).childNodes);
      return [said, ...document.getElementById(`why-${number}`).cloneNode(true).children];
    });
    words.replaceChildren(...parts);
    words.scrollTop = 0;
  };
  const render = () => {
    for (const undo of shown) undo();
    shown = [];
    const choice = chosen.hovered ?? chosen.focused ?? chosen.pinned;
    if (!choice) {
      words.replaceChildren(idle);
      return;
    }
    const lights = choice.shapes.length > 0;
    for (const number of choice.numbers) {
      for (const run of runs.get(number)) light(run, "on", ...(lights ? ["lights"] : []));
      light(document.getElementById(`line-${number}`), "on");
    }
    for (const shape of choice.shapes) {
      light(shape.region, "on");
      light(shape.hole, "on");
      light(document.getElementById(`picture-${shape.picture}`), "spot");
      const button = document.querySelector(`[data-show="${shape.picture}"]`);
      if (button) light(button, "lights");
    }
    if (lights && !choice.shapes.some((shape) => shape.picture === picture)) show(choice.shapes[0].picture);
    describe(choice);
  };
  const set = (slot, choice) => {
    if (chosen[slot] === choice || same(chosen[slot], choice)) return;
    chosen[slot] = choice;
    render();
  };
  const pin = (choice) => {
    chosen.pinned = choice;
    chosen.focused = null;
    for (const anchor of anchors) {
      const pressed = String(Boolean(choice) && choice.numbers.includes(Number(anchor.dataset.owner)));
      if (anchor.getAttribute("aria-pressed") !== pressed) anchor.setAttribute("aria-pressed", pressed);
    }
    render();
  };
  const reveal = (number) => {
    document.getElementById(`phrase-${number}`)
      .scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  };
  const toggle = (choice) => {
    const off = same(chosen.pinned, choice);
    pin(off ? null : choice);
    if (!off && !choice.source.matches(".phrase")) reveal(choice.numbers[0]);
  };
  const step = (from, by) => {
    const at = anchors.findIndex((anchor) => Number(anchor.dataset.owner) === from);
    return anchors[at < 0 ? (by > 0 ? 0 : anchors.length - 1) : (at + by + anchors.length) % anchors.length];
  };
  const current = () => (chosen.focused ?? chosen.pinned)?.numbers[0] ?? -1;

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") set("hovered", pick(event.target));
  });
  document.documentElement.addEventListener("pointerleave", () => set("hovered", null));
  document.addEventListener("focusin", (event) => set("focused", pick(event.target)));
  document.addEventListener("focusout", () => set("focused", null));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.show) return show(Number(button.dataset.show));
    if (button?.id === "outlines") {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const figure of all(".picture")) figure.classList.toggle("plain", !on);
      return undefined;
    }
    if (button?.id === "next" || button?.id === "previous") {
      const anchor = step(current(), button.id === "next" ? 1 : -1);
      if (anchor) {
        pin(pick(anchor));
        reveal(Number(anchor.dataset.owner));
      }
      return undefined;
    }
    const choice = pick(event.target);
    if (choice) return toggle(choice);
    return event.target.closest(".caption") ? undefined : pin(null);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      chosen.hovered = null;
      return pin(null);
    }
    const holder = event.target.closest?.(".phrase[role=button], .region");
    if (!holder || event.altKey || event.ctrlKey || event.metaKey) return undefined;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return toggle(pick(holder));
    }
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return undefined;
    event.preventDefault();
    chosen.hovered = null;
    return step(pick(holder).numbers[0], by)?.focus();
  });

  /* The address of a phrase, as reports link to it, opens the page with that phrase lit. */
  const goThere = () => {
    const number = Number(/^#phrase-(\d+)$/.exec(location.hash)?.[1] ?? -1);
    const anchor = anchors.find((candidate) => Number(candidate.dataset.owner) === number);
    if (!anchor) return;
    pin(pick(anchor));
    reveal(number);
  };
  window.addEventListener("hashchange", goThere);
  goThere();
})();
