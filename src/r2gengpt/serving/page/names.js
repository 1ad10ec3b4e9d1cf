/* Whose a study is in words, and what a saved file of it is called. */

const LONGEST = 40;

/* YYYYMMDD as YYYY-MM-DD; else as it is. */
export const dateOf = (text) => text.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");

/* A person name of DICOM (Family^Given^…, other alphabets behind "=") as it is read. */
function personOf(name) {
  const [family = "", ...given] = (name.split("=").find((group) => group.replaceAll("^", "").trim()) ?? "").split("^");
  return [family.trim(), given.map((part) => part.trim()).filter(Boolean).join(" ")].filter(Boolean).join(", ");
}

/* Name and value of what is known of whose a study is: patient, accession, date. */
export function identityRows(patient) {
  if (!patient) return [];
  const [person, id] = [personOf(patient.name), patient.id.trim()];
  const who = person && id ? `${person} (${id})` : person || id;
  const rows = [["Patient", who], ["Accession", patient.accession.trim()], ["Date", dateOf(patient.study_date)]];
  return rows.map(([name, value]) => [name, value || "not named"]);
}

/* A value of a file as a part of a file's name: letters, digits, points and hyphens. */
function part(text) {
  const plain = text.normalize("NFC").replace(/[^\p{L}\p{M}\p{N}.-]+/gu, "-");
  return [...plain].slice(0, LONGEST).join("").replace(/^[-.]+|[-.]+$/g, "");
}

/* "P-1_A-77_2026-01-02_report-draft.txt"; without a patient "report-draft.txt". */
export function fileName(patient, ending) {
  const known = patient ? [patient.id || personOf(patient.name), patient.accession, dateOf(patient.study_date)] : [];
  return `${[...known.map(part).filter(Boolean), "report-draft"].join("_")}.${ending}`;
}
