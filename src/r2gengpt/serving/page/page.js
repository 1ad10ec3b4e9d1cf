/* The page: one study in, its draft out, edited and saved. It keeps everything in memory and stores nothing. */

import { Refused, writeReport } from "./client.js";
import { showOrigin, showRecord } from "./draft.js";
import { copyText, savePdf, saveText } from "./save.js";
import { Viewer } from "./viewer.js";

const KINDS = ["image/png", "image/jpeg"];
const $ = (id) => document.getElementById(id);

/* views: {file, image}; version grows with each change of what the draft depends on; map: the one that is shown. */
const study = { views: [], at: 0, version: 0, map: {} };
/* record: the finished draft, and of which version of the study; request: the one that is running. */
const draft = { record: null, version: 0, request: null };

const viewer = new Viewer($("film"), ({ level, width, zoom, invert }) => {
  const shown = { level: 100 * level, width: 100 * width, zoom: (100 * Math.log(zoom)) / Math.log(8) };
  const percent = (value) => `${Math.round(value)} %`;
  const words = { level: percent(shown.level), width: percent(shown.width), zoom: `${zoom.toFixed(1)}×` };
  for (const name of ["level", "width", "zoom"]) {
    $(name).value = String(Math.round(shown[name]));
    $(name).setAttribute("aria-valuetext", words[name]);
    $(`${name}-value`).textContent = words[name];
  }
  $("invert").setAttribute("aria-pressed", String(invert));
});

/* Into a live region: the same words are not said twice. */
function say(words, { busy = false } = {}) {
  if ($("status").textContent !== words) $("status").textContent = words;
  $("status").classList.toggle("busy", busy);
}

function complain(words) {
  $("error").textContent = words;
}

const edited = () => Boolean(draft.record) && $("text").value !== draft.record.findings;

/* ---------------------------------------------------------------- the study */

function studyChanged() {
  study.version += 1;
  $("write").disabled = study.views.length === 0;
  tellStale();
}

function tellStale() {
  const stale = draft.record && draft.version !== study.version;
  const words = "The study was changed after this draft was written: it may not fit any more.";
  if (!stale || !$("stale").textContent) $("stale").textContent = stale ? words : "";
  if (stale) overlay(null, null);
}

function showViews() {
  const { views } = study;
  $("viewer").hidden = views.length === 0;
  $("drop").classList.toggle("empty", views.length === 0);
  $("views").replaceChildren(...views.map((_, at) => {
    const item = document.createElement("li");
    const show = button("show", `View ${at + 1}`, () => select(at));
    const remove = button("remove", "×", () => removeView(at));
    show.setAttribute("aria-pressed", String(at === study.at));
    remove.setAttribute("aria-label", `Remove view ${at + 1}`);
    item.append(show, remove);
    return item;
  }));
}

function button(className, textContent, onclick) {
  return Object.assign(document.createElement("button"), { type: "button", className, textContent, onclick });
}

/* The map of a sentence over the view that is seen; maps may have one part a view. */
function overlay(grid, map) {
  study.map = { grid, map };
  const size = map ? grid[0] * grid[1] : 0;
  const from = map && map.length > size ? study.at * size : 0;
  viewer.overlay(grid, map?.slice(from, from + size));
}

function select(at) {
  study.at = at;
  showViews();
  const view = study.views[at];
  if (!view) return;
  viewer.show(view.image);
  overlay(study.map.grid, study.map.map);
  const size = `${view.image.width} by ${view.image.height} pixels`;
  $("film").setAttribute("aria-label", `View ${at + 1} of ${study.views.length}, ${size}`);
  if (document.activeElement === document.body) $("views").querySelectorAll(".show")[at].focus();
}

function removeView(at) {
  study.views.splice(at, 1)[0].image.close();
  studyChanged();
  select(Math.min(study.at, study.views.length - 1));
  if (!study.views.length) $("files").focus();
}

async function addFiles(files) {
  complain("");
  const [refused, first] = [[], study.views.length];
  for (const file of files) {
    try {
      if (!KINDS.includes(file.type)) throw new TypeError(file.type);
      study.views.push({ file, image: await createImageBitmap(file) });
    } catch {
      refused.push(file.name);
    }
  }
  if (refused.length) complain(`No PNG or JPEG image, left out: ${refused.join(", ")}.`);
  if (refused.length === files.length) return;
  studyChanged();
  select(first);
  if (!draft.record && !draft.request) say("Ready. Write the draft when all images of the study are here.");
}

function mayDiscard() {
  return !edited() || window.confirm("Your edits of this draft will be lost. Go on?");
}

function newStudy() {
  if (!mayDiscard()) return;
  draft.request?.abort();
  for (const { image } of study.views) image.close();
  Object.assign(study, { views: [], at: 0 });
  viewer.image = null;
  $("indication").value = "";
  clearDraft();
  studyChanged();
  showViews();
  complain("");
  say("Choose the images of one study to begin.");
  $("files").focus();
}

