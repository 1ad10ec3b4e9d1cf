/* The films on screen: one, or two side by side, each on a canvas; the tools act on the one that is active. */

import { $, button } from "./elements.js";
import { dateOf } from "./names.js";
import { draft, films, stale, study } from "./state.js";
import { START, Viewer } from "./viewer.js";
import { PRESETS } from "./windows.js";

const canvases = [$("film"), $("film2")];
/* view: what a pane shows; at: its number among all films. */
const panes = canvases.map((canvas) => ({ canvas, viewer: new Viewer(canvas, keep), view: null, at: 0 }));
let [active, both] = [0, false];

const isPrior = (view) => study.prior.includes(view);
const seen = () => (both ? panes : panes.slice(0, 1));
const viewer = () => panes[active].viewer;

/* A viewer's state changed: it is its view's, and the tools show it if it is the active one. */
function keep(changed) {
  const pane = panes.find((one) => one.viewer === changed);
  const { view } = pane;
  if (view?.image === changed.image) view.seen = changed.state;
  if (pane === panes[active]) showState(changed.state);
}

function showState({ level, width, zoom, invert, flip, turn, preset }) {
  const shown = { level: 100 * level, width: 100 * width, zoom: (100 * Math.log(zoom)) / Math.log(8) };
  const percent = (value) => `${Math.round(value)} %`;
  const words = { level: percent(shown.level), width: percent(shown.width), zoom: `${zoom.toFixed(1)}×` };
  for (const name of ["level", "width", "zoom"]) {
    $(name).value = String(Math.round(shown[name]));
    $(name).setAttribute("aria-valuetext", words[name]);
    $(`${name}-value`).textContent = words[name];
  }
  const pressed = { invert, flip };
  for (const name of PRESETS) pressed[`preset-${name}`] = name === preset;
  for (const [id, on] of Object.entries(pressed)) $(id).setAttribute("aria-pressed", String(on));
  const changes = [turn ? `turned by ${90 * turn}°` : "", flip ? "mirrored: left and right are exchanged" : ""];
  const said = changes.filter(Boolean).join(" and ");
  $("film-turned").textContent = said && `This view is ${said}.`;
}

/* The map of the sentence that is pointed at, over each film of the study that is seen; maps may differ between views. */
export function overlay(at, kept = false) {
  draft.at = at;
  const { evidence } = draft;
  const sentence = stale() ? null : evidence?.sentences[at];
  for (const pane of panes) {
    const map = sentence && !isPrior(pane.view) && {
      grid: evidence.grid,
      values: sentence.maps?.[pane.at] ?? sentence.map,
      box: evidence.boxes?.[pane.at],
      faint: sentence.verdict === "no evidence",
    };
    pane.viewer.overlay(map || null);
  }
  if (sentence && kept) $("film").scrollIntoView({ block: "nearest" });
}

function showPane(pane) {
  const { view } = pane;
  if (!view) return;
  if (pane.viewer.image !== view.image) pane.viewer.show(view.image, view.seen ?? START);
  const size = `${view.image.width} by ${view.image.height} pixels`;
  const views = isPrior(view) ? study.prior : study.views;
  pane.canvas.setAttribute("aria-label", `${nameOf(view)} of ${views.length}, ${size}`);
  showTag(pane);
  pane.canvas.classList.toggle("active", both && pane === panes[active]);
}

/* Which study a film is of, on the film, once there are two. */
function showTag({ canvas, view }) {
  const date = dateOf(view.patient?.study_date ?? "");
  const tag = canvas.nextElementSibling;
  tag.hidden = study.prior.length === 0;
  tag.textContent = [isPrior(view) ? "Prior" : "Current", date].filter(Boolean).join(", ");
}

/* What stands below the films: of the active one. */
function showNotes() {
  const { view } = panes[active];
  $("film-warning").textContent = view?.warning ? `This file ${view.warning}.` : "";
  $("film-known").textContent = view?.known ? `Known of this example film: ${view.known}` : "";
}

/* "View 2", "Prior 1": as the films of its study are counted. */
function nameOf(view) {
  const at = study.prior.indexOf(view);
  return at < 0 ? `View ${study.views.indexOf(view) + 1}` : `Prior ${at + 1}`;
}

