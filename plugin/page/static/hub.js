/* FHIRcast: the phrase that is kept is told to the person's other programs, and what they select is lit here.

   Only where the address names a session, ?hub.topic=..., and a service answers. `connect` opens the report in the
   session and goes on after a break; `send` selects phrases by their tracking UIDs, none clears; what others select
   comes to the callback. */
import { tell } from "./dom.js";

const EVENTS = "DiagnosticReport-open,DiagnosticReport-close,DiagnosticReport-select,SyncError";
const FIRST_MS = 2000;
const LONGEST_MS = 60000;
const SENT = 50;
/* What does not change by asking again. */
const REFUSED = [401, 403, 404, 410, 422];

const session = { topic: "", cast: null, uids: new Map(), sent: [], socket: null, wait: FIRST_MS, current: "" };
const hub = () => new URL("../../../../api/hub", location.href);

const post = (name, context) => {
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  session.sent = [...session.sent, id].slice(-SENT);
  const event = { "hub.topic": session.topic, "hub.event": name, context };
  const body = JSON.stringify({ timestamp: new Date().toISOString(), id, event });
  return fetch(hub(), { method: "POST", body, headers: { "Content-Type": "application/json" } });
};

const read = async (answer) => {
  if (!answer.ok) throw new Error("refused", { cause: answer.status });
  return answer.json();
};

const idOf = (reference) => String(reference?.reference ?? reference?.id ?? "").split("/").pop();
const named = (context, key) => {
  const entry = context.find((each) => each.key === key);
  const given = entry?.reference ?? entry?.resource ?? [];
  return (Array.isArray(given) ? given : [given]).map(idOf);
};

const take = (event, own, selected) => {
  const name = event["hub.event"].toLowerCase();
  const [report] = named(event.context, "report");
  if (name === "diagnosticreport-open") session.current = report;
  if (name === "diagnosticreport-close" && session.current === report) session.current = "";
  if (name !== "diagnosticreport-select" || own || report !== session.cast.report) return;
  selected(named(event.context, "select").map((id) => session.uids.get(id)).filter(Boolean));
};

const open = async () => {
  const current = await read(await fetch(new URL(`hub/${encodeURIComponent(session.topic)}`, hub())));
  session.current = current["context.type"] === "DiagnosticReport" ? named(current.context, "report")[0] : "";
  const { report, context } = session.cast;
  if (session.current !== report && (await post("DiagnosticReport-open", context)).ok) session.current = report;
  document.documentElement.dataset.hub = "open";
};

export const send = (trackingUids) => {
  if (!session.cast || session.current !== session.cast.report) return;
  const reference = trackingUids.map((uid) => ({ reference: `Observation/${session.cast.observations[uid]}` }));
  const report = [{ reference: `DiagnosticReport/${session.cast.report}` }];
  post("DiagnosticReport-select", [{ key: "report", reference: report }, { key: "select", reference }]).catch(() => {});
};

const listen = (endpoint, selected) => {
  const socket = new WebSocket(endpoint);
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message["hub.mode"] === "subscribe") {
      session.wait = FIRST_MS;
      open().catch(() => {});
    }
    if (!message.event) return;
    socket.send(JSON.stringify({ id: message.id, status: 200 }));
    take(message.event, session.sent.includes(message.id), selected);
  });
  socket.addEventListener("close", () => {
    document.documentElement.dataset.hub = "closed";
    setTimeout(() => connect(session.topic, selected), session.wait);
    session.wait = Math.min(2 * session.wait, LONGEST_MS);
  });
};

export const connect = async (topic, selected) => {
  session.topic = topic;
  try {
    session.cast = await read(await fetch(new URL("fhircast", location.href)));
    session.uids = new Map(Object.entries(session.cast.observations).map(([uid, id]) => [id, uid]));
    const body = new URLSearchParams({
      "hub.channel.type": "websocket",
      "hub.mode": "subscribe",
      "hub.topic": topic,
      "hub.events": EVENTS,
      "subscriber.name": "Sightline",
    });
    const answer = await read(await fetch(hub(), { method: "POST", body }));
    listen(answer["hub.channel.endpoint"], selected);
  } catch (error) {
    if (REFUSED.includes(error.cause)) return;
    setTimeout(() => connect(topic, selected), session.wait);
    session.wait = Math.min(2 * session.wait, LONGEST_MS);
  }
};

const asked = new URLSearchParams(location.search).get("hub.topic");
if (asked && location.protocol.startsWith("http")) {
  document.addEventListener("sightline:phrase-selected", ({ detail }) => {
    send(detail.trackingUid ? [detail.trackingUid] : []);
  });
  connect(asked, ([uid]) => tell("sightline:select-phrase", { trackingUid: uid ?? null }));
}
