/* The films on screen: one, or two side by side, each on a canvas; the tools act on the one that is active. */

import { $, button } from "./elements.js";
import { draft, stale, study } from "./state.js";
import { START, Viewer } from "./viewer.js";
import { PRESETS } from "./windows.js";

const canvases = [$("film"), $("film2")];
/* at: the number of the view that a pane shows. */
const panes = canvases.map((canvas) => ({ canvas, viewer: new Viewer(canvas, keep), at: 0 }));
let [active, both] = [0, false];

const viewOf = (pane) => study.views[pane.at] ?? null;
const seen = () => (both ? panes : panes.slice(0, 1));
const viewer = () => panes[active].viewer;

/* A viewer's state changed: it is its view's, and the tools show it if it is the active one. */
function keep(changed) {
  const pane = panes.find((one) => one.viewer === changed);
  const view = viewOf(pane);
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

/* The map of the sentence that is pointed at, over each film that is seen; maps may differ between views. */
export function overlay(at, kept = false) {
  draft.at = at;
  const { evidence } = draft;
  const sentence = stale() ? null : evidence?.sentences[at];
  for (const pane of panes) {
    const map = sentence && {
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
  const view = viewOf(pane);
  if (!view) return;
  if (pane.viewer.image !== view.image) pane.viewer.show(view.image, view.seen ?? START);
  const size = `${view.image.width} by ${view.image.height} pixels`;
  pane.canvas.setAttribute("aria-label", `View ${pane.at + 1} of ${study.views.length}, ${size}`);
  pane.canvas.classList.toggle("active", both && pane === panes[active]);
}

/* What stands below the films: of the active one. */
function showNotes() {
  const view = viewOf(panes[active]);
  $("film-warning").textContent = view?.warning ? `This file ${view.warning}.` : "";
  $("film-known").textContent = view?.known ? `Known of this example film: ${view.known}` : "";
}

function showChips(removed) {
  const { views } = study;
  $("views").replaceChildren(...views.map((view, at) => {
    const item = document.createElement("li");
    const show = button("show", `View ${at + 1}${view.name && ` (${view.name})`}`, () => select(at));
    const remove = button("remove", "×", () => removed(at));
    show.setAttribute("aria-pressed", String(seen().some((pane) => pane.at === at)));
    remove.setAttribute("aria-label", `Remove view ${at + 1}`);
    item.append(show, remove);
    return item;
  }));
}

let onRemove = () => {};

/* Show what there is of the study. */
export function showFilms() {
  const { views } = study;
  for (const pane of panes) pane.at = Math.min(pane.at, Math.max(0, views.length - 1));
  if (views.length < 2) [both, active] = [false, 0];
  $("viewer").hidden = views.length === 0;
  $("both").disabled = views.length < 2;
  $("both").setAttribute("aria-pressed", String(both));
  $("film2").hidden = !both;
  $("films").classList.toggle("two", both);
  for (const pane of seen()) showPane(pane);
  if (!views.length) for (const pane of panes) pane.viewer.show(null);
  showChips(onRemove);
  showNotes();
  overlay(draft.at);
  if (views.length) showState(viewer().state);
}

/* Show this view in the active pane. */
export function select(at) {
  panes[active].at = at;
  showFilms();
  if (document.activeElement === document.body) $("views").querySelectorAll(".show")[at]?.focus();
}

function activate(at) {
  if (active === at) return;
  active = at;
  showFilms();
}

/* The second film is the next one that is not seen yet. */
function toggleBoth() {
  both = !both;
  active = 0;
  if (both) panes[1].at = (panes[0].at + 1) % study.views.length;
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

/* Wire films and tools; `removed` is called with the number of a view that is to go. Call once. */
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
