/* Runs inside OHIF, which imports it when it starts (app-config.js): a panel with the report, phrase by phrase.
 *
 * Pointing at a phrase leaves only its regions lit, on each image that is shown; a click keeps them and goes to them.
 * The report is the evidence page's own, so that both say the same; which series hold its regions, the service tells.
 */
const MARKED = '.phrase, [data-go]';
const list = (value) => (value ? [].concat(value) : []);
const address = (study, what) => `/studies/${encodeURIComponent(study)}/${what}`;

function studyOfPage() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name.toLowerCase() === 'studyinstanceuids') return value.split(',')[0];
  }
  return '';
}

async function get(path) {
  const answer = await fetch(path, { credentials: 'same-origin' });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer;
}

/* The number of each phrase, by its tracking UID. */
function numbersIn(page) {
  return new Map([...page.querySelectorAll('.line')].map((line) => [line.dataset.uid, Number(line.id.slice('line-'.length))]));
}

/* The Segmentations of the newest results, as OHIF holds them, and what of them each phrase lights. */
class Lights {
  constructor({ servicesManager, commandsManager }, numbers, series) {
    this.services = servicesManager.services;
    this.commands = commandsManager;
    this.series = new Set(series.segmentations);
    this.numbers = numbers;
    this.chosen = null;
  }

  /* [{ displaySet, segments: Map(phrase number -> segment number) }], in the order of the images. */
  segmentations() {
    return this.services.displaySetService
      .getActiveDisplaySets()
      .filter((displaySet) => displaySet.Modality === 'SEG' && this.series.has(displaySet.SeriesInstanceUID))
      .map((displaySet) => ({ displaySet, segments: this.segmentsOf(displaySet) }));
  }

  segmentsOf(displaySet) {
    const instance = displaySet.instance ?? displaySet.instances?.[0];
    return new Map(
      list(instance?.SegmentSequence)
        .filter((segment) => this.numbers.has(segment.TrackingUID))
        .map((segment) => [this.numbers.get(segment.TrackingUID), Number(segment.SegmentNumber)])
    );
  }

  /* Ids of the viewports that show the image of *displaySet*. */
  viewportsOf(displaySet) {
    const { viewports } = this.services.viewportGridService.getState();
    const image = displaySet.referencedDisplaySetInstanceUID;
    return [...viewports.values()]
      .filter((viewport) => viewport.displaySetInstanceUIDs?.includes(image))
      .map((viewport) => viewport.viewportId);
  }

  representation(viewportId, displaySet) {
    const segmentationId = displaySet.displaySetInstanceUID;
    return this.services.segmentationService.getSegmentationRepresentations(viewportId, { segmentationId })[0];
  }

  async load(displaySet) {
    const headers = this.services.userAuthenticationService.getAuthorizationHeader();
    if (!displaySet.isLoaded) await displaySet.load({ headers });
    return displaySet;
  }

  /* Put the image of *displaySet* with its regions into a viewport. */
  async open(displaySet, viewportId) {
    await this.load(displaySet);
    this.services.viewportGridService.setDisplaySetsForViewport({
      viewportId,
      displaySetInstanceUIDs: [displaySet.referencedDisplaySetInstanceUID],
    });
    await this.commands.runCommand('hydrateSecondaryDisplaySet', { displaySet, viewportId });
  }

  /* Regions over every image that is shown; called when viewports change. */
  async cover() {
    for (const { displaySet } of this.segmentations()) {
      for (const viewportId of this.viewportsOf(displaySet)) {
        if (this.representation(viewportId, displaySet)) continue;
        await this.load(displaySet);
        await this.services.segmentationService.addSegmentationRepresentation(viewportId, {
          segmentationId: displaySet.displaySetInstanceUID,
          type: 'Labelmap',
        });
      }
    }
    this.show(this.chosen);
  }

  /* Only the regions of phrase *number* stay lit; all of them when it is null. */
  show(number) {
    this.chosen = number;
    for (const { displaySet, segments } of this.segmentations()) {
      for (const viewportId of this.viewportsOf(displaySet)) {
        if (!this.representation(viewportId, displaySet)) continue;
        for (const [phrase, segment] of segments) this.light(viewportId, displaySet, segment, number, phrase);
      }
    }
  }

  light(viewportId, displaySet, segment, number, phrase) {
    const visible = number === null || number === phrase;
    const held = this.representation(viewportId, displaySet).segments[segment];
    if (held && held.visible === visible) return;
    const id = displaySet.displaySetInstanceUID;
    this.services.segmentationService.setSegmentVisibility(viewportId, id, segment, visible, 'Labelmap');
  }

  /* Go to the regions of phrase *number*: to the image that shows them, if none does, and to their centre. */
  async jump(number) {
    const found = this.segmentations().filter(({ segments }) => segments.has(number));
    if (!found.length) return;
    if (!found.some(({ displaySet }) => this.viewportsOf(displaySet).length)) {
      await this.open(found[0].displaySet, this.services.viewportGridService.getActiveViewportId());
    }
    for (const { displaySet, segments } of found) {
      const id = displaySet.displaySetInstanceUID;
      for (const viewportId of this.viewportsOf(displaySet)) {
        this.services.segmentationService.jumpToSegmentCenter(id, segments.get(number), viewportId, 0.9, false);
      }
    }
    this.show(number);
  }
}

/* The panel: OHIF may take it out of the page and put it back, so whatever is connected is let go again. */
class ReportPanel extends HTMLElement {
  static managers = null;