/* ---------------------------------------------------------------- the draft */

function clearDraft() {
  draft.record = null;
  for (const id of ["written", "legend", "edit", "made"]) $(id).hidden = true;
  $("written").replaceChildren();
  $("text").value = "";
  $("saved").textContent = "";
  overlay(null, null);
  tellStale();
}

/* One button gives way to the other; the focus goes along. */
function setBusy(busy) {
  const [from, to] = busy ? ["write", "cancel"] : ["cancel", "write"];
  const focused = document.activeElement === $(from);
  $(to).hidden = false;
  if (focused) $(to).focus();
  $(from).hidden = true;
  $("draft").setAttribute("aria-busy", String(busy));
}

function onText(piece) {
  $("written").hidden = false;
  $("written").append(piece);
  say("Writing …", { busy: true });
}

function finish(record) {
  draft.record = record;
  showRecord(record, $("written"), $("legend"), overlay);
  showOrigin(record, $("made-list"));
  for (const id of ["written", "edit", "made"]) $(id).hidden = false;
  $("text").value = record.findings;
  $("restore").disabled = true;
  tellStale();
  const cut = record.finish_reason === "length" ? " It reached the length limit and may be cut off." : "";
  const focused = document.activeElement === $("cancel");
  say(`The draft is finished. Read it against the images: it is not verified.${cut}`);
  if (focused) $("draft").focus();
}

function failed(error) {
  clearDraft();
  if (error.name === "AbortError") {
    say("Cancelled. Nothing was kept.");
    return;
  }
  say("No draft was written.");
  if (error instanceof Refused) complain(error.message);
  else complain("No connection to the server. Check that it is running, and try again.");
  if (error.status === 401) {
    $("key-box").hidden = false;
    $("key").focus();
  }
}

async function write() {
  if (!study.views.length || draft.request || !mayDiscard()) return;
  const request = new AbortController();
  draft.request = request;
  clearDraft();
  complain("");
  draft.version = study.version;
  setBusy(true);
  say("Waiting for the server …", { busy: true });
  const files = study.views.map((view) => view.file);
  const [indication, key] = [$("indication").value.trim(), $("key").value.trim()];
  try {
    finish(await writeReport({ files, indication, key, signal: request.signal, onText }));
  } catch (error) {
    failed(error);
  } finally {
    draft.request = null;
    setBusy(false);
  }
}

/* ---------------------------------------------------------------- out of the page */

/* The text as it now stands, and what goes below it. */
function result() {
  const written = new Date(1000 * draft.record.created).toISOString().slice(0, 16).replace("T", " ");
  const model = draft.record.provenance?.model ?? "unknown";
  const foot = `r2gengpt, model ${model}, ${written} UTC${edited() ? ", edited by its reader" : ""}`;
  return { text: $("text").value.trim(), foot };
}

async function copy() {
  const copied = await copyText(result());
  if (!copied) $("text").select();
  const refused = "This browser does not let the page copy. The text is selected: press Ctrl+C.";
  $("saved").textContent = copied ? "Copied." : refused;
}

/* ---------------------------------------------------------------- wiring */

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function nameTheme() {
  $("theme").textContent = dark() ? "Light colours" : "Dark colours";
}

function listen() {
  $("files").addEventListener("change", () => {
    addFiles([...$("files").files]);
    $("files").value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) addFiles([...event.dataTransfer.files]);
    });
  }
  for (const name of ["level", "width"]) {
    $(name).addEventListener("input", () => viewer.set({ [name]: $(name).value / 100 }));
  }
  $("zoom").addEventListener("input", () => viewer.zoomTo(8 ** ($("zoom").value / 100)));
  $("invert").addEventListener("click", () => viewer.set({ invert: !viewer.state.invert }));
  $("reset").addEventListener("click", () => viewer.reset());
  $("indication").addEventListener("input", studyChanged);
  $("write").addEventListener("click", write);
  $("cancel").addEventListener("click", () => draft.request?.abort());
  $("key").addEventListener("keydown", (event) => event.key === "Enter" && write());
  $("new-study").addEventListener("click", newStudy);
  $("text").addEventListener("input", () => ($("restore").disabled = !edited()));
  $("restore").addEventListener("click", () => {
    $("text").value = draft.record.findings;
    $("text").focus();
    $("restore").disabled = true;
  });
  $("copy").addEventListener("click", copy);
  $("save-text").addEventListener("click", () => ($("saved").textContent = saveText(result())));
  $("save-pdf").addEventListener("click", () => ($("saved").textContent = savePdf(result())));
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    nameTheme();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  window.addEventListener("beforeunload", (event) => edited() && event.preventDefault());
}

listen();
nameTheme();
showViews();
