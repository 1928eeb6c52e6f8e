/* For radiologists: accept, reject or redraw what is marked for the chosen phrase on the picture that is shown. */
import { all, byId } from "./dom.js";
import { shownPicture } from "./light.js";
import { numberOf, uidOf } from "./marks.js";
import { asStored, beginSketch, closeShape, endSketch, removeLast, sketched } from "./sketch.js";

const slot = byId("phrase-slot");
const NAME = "sightline who";
const LOOK_MS = 2000;
const places = new Map(); // by tracking UID and image
let chosen = null; // the number of the phrase
let ruling = null; // what the form is open for
let timer = null;

const part = (name) => slot.querySelector(`.${name}`);
const field = (name) => slot.querySelector(`[name="${name}"]`);
const keyOf = (uid, image) => `${uid} ${image}`;
const place = () => (chosen === null ? null : places.get(keyOf(uidOf(chosen), shownPicture().svg.dataset.image)));
const words = (name, values = {}) => Object.entries(values).reduce(
  (text, [key, value]) => text.replace(`{${key}}`, value), slot.firstElementChild.dataset[name],
);
const keep = (told) => places.set(keyOf(told.tracking_uid, told.sop_instance_uid), told);
const storage = (use) => {
  try {
    return use(sessionStorage);
  } catch {
    return null; // a frame without a store of its own
  }
};

const ended = (job) => job?.state === "failed" || job?.state === "cancelled";

const standing = ({ decision, written, job }) => {
  const when = decision && new Date(decision.made).toLocaleString(document.documentElement.lang);
  const said = decision
    ? words(decision.ruling, { who: decision.who.name, when }) + (decision.reason ? ` ${decision.reason}.` : "")
    : words("open");
  if (written) return said;
  return `${said} ${ended(job) ? words("failed", { error: job.error ?? job.state }) : words("writing")}`;
};

const shut = () => {
  endSketch();
  ruling = null;
  part("saying").hidden = true;
  for (const button of all("[data-rule]", slot)) button.setAttribute("aria-expanded", "false");
};
const trouble = (text, stale = false) => {
  part("trouble").textContent = text;
  part("again").hidden = !stale;
};

const render = () => {
  const here = place();
  slot.hidden = !here;
  if (!here) {
    shut();
    return;
  }
  const marked = here.marked || here.decision?.ruling === "rejected";
  part("standing").textContent = standing(here);
  for (const button of all("[data-rule]", slot)) {
    const { rule } = button.dataset;
    button.hidden = rule === "taken-back" ? !here.decision : rule !== "redrawn" && !marked;
    button.disabled = rule !== "redrawn" && here.decision?.ruling === rule;
  }
};

const show = (number) => {
  if (number !== chosen) {
    shut();
    trouble("");
  }
  chosen = number;
  render();
};

const fetched = async (address, options) => {
  const answer = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw Object.assign(new Error(told.detail ?? words("away")), { status: answer.status });
};

/* Looks again while something is being written back. */
const look = async () => {
  clearTimeout(timer);
  const waited = [...places.values()].filter((each) => !each.written);
  try {
    for (const told of await fetched(slot.dataset.decisions)) keep(told);
    if (waited.some((each) => places.get(keyOf(each.tracking_uid, each.sop_instance_uid)).written)) {
      trouble(words("reload"), true);
    }
  } catch {
    // Away for now; what is known stays.
  }
  render();
  if ([...places.values()].some((each) => !each.written && !ended(each.job))) {
    timer = setTimeout(look, LOOK_MS);
  }
};

const reasonOf = () => {
  const cause = field("cause").value;
  return ruling === "accepted" || ruling === "taken-back" ? "" : cause === "other" ? field("reason").value.trim() : cause;
};

const send = async () => {
  const here = place();
  const { svg } = shownPicture();
  const who = field("who")?.value.trim() ?? "";
  const regions = ruling === "redrawn" ? asStored(svg, sketched()) : [];
  if (ruling === "redrawn" && !regions.length) {
    trouble(words("nothing"));
    return;
  }
  storage((store) => store.setItem(NAME, who));
  const save = slot.querySelector("[type=submit]");
  save.disabled = true;
  try {
    keep(await fetched(`phrases/${here.tracking_uid}/decision`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "If-Match": `"${here.tag}"` },
      body: JSON.stringify({ sop_instance_uid: here.sop_instance_uid, ruling, reason: reasonOf(), regions, who }),
    }));
    trouble("");
    shut();
    render();
    part("standing").focus();
    look();
  } catch (error) {
    trouble(error.message, error.status === 412);
  } finally {
    save.disabled = false;
  }
};

const drawn = ({ point, shapes, removed, cancelled, x, y }) => {
  if (cancelled) {
    part("cancel").click();
    return;
  }
  const text = point ? words("point", { point, x, y }) : removed ? words("removed") : words("shapes", { shapes });
  part("drawn").textContent = text;
};

const open = (rule) => {
  shut();
  trouble("");
  ruling = rule;
  const explained = rule === "rejected" || rule === "redrawn";
  if (!explained && (!field("who") || field("who").value.trim())) {
    send();
    return;
  }
  part("saying").hidden = false;
  part("why").hidden = !explained;
  part("drawing").hidden = rule !== "redrawn";
  field("cause").required = explained;
  part("drawn").textContent = "";
  slot.querySelector(`[data-rule="${rule}"]`).setAttribute("aria-expanded", "true");
  if (rule === "redrawn") beginSketch(shownPicture(), drawn);
  else field(explained ? "cause" : "who").focus();
};

const other = () => {
  part("own").hidden = field("cause").value !== "other";
  field("reason").required = !part("own").hidden;
};

if (slot.dataset.decisions) {
  slot.append(byId("deciding").content.cloneNode(true));
  if (field("who")) field("who").value = storage((store) => store.getItem(NAME)) ?? "";
  for (const button of all("[data-rule]", slot)) button.addEventListener("click", () => open(button.dataset.rule));
  part("saying").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  part("cancel").addEventListener("click", () => {
    const button = slot.querySelector(`[data-rule="${ruling}"]`);
    shut();
    trouble("");
    button.focus();
  });
  slot.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || part("saying").hidden) return;
    event.stopPropagation();
    part("cancel").click();
  });
  part("close-shape").addEventListener("click", closeShape);
  part("remove-last").addEventListener("click", removeLast);
  part("again").addEventListener("click", () => {
    history.replaceState(null, "", `#phrase-${chosen}`);
    location.reload();
  });
  field("cause").addEventListener("change", other);
  document.addEventListener("sightline:phrase-selected", (event) => show(event.detail.number));
  document.addEventListener("sightline:select-phrase", (event) => {
    const uid = event.detail?.trackingUid;
    show((uid && numberOf(uid)) ?? null);
  });
  for (const button of all("[data-show]")) button.addEventListener("click", () => show(chosen));
  look();
}
