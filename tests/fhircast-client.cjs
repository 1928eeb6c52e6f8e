// A subscriber that others wrote: the FHIRcast client of Medplum. Prints each message that it gets, one a line.
// Usage: node fhircast-client.cjs <folder of node_modules> <hub> <topic> <events, with commas between>
const path = require("node:path");

const [folder, hub, topic, events] = process.argv.slice(2);
globalThis.WebSocket = require(path.join(folder, "ws"));
const {
  createFhircastMessagePayload,
  FhircastConnection,
  serializeFhircastSubscriptionRequest,
} = require(path.join(folder, "@medplum", "core"));

const post = (body, type) => fetch(hub, { method: "POST", body, headers: { "Content-Type": type } });
const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

const subscribe = async () => {
  const request = { topic, events: events.split(","), channelType: "websocket", mode: "subscribe" };
  const answer = await post(serializeFhircastSubscriptionRequest(request), "application/x-www-form-urlencoded");
  const endpoint = (await answer.json())["hub.channel.endpoint"];
  const connection = new FhircastConnection({ ...request, endpoint });
  connection.addEventListener("connect", () => say({ connected: answer.status }));
  connection.addEventListener("message", ({ payload }) => say(payload));
  connection.addEventListener("disconnect", () => process.exit(0));
};

// Each line of the input is an event to tell: its name, its context, and its version when it has one.
require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { event, context, version } = JSON.parse(line);
  const made = createFhircastMessagePayload(topic, event, context, version);
  say({ posted: (await post(JSON.stringify(made), "application/json")).status });
});

subscribe();
