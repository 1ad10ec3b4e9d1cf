/* What the page holds: one study and its draft. Shows nothing and asks nobody. */

import { $ } from "./elements.js";

/* views: as `openFilm` gives them; prior: those of the patient's study before; choice: what is asked of DICOM; version
   grows with each change of what the draft depends on. */
export const study = { views: [], prior: [], choice: {}, version: 0 };

/* All films, those of the study first. */
export const films = () => [...study.views, ...study.prior];

/* record: the finished draft, of which version of the study (null: from before a reload), and as it was sent; patient:
   whose it is; verdict: its reader's, {verdict, decided, reason, note}; told: the one that was last sent to the server,
   {said, key, kept, lost}; evidence: its maps, and the number of the sentence that is pointed at; request and mapping:
   what is running. */
export const draft = {
  record: null, version: 0, sent: null, patient: null, verdict: null, told: null,
  evidence: null, at: null, request: null, mapping: null,
};

/* The draft's text as it now stands. */
export const text = () => $("text").value;

export const edited = () => Boolean(draft.record) && text() !== draft.record.findings;

/* Whether the draft is of another study than the one that is seen, or may be. */
export const stale = () => Boolean(draft.record) && draft.version !== study.version;

/* Whose the study is: of its first film that names a patient, else of the first that is DICOM; null of others. */
export function patientOf(views) {
  const known = views.map(({ patient }) => patient).filter(Boolean);
  return known.find(({ id }) => id) ?? known[0] ?? null;
}

export const key = () => $("key").value.trim();
