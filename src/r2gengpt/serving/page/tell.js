/* The reader's verdict on its way to the server, which keeps it where the draft came with a receipt. */

import { Refused, keepVerdict } from "./client.js";
import { $, askForKey } from "./elements.js";
import { keep } from "./kept.js";
import { newTicket } from "./queue.js";
import { draft, key, text } from "./state.js";

const NOWHERE = "This server keeps no verdicts: yours goes into the files that you save.";
/* One after the other: the newest counts. */
let line = Promise.resolve();

/* What there is to keep now, as the server takes it; null: nothing. */
function saying() {
  const { verdict, reason = "", note = "" } = draft.verdict ?? {};
  if (verdict === "edit") return { verdict, text: text() };
  if (verdict === "reject") return { verdict, reason, note: note.trim() };
  if (verdict === "accept") return { verdict };
  return draft.told ? { verdict: "withdraw" } : null;
}

/* What became of the verdict, and whether it can be sent again. */
export function showTold() {
  const { told, record } = draft;
  const lost = Boolean(told?.lost);
  const words = lost ? `Not kept: ${told.lost}` : told?.kept ? "Kept by the server." : told ? "Being sent …" : "";
  $("told").textContent = record && !record.receipt ? NOWHERE : words;
  $("told").classList.toggle("lost", lost);
  $("tell-again").hidden = !lost;
}

async function send(record, told) {
  try {
    await keepVerdict({ receipt: record.receipt, key: told.key, ...told.said }, key());
    Object.assign(told, { kept: true, lost: "" });
  } catch (error) {
    told.lost = error instanceof Refused ? error.message : "No connection to the server.";
    if (error.status === 401) askForKey({ aside: true });
  }
  if (draft.told !== told) return;
  showTold();
  keep();
}

/* Send the verdict as it now is, unless it was sent before; the same one goes under the same key. */
export function tell({ again = false } = {}) {
  const { record } = draft;
  if (!record?.receipt) return;
  const said = saying();
  if (!said) return;
  const same = JSON.stringify(draft.told?.said) === JSON.stringify(said);
  if (same && !(again && draft.told.lost)) return;
  const told = { said, key: same ? draft.told.key : newTicket(), kept: false, lost: "" };
  draft.told = told;
  showTold();
  keep();
  line = line.then(() => send(record, told));
}

/* Wire it; call once. */
export function listenToTelling() {
  $("tell-again").addEventListener("click", () => tell({ again: true }));
}
