/* Maps of a finished draft's sentences, asked for while it is read; the draft stays whatever comes of it. */

import { Refused, mapsOf, runtimesOf } from "./client.js";
import { mapped, verdictWords } from "./draft.js";
import { isEditing, showText } from "./editor.js";
import { $, askForKey } from "./elements.js";
import { draft, key, stale } from "./state.js";

const LOADING = "Loading PyTorch, which maps need, once; then mapping the sentences …";
const PATIENCE = 1000;

const tell = (words) => ($("evidence").textContent = words);

function failed(error) {
  if (error.name === "AbortError") tell("");
  else tell(`No maps. ${error instanceof Refused ? error.message : "No connection to the server."}`);
  if (error.status === 401) askForKey({ aside: true });
}

/* The new sentences take the place of the old: the focus stays on the one that has it. */
function show() {
  if (isEditing()) return;
  const at = [...$("written").querySelectorAll(".sentence")].indexOf(document.activeElement);
  showText();
  if (at >= 0) $("written").querySelectorAll(".sentence")[at]?.focus();
}

/* Where the maps of this request wait for PyTorch, say so. */
async function tellLoading(request) {
  const { torch } = await runtimesOf(request.signal).catch(() => ({}));
  if (draft.mapping === request && torch === "loading") tell(LOADING);
}

/* Ask for them where they are wanted and not there. */
export async function mapSentences() {
  const { record, sent } = draft;
  if (!record?.sentences?.length || draft.evidence || draft.mapping || !$("maps").checked) return;
  if (stale() || !sent.files) return;
  const [request, begun] = [new AbortController(), performance.now()];
  draft.mapping = request;
  tell("Mapping the sentences on the image …");
  const late = setTimeout(tellLoading, PATIENCE, request);
  try {
    const evidence = await mapsOf({ ...sent, key: key() }, record.findings, request.signal);
    if (draft.record !== record) return;
    if (!mapped(record, evidence)) throw new Refused(0, "The maps do not fit the sentences.");
    draft.evidence = evidence;
    show();
    tell(`${verdictWords(evidence)} Mapped in ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
  } catch (error) {
    if (draft.record === record) failed(error);
  } finally {
    clearTimeout(late);
    if (draft.mapping === request) draft.mapping = null;
  }
}
