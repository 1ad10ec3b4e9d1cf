/* Files to pictures that can be shown: PNG and JPEG by the browser, DICOM by the server. Knows nothing of the page. */

import { Refused, previewOf } from "./client.js";

const KINDS = ["image/png", "image/jpeg"];

/* By its type, its name, or the mark behind its preamble. */
async function isDicom(file) {
  if (file.type === "application/dicom" || /\.(dcm|dicom)$/i.test(file.name)) return true;
  return (await file.slice(128, 132).text()) === "DICM";
}

/* A view of the study. `choice` is what is asked of DICOM: {frame, force}. Throws `TypeError` where the file is none
   that is read here, and `Refused`. */
export async function openFilm(file, choice, key) {
  const plain = { file, name: "", warning: "", patient: null, dicom: false };
  if (KINDS.includes(file.type)) return { ...plain, image: await createImageBitmap(file) };
  if (!(await isDicom(file))) throw new TypeError(file.type);
  const { picture, name, warning, patient } = await previewOf({ file, choice, key }).catch((error) => {
    throw error instanceof Refused ? error : new Refused(0, "No connection to the server.");
  });
  return { file, image: await createImageBitmap(picture), name, warning, patient, dicom: true };
}