function chip(view) {
  const [item, name] = [document.createElement("li"), nameOf(view)];
  const chosen = button("show", `${name}${view.name && ` (${view.name})`}`, () => select(view));
  const remove = button("remove", "×", () => onRemove(view));
  chosen.setAttribute("aria-pressed", String(seen().some((pane) => pane.view === view)));
  remove.setAttribute("aria-label", `Remove ${name.toLowerCase()}`);
  item.append(chosen, remove);
  return item;
}

function showChips() {
  $("views").replaceChildren(...study.views.map(chip));
  $("prior-views").replaceChildren(...study.prior.map(chip));
  $("prior-views").hidden = study.prior.length === 0;
}

/* A pane whose film went shows the one in its place. */
function settle(pane) {
  const all = films();
  if (!all.includes(pane.view)) pane.view = all[Math.min(pane.at, all.length - 1)] ?? null;
  pane.at = Math.max(0, all.indexOf(pane.view));
}

let onRemove = () => {};

/* Show what there is of the study. */
export function showFilms() {
  const count = films().length;
  panes.forEach(settle);
  if (count < 2) [both, active] = [false, 0];
  $("viewer").hidden = count === 0;
  $("both").disabled = count < 2;
  $("both").setAttribute("aria-pressed", String(both));
  $("film2").hidden = !both;
  $("films").classList.toggle("two", both);
  for (const pane of panes) {
    if (count && seen().includes(pane)) showPane(pane);
    else pane.viewer.show(null); // a film that went is not drawn any more
  }
  showChips();
  showNotes();
  overlay(draft.at);
  if (count) showState(viewer().state);
}

/* Show this view in the active pane. */
function select(view) {
  panes[active].view = view;
  showFilms();
  if (document.activeElement === document.body) document.querySelectorAll(".views .show")[panes[active].at]?.focus();
}

/* Show a film that is new: one of the study before stands beside the study's. */
export function show(view) {
  if (isPrior(view)) {
    [both, active] = [true, 0];
    if (isPrior(panes[0].view)) [panes[0].view] = study.views;
    panes[1].view = view;
    showFilms();
  } else select(view);
}

function activate(at) {
  if (active === at) return;
  active = at;
  showFilms();
}

/* The second film is the first of the study before, else the next one. */
function toggleBoth() {
  both = !both;
  active = 0;
  const [first, all] = [panes[0].view, films()];
  if (both) panes[1].view = (!isPrior(first) && study.prior[0]) || all[(all.indexOf(first) + 1) % all.length];
  showFilms();
}

/* Of the whole screen where the browser lets a page have it, else of the whole window. */
function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if ($("viewer").requestFullscreen) $("viewer").requestFullscreen().catch(() => setFull(true));
  else setFull(!$("viewer").classList.contains("full"));
}

function setFull(on) {
  $("viewer").classList.toggle("full", on);
  $("full").setAttribute("aria-pressed", String(on));
  $("full").textContent = on ? "Leave full screen" : "Full screen";
}

function listenToTools() {
  for (const name of ["level", "width"]) {
    $(name).addEventListener("input", () => viewer().set({ [name]: $(name).value / 100 }));
  }
  $("zoom").addEventListener("input", () => viewer().zoomTo(8 ** ($("zoom").value / 100)));
  for (const name of PRESETS) $(`preset-${name}`).addEventListener("click", () => viewer().preset(name));
  $("invert").addEventListener("click", () => viewer().set({ invert: !viewer().state.invert }));
  $("flip").addEventListener("click", () => viewer().set({ flip: !viewer().state.flip }));
  $("turn").addEventListener("click", () => viewer().set({ turn: viewer().state.turn + 1, x: 0, y: 0 }));
  $("reset").addEventListener("click", () => viewer().reset());
  $("both").addEventListener("click", toggleBoth);
  $("full").addEventListener("click", toggleFull);
}

/* Wire films and tools; `removed` is called with a view that is to go. Call once. */
export function listenToFilms(removed) {
  onRemove = removed;
  listenToTools();
  canvases.forEach((canvas, at) => {
    for (const name of ["focus", "pointerdown"]) canvas.addEventListener(name, () => activate(at));
  });
  document.addEventListener("fullscreenchange", () => setFull(Boolean(document.fullscreenElement)));
  document.addEventListener("keydown", ({ key }) => key === "Escape" && !document.fullscreenElement && setFull(false));
  // on a narrow screen the tools fold away, so that the draft stands closer to its film
  const narrow = window.matchMedia("(max-width: 40rem)");
  const fold = () => ($("tools").open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();
}