  async connectedCallback() {
    this.leaving = new AbortController();
    this.root = this.shadowRoot ?? this.attachShadow({ mode: 'open' });
    const study = studyOfPage();
    this.say('Loading the report …');
    try {
      const [page, series] = await Promise.all([
        get(address(study, 'page')).then(async (answer) => new DOMParser().parseFromString(await answer.text(), 'text/html')),
        get(address(study, 'series')).then((answer) => answer.json()),
      ]);
      if (!this.isConnected) return;
      this.lights = new Lights(ReportPanel.managers, numbersIn(page), series);
      this.pinned = null;
      this.draw(page);
      this.listen();
    } catch (error) {
      const none = error.message === '404';
      this.say(none ? 'Sightline has no results for this study yet.' : 'The report cannot be shown; reload to try again.');
    }
  }

  disconnectedCallback() {
    this.leaving.abort();
    this.lights?.show(null);
  }

  say(words) {
    const line = document.createElement('p');
    line.style.cssText = 'margin: 1rem; color: #e4e6ea;';
    line.textContent = words;
    this.root.replaceChildren(line);
  }

  /* The report of the evidence page under a style of its own: the page is ours, its script stays behind. */
  draw(parsed) {
    const style = document.createElement('style');
    style.textContent = `${parsed.querySelector('style').textContent.replaceAll(':root', ':host')}
      :host { display: block; height: 100%; overflow: auto; background: var(--paper); color: var(--ink); }
      .reading { padding: .75rem; font: .9375rem/1.5 system-ui, "Liberation Sans", sans-serif; }`;
    const reading = parsed.querySelector('.reading');
    reading.querySelector('.hint')?.replaceChildren('Point at a phrase: only its place stays lit. Click to go there; Escape lets go.');
    this.root.replaceChildren(style, document.adoptNode(reading));
    this.all = (selector) => [...this.root.querySelectorAll(selector)];
  }

  listen() {
    const { signal } = this.leaving;
    const on = (target, event, act) => target.addEventListener(event, act, { signal });
    const numberOf = (event) => {
      const marked = event.target.closest?.(MARKED);
      return marked ? Number(marked.dataset.owner ?? marked.dataset.go) : null;
    };
    on(this.root, 'pointerover', (event) => this.show(numberOf(event) ?? this.pinned));
    on(this, 'pointerleave', () => this.show(this.pinned));
    on(this.root, 'focusin', (event) => this.show(numberOf(event) ?? this.pinned));
    on(this.root, 'click', (event) => this.pin(numberOf(event)));
    on(this.root, 'keydown', (event) => {
      if (event.key === 'Escape') this.pin(null);
      else if ((event.key === 'Enter' || event.key === ' ') && event.target.matches('.phrase')) {
        event.preventDefault();
        this.pin(numberOf(event));
      }
    });
    const { viewportGridService, segmentationService } = this.lights.services;
    const cover = () => this.cover();
    for (const [service, event] of [
      [viewportGridService, viewportGridService.EVENTS.GRID_STATE_CHANGED],
      [viewportGridService, viewportGridService.EVENTS.VIEWPORTS_READY],
      [segmentationService, segmentationService.EVENTS.SEGMENTATION_REPRESENTATION_MODIFIED],
    ]) {
      const { unsubscribe } = service.subscribe(event, cover);
      signal.addEventListener('abort', unsubscribe);
    }
    this.cover();
  }

  /* One at a time, and once more when something changed meanwhile. */
  async cover() {
    this.changed = true;
    if (this.covering) return;
    this.covering = true;
    try {
      while (this.changed && this.isConnected) {
        this.changed = false;
        await this.lights.cover();
      }
    } finally {
      this.covering = false;
    }
  }

  show(number) {
    if (this.shown === number) return;
    this.shown = number;
    this.lights.show(number);
    for (const run of this.all('.phrase')) {
      const on = number !== null && (run.dataset.phrases ?? run.dataset.owner).split(' ').map(Number).includes(number);
      run.classList.toggle('on', on);
      run.classList.toggle('lights', on);
      if (run.role === 'button') run.setAttribute('aria-pressed', String(this.pinned === Number(run.dataset.owner)));
    }
    for (const line of this.all('.line')) line.classList.toggle('on', line.id === `line-${number}`);
  }

  pin(number) {
    this.pinned = number === this.pinned ? null : number;
    this.shown = undefined;
    this.show(this.pinned);
    if (this.pinned !== null) this.lights.jump(this.pinned);
  }
}

/* What React 18 takes for an element; OHIF lends its own React to nobody. */
const Panel = () => ({
  $$typeof: Symbol.for('react.element'),
  type: 'sightline-report',
  key: null,
  ref: null,
  props: {},
  _owner: null,
});

/* OHIF keeps its right side closed until something asks for it. */
function openWhenReady({ panelService, viewportGridService }) {
  const { unsubscribe } = viewportGridService.subscribe(viewportGridService.EVENTS.VIEWPORTS_READY, () => {
    unsubscribe();
    panelService.activatePanel('sightline.panelModule.report', true);
  });
}

export default {
  id: 'sightline',
  onModeEnter({ servicesManager }) {
    openWhenReady(servicesManager.services);
  },
  getPanelModule(managers) {
    ReportPanel.managers = managers;
    customElements.define('sightline-report', ReportPanel);
    return [{ name: 'report', iconName: 'tab-patient-info', iconLabel: 'Report', label: 'Report', component: Panel }];
  },
};
