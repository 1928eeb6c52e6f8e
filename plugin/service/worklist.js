/* The worklist, kept fresh: the page is asked for again by its ETag, and its list takes the place of the old one.
 * The service tells when there is something new; without its word the page asks every few seconds. */
const QUICK_MS = 2000;
const CALM_MS = 10_000;
const LONGEST_MS = 60_000;
const byId = (id) => document.getElementById(id);
let tag = "";
let failures = 0;
let timer = null;
let asking = null;
let asked = 0;
let told = null;

const UNITS = [["s", 1, 90], ["min", 60, 5400], ["h", 3600, 129_600], ["days", 86_400, Infinity]];
const spanOf = (seconds) => {
  const [name, unit] = UNITS.find(([, , most]) => seconds < most);
  return `${Math.round(seconds / unit)} ${name}`;
};
const tellAges = () => {
  for (const time of document.querySelectorAll("#live time")) {
    time.title ||= time.textContent;
    time.textContent = `${spanOf(Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000))} ago`;
  }
};
const say = (id, text) => {
  if (byId(id).textContent !== text) byId(id).textContent = text;
};
const counts = (root) => [...root.querySelectorAll("[data-count]")]
  .map((each) => `${each.textContent} ${each.dataset.count}`).join(", ");

/* The new list; who was on a button or link of the old one is on it still. */
const put = (html) => {
  const made = new DOMParser().parseFromString(html, "text/html").getElementById("live");
  if (!made) return;
  const old = byId("live");
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const changed = counts(old) !== counts(made);
  old.replaceWith(document.adoptNode(made));
  tellAges();
  if (changed) say("done", counts(made));
  if (!focused) return;
  const twin = focused.id ? byId(focused.id) : [...made.querySelectorAll("a")].find((each) => each.href === focused.href);
  const job = focused.dataset.job;
  (twin ?? made.querySelector(`[data-job="${CSS.escape(job ?? "")}"]`) ?? made.querySelector("a"))?.focus({ preventScroll: true });
};

const later = () => {
  clearTimeout(timer);
  if (document.hidden) return;
  const moving = byId("live").dataset.moving === "yes" ? QUICK_MS : CALM_MS;
  const usual = told?.readyState === EventSource.OPEN ? LONGEST_MS : moving;
  timer = setTimeout(look, failures ? Math.min(LONGEST_MS, usual * 2 ** failures) : usual);
};
const look = async () => {
  asked = Date.now();
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", signal });
    if (!answer.ok && answer.status !== 304) throw new Error(`${answer.status}`);
    tag = answer.headers.get("ETag") ?? "";
    if (answer.status === 200) put(await answer.text());
    else tellAges();
    failures = 0;
    say("fresh", "Kept up to date");
  } catch {
    if (signal.aborted) return;
    failures += 1;
    say("fresh", "The service does not answer; this may be old");
  }
  later();
};

/* Changes that come thick and fast are looked at together. */
const lookSoon = () => {
  clearTimeout(timer);
  timer = setTimeout(look, Math.max(0, asked + QUICK_MS - Date.now()));
};
const listen = () => {
  told?.close();
  told = new EventSource("/changes");
  told.onmessage = lookSoon;
  told.onerror = lookSoon;
};
const rest = () => {
  clearTimeout(timer);
  told?.close();
};

const SAID = { replay: "The job is done once more.", cancel: "The job is let go." };
const act = async (button) => {
  const { act: action, job } = button.dataset;
  button.disabled = true;
  say("trouble", "");
  try {
    const answer = await fetch(`/jobs/${encodeURIComponent(job)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ action }),
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(told.detail ?? `${answer.status}`);
    say("done", SAID[action]);
  } catch (error) {
    say("trouble", error.message);
  }
  button.disabled = false;
  tag = "";
  await look();
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) act(button);
});
const begin = () => {
  listen();
  look();
};
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : begin()));
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => event.persisted && begin());
addEventListener("offline", look);
addEventListener("online", begin);
tellAges();
begin();
