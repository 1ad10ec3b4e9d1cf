/* A text out of the page: to the clipboard, as a text file, as a PDF. Each carries the notice. */

import { encoded, pdfOf } from "./pdf.js";

const NOTICE = "AI draft, not verified, research only";

/* The text under the note on its images, where there is one. */
const noted = ({ text, note }) => (note ? `${note}\n\n${text}` : text);

const whole = (result) => `${NOTICE}\n\n${noted(result)}\n\n${result.foot}\n`;

function download(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/* Whether the browser let it be copied. */
export async function copyText(result) {
  try {
    await navigator.clipboard.writeText(whole(result));
    return true;
  } catch {
    return false;
  }
}

/* Saves; gives what to tell the reader. */
export function saveText(result) {
  download(whole(result), "text/plain;charset=utf-8", "report-draft.txt");
  return "Saved as report-draft.txt.";
}

/* Saves; gives what to tell the reader. */
export function savePdf(result) {
  const text = noted(result);
  const { missing } = encoded(text);
  download(pdfOf(text, NOTICE, result.foot), "application/pdf", "report-draft.pdf");
  const lost = missing.length ? ` These letters are not in its font and became "?": ${missing.join(" ")}` : "";
  return `Saved as report-draft.pdf.${lost}`;
}
