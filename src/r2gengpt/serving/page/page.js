/* The page: one study in, its draft out, edited and saved. It keeps everything in memory and stores nothing. */

import { ask, listenToAnswers, stopAsking } from "./ask.js";
import { Refused, mapsOf, writeReport } from "./client.js";
import { mapped, showOrigin, showRecord, verdictWords } from "./draft.js";
import { openFilm } from "./films.js";
import { copyText, savePdf, saveText } from "./save.js";
import { listenToTheme } from "./theme.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

/* views: as `openFilm` gives them; choice: what is asked of DICOM; version grows with each change of what the draft
   depends on; opening: the files that are being opened. */
const study = { views: [], at: 0, choice: {}, version: 0, opening: Promise.resolve() };
/* record: the finished draft, of which version of the study, and as it was sent; evidence: its maps, and the number of
   the sentence that is pointed at; request and mapping: what is running. */
const draft = { record: null, version: 0, sent: null, evidence: null, at: null, request: null, mapping: null };

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
  if (stale) draft.mapping?.abort();
  overlay(draft.at);
}

function showViews() {
  const { views } = study;
  $("viewer").hidden = views.length === 0;
  $("drop").classList.toggle("empty", views.length === 0);
  $("views").replaceChildren(...views.map((_, at) => {
    const item = document.createElement("li");
    const show = button("show", `View ${at + 1}${views[at].name && ` (${views[at].name})`}`, () => select(at));
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

/* The map of a sentence, by its number, over the view that is seen; maps may differ between views. With `kept` the image
   is brought into sight. */
function overlay(at, kept = false) {
  draft.at = at;
  const { evidence } = draft;
  const sentence = draft.version === study.version ? evidence?.sentences[at] : null;
  if (!sentence) {
    viewer.overlay(null);
    return;
  }
  const values = sentence.maps?.[study.at] ?? sentence.map;
  const faint = sentence.verdict === "no evidence";
  if (kept) $("film").scrollIntoView({ block: "nearest" });
  viewer.overlay({ grid: evidence.grid, values, box: evidence.boxes?.[study.at], faint });
}

function select(at) {
  study.at = at;
  showViews();
  const view = study.views[at];
  if (!view) return;
  viewer.show(view.image);
  $("film-warning").textContent = view.warning && `This file ${view.warning}.`;
  overlay(draft.at);
  const size = `${view.image.width} by ${view.image.height} pixels`;
  $("film").setAttribute("aria-label", `View ${at + 1} of ${study.views.length}, ${size}`);
  if (document.activeElement === document.body) $("views").querySelectorAll(".show")[at].focus();
}

function removeView(at) {
  study.views.splice(at, 1)[0].image.close();
  if (!study.views.some(({ dicom }) => dicom)) study.choice = {};
  studyChanged();
  select(Math.min(study.at, study.views.length - 1));
  if (!study.views.length) $("files").focus();
}

/* A file as a view; where the server would read it if it were asked otherwise, the reader is asked. */
async function viewOf(file) {
  for (;;) {
    try {
      return await openFilm(file, study.choice, $("key").value.trim());
    } catch (error) {
      if (!["frame_needed", "force_needed"].includes(error.code)) throw error;
      say("Waiting for an answer about a file.");
      const wanted = await ask(file.name, error);
      if (!wanted) return null;
      Object.assign(study.choice, wanted);
    }
  }
}

async function openFiles(files) {
  complain("");
  const [none, told, first, { views }] = [[], [], study.views.length, study];
  if (!draft.record && !draft.request) say("Opening …", { busy: true });
  for (const file of files) {
    try {
      const view = await viewOf(file);
      if (views !== study.views) return; // a new study was begun meanwhile
      if (view) views.push(view);
    } catch (error) {
      if (error instanceof Refused) told.push(`${file.name}: ${error.message}`);
      else none.push(file.name);
      if (error.status === 401) askForKey();
    }
  }
  if (none.length) told.push(`No PNG, JPEG or DICOM image, left out: ${none.join(", ")}.`);
  complain(told.join(" "));
  if (views.length > first) {
    studyChanged();
    select(first);
  }
  if (draft.record || draft.request) return;
  if (views.length) say("Ready. Write the draft when all images of the study are here.");
  else say("Choose the images of one study to begin.");
}

/* One after the other: a file may need an answer first. */
function addFiles(files) {
  study.opening = study.opening.then(() => openFiles(files));
}

function mayDiscard() {
  return !edited() || window.confirm("Your edits of this draft will be lost. Go on?");
}

function newStudy() {
  if (!mayDiscard()) return;
  draft.request?.abort();
  stopAsking();
  for (const { image } of study.views) image.close();
  Object.assign(study, { views: [], at: 0, choice: {} });
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
  draft.mapping?.abort();
  Object.assign(draft, { record: null, evidence: null, at: null });
  for (const id of ["written", "legend", "edit", "made"]) $(id).hidden = true;
  $("written").replaceChildren();
  $("text").value = "";
  for (const id of ["saved", "evidence", "note"]) $(id).textContent = "";
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

/* Into a live region: said once, as soon as it is known. */
function onNote(note) {
  if ($("note").textContent !== note) $("note").textContent = note;
}

function finish(record) {
  draft.record = record;
  showRecord(record, $("written"), $("legend"));
  showOrigin(record, $("made-list"));
  for (const id of ["written", "edit", "made"]) $(id).hidden = false;
  $("text").value = record.findings;
  $("restore").disabled = true;
  tellStale();
  const cut = record.finish_reason === "length" ? " It reached the length limit and may be cut off." : "";
  const focused = document.activeElement === $("cancel");
  say(`The draft is finished. Read it against the images: it is not verified.${cut}`);
  if (focused) $("draft").focus();
  mapSentences();
}

/* Ask for the maps of a finished draft, while it can be read and edited; the draft stays whatever comes of it. */
async function mapSentences() {
  const { record, sent } = draft;
  if (!record?.sentences?.length || draft.evidence || draft.mapping || !$("maps").checked) return;
  if (draft.version !== study.version) return;
  const [request, begun, tell] = [new AbortController(), performance.now(), (words) => ($("evidence").textContent = words)];
  draft.mapping = request;
  tell("Mapping the sentences on the image …");
  try {
    const evidence = await mapsOf(sent, record.findings, request.signal);
    if (!mapped(record, evidence)) throw new Refused(0, "The maps do not fit the sentences.");
    draft.evidence = evidence;
    showRecord(record, $("written"), $("legend"), evidence, overlay);
    tell(`${verdictWords(evidence)} Mapped in ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
  } catch (error) {
    if (error.name === "AbortError") tell("");
    else tell(`No maps. ${error instanceof Refused ? error.message : "No connection to the server."}`);
  } finally {
    draft.mapping = null;
  }
}

function askForKey() {
  $("key-box").hidden = false;
  $("key").focus();
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
  if (error.status === 401) askForKey();
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
  draft.sent = { files, indication, key, choice: { ...study.choice } };
  try {
    finish(await writeReport(draft.sent, request.signal, onText, onNote));
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
  return { text: $("text").value.trim(), foot, note: draft.record.note ?? "" };
}

async function copy() {
  const copied = await copyText(result());
  if (!copied) $("text").select();
  const refused = "This browser does not let the page copy. The text is selected: press Ctrl+C.";
  $("saved").textContent = copied ? "Copied." : refused;
}

/* ---------------------------------------------------------------- wiring */

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
  $("maps").addEventListener("change", mapSentences);
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
  window.addEventListener("beforeunload", (event) => edited() && event.preventDefault());
}

listen();
listenToAnswers();
listenToTheme();
showViews();
