/* Questions for the doctor: a list that is kept in this window, printed or saved, and sent nowhere. */
import { all, byId, press } from "./dom.js";
import { lineOf, numberOf, uidOf } from "./marks.js";

const list = byId("asked");
const KEY = `sightline questions ${location.pathname}`;
/* A browser may refuse to keep things, as in a frame without a store of its own. */
const kept = () => {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
};
const items = () => all("li", list);
const textOf = (number) => lineOf(number).querySelector(".go").textContent.replace(/\s+/g, " ").trim();

const remember = () => {
  const told = items().map((item) => [item.dataset.uid, item.querySelector("textarea").value]);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(told));
  } catch {
    // The list lasts as long as the page does.
  }
};
const say = (what) => {
  byId("said").textContent = byId("said").dataset[what];
};
const refresh = () => {
  const uids = new Set(items().map((item) => item.dataset.uid));
  byId("questions-none").hidden = uids.size > 0;
  for (const deed of all(".deeds button")) deed.disabled = uids.size === 0;
  for (const button of all("[data-ask]")) press(button, uids.has(uidOf(button.dataset.ask)));
};
const add = (number, words = "") => {
  const item = byId("asked-item").content.firstElementChild.cloneNode(true);
  const filled = (element) => element.dataset.words.replace("{phrase}", textOf(number));
  item.dataset.uid = uidOf(number);
  item.querySelector(".said").textContent = textOf(number);
  item.querySelector("label span").textContent = filled(item.querySelector("label span"));
  item.querySelector(".remove").setAttribute("aria-label", filled(item.querySelector(".remove")));
  item.querySelector("textarea").value = words;
  list.append(item);
};
const remove = (item) => {
  item.remove();
  remember();
  refresh();
  say("removed");
};

const ask = (number) => {
  const item = items().find((each) => each.dataset.uid === uidOf(number));
  if (item) {
    remove(item);
    return;
  }
  add(number);
  remember();
  refresh();
  say("added");
};

const asText = () => {
  const told = items().map((item) => {
    const own = item.querySelector("textarea").value.trim();
    return `- ${item.querySelector(".said").textContent}\n${own ? `  ${own}\n` : ""}`;
  });
  return [byId("questions-title").textContent, "", ...told].join("\n");
};

const save = (event) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asText()], { type: "text/plain" }));
  link.download = event.currentTarget.dataset.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

const print = () => {
  document.body.classList.add("print-questions");
  window.print();
  document.body.classList.remove("print-questions");
};

if (list) {
  for (const [uid, words] of kept()) {
    const number = numberOf(uid);
    if (number !== undefined) add(number, words);
  }
  refresh();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-ask]");
    if (button) ask(Number(button.dataset.ask));
  });
  list.addEventListener("click", (event) => {
    if (event.target.closest(".remove")) {
      remove(event.target.closest("li"));
      byId("questions-title").focus();
    }
  });
  list.addEventListener("input", remember);
  byId("print-questions").addEventListener("click", print);
  byId("save-questions").addEventListener("click", save);
}
