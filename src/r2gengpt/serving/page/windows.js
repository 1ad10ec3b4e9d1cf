/* Window and level: of grey values to what is shown, and the presets for parts of a chest film. Draws nothing. */

/* The displayed value (0 to 255) of each of the 256 values: linear within the window, black below, white above. */
export function windowTable({ level, width, invert }) {
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
    const shown = ((value / 255 - level) / width + 0.5) * 255;
    return invert ? 255 - Math.min(255, Math.max(0, shown)) : shown;
  });
}

/* From which to which share of a film's own greys each preset reaches: a film has no Hounsfield units. */
const REACH = { auto: [0.01, 0.99], lung: [0.01, 0.6], mediastinum: [0.35, 0.97], bone: [0.55, 0.998] };
export const PRESETS = Object.keys(REACH);

const [SIDE, NARROWEST] = [256, 0.04];

/* How often each grey occurs in an image, drawn small. */
export function greysOf(image) {
  const context = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  const counts = new Uint32Array(256);
  for (let at = 0; at < data.length; at += 4) counts[data[at]] += 1;
  return counts;
}

/* The grey (0 to 1) below which this share of an image lies. */
function quantile(counts, share) {
  const wanted = share * counts.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  const at = counts.findIndex((count) => (seen += count) >= wanted);
  return Math.max(0, at) / 255;
}

/* Level and width of a preset for an image of these greys, in shares of the whole scale. */
export function presetOf(name, counts) {
  const [low, high] = REACH[name].map((share) => quantile(counts, share));
  return { level: (low + high) / 2, width: Math.max(NARROWEST, high - low) };
}
