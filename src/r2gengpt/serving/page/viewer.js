/* One image on a canvas: window and level, zoom, moving, turning, mirroring, an evidence map over it.
   It changes only what is seen; no pixel of it is sent to anybody. */

import { listenToHands } from "./hands.js";
import { greysOf, presetOf, windowTable } from "./windows.js";

const MOST_ZOOM = 8;
/* `preset`: which window it is, or null; `turn`: quarters clockwise; `flip`: left and right exchanged, as seen. */
export const START = { level: 0.5, width: 1, preset: null, zoom: 1, x: 0, y: 0, invert: false, turn: 0, flip: false };

const [MAP_COLOUR, MAP_OPACITY, FAINT] = [[255, 140, 0], 190, 0.45];
/* Nats that are drawn full at least: a map of less stays faint, as in the pictures of `generate --evidence`. */
const LEAST_SCALE = 0.1;

/* A map's numbers (rows × cols, row by row) as a small picture: the larger, the less transparent. */
function mapPicture([rows, cols], values, faint) {
  const picture = new OffscreenCanvas(cols, rows);
  const context = picture.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  const scale = (MAP_OPACITY * (faint ? FAINT : 1)) / Math.max(LEAST_SCALE, ...values);
  values.forEach((value, at) => pixels.data.set([...MAP_COLOUR, scale * Math.max(0, value)], 4 * at));
  context.putImageData(pixels, 0, 0);
  return picture;
}

const within = (value, low, high) => Math.min(high, Math.max(low, value));

export class Viewer {
  /* `changed` is called with the viewer after each change of its state. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.changed = changed;
    this.state = { ...START };
    this.image = null;
    this.greys = null;
    this.map = null;
    this.asked = false;
    listenToHands(this);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /* Show an image, or none; `state` as it was left. */
  show(image, state) {
    this.image = image;
    this.greys = null;
    this.set({ ...START, ...state });
  }

  /* Lay a map over the image, {grid, values, box, faint}; null takes it away. `box`: left, top, right, bottom of what
     it lies over, in shares of the image. */
  overlay(map) {
    this.map = map && { picture: mapPicture(map.grid, map.values, map.faint), box: map.box ?? [0, 0, 1, 1] };
    this.draw();
  }

  reset() {
    this.set(START);
  }

  /* A window for a part of the chest, by the image's own greys. */
  preset(name) {
    this.greys ??= greysOf(this.image);
    this.set({ ...presetOf(name, this.greys), preset: name });
  }

  /* `x`, `y`: how far the image's middle is from the canvas's, in shares of the image as shown at zoom 1. */
  set(changes) {
    const next = { ...this.state, ...changes };
    if (("level" in changes || "width" in changes) && !changes.preset) next.preset = null;
    next.level = within(next.level, 0, 1);
    next.width = within(next.width, 0.01, 2);
    next.zoom = within(next.zoom, 1, MOST_ZOOM);
    next.turn = ((next.turn % 4) + 4) % 4;
    const far = (next.zoom - 1) / 2 + 0.25;
    [next.x, next.y] = [within(next.x, -far, far), within(next.y, -far, far)];
    this.state = next;
    this.canvas.classList.toggle("zoomed", next.zoom > 1);
    this.changed(this);
    this.draw();
  }

  /* Zoom, so that what is at (px, py) stays there; both in shares from the canvas's middle, as `x` and `y` are. */
  zoomTo(zoom, px = 0, py = 0) {
    const { zoom: now, x, y } = this.state;
    const next = within(zoom, 1, MOST_ZOOM);
    if (next === 1) this.set({ zoom: 1, x: 0, y: 0 });
    else this.set({ zoom: next, x: px + ((x - px) * next) / now, y: py + ((y - py) * next) / now });
  }

  /* Width and height that the image, turned as it is, has at zoom 1 on a canvas of this size. */
  fitted({ width, height }) {
    const { image } = this;
    const [w, h] = this.state.turn % 2 ? [image.height, image.width] : [image.width, image.height];
    const fit = Math.min(width / w, height / h);
    return [w * fit, h * fit];
  }

  /* The same in the page's own pixels. */
  get shown() {
    return this.fitted({ width: this.canvas.clientWidth, height: this.canvas.clientHeight });
  }

  /* At the next frame, once however often it is asked for. */
  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const { canvas, image } = this;
    const density = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * density));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * density));
    if (!image) return;
    const { zoom, x, y } = this.state;
    const [w, h] = this.fitted(canvas);
    const [cx, cy] = [canvas.width / 2 + x * w, canvas.height / 2 + y * h];
    this.context.imageSmoothingQuality = "high";
    this.place(cx, cy, w * zoom, h * zoom, image, [0, 0, 1, 1]);
    const [left, top] = [Math.max(0, Math.floor(cx - (w * zoom) / 2)), Math.max(0, Math.floor(cy - (h * zoom) / 2))];
    const [right, bottom] = [cx + (w * zoom) / 2, cy + (h * zoom) / 2].map(Math.ceil);
    const size = [Math.min(canvas.width, right) - left, Math.min(canvas.height, bottom) - top];
    if (size[0] > 0 && size[1] > 0) this.apply(left, top, ...size);
    if (this.map) this.place(cx, cy, w * zoom, h * zoom, this.map.picture, this.map.box);
  }

  /* Draw a picture over a part (in shares of the image) of where the image stands: middle, width, height as seen. */
  place(cx, cy, width, height, picture, [west, north, east, south]) {
    const { context } = this;
    const { turn, flip } = this.state;
    const [w, h] = turn % 2 ? [height, width] : [width, height];
    context.save();
    context.translate(cx, cy);
    context.scale(flip ? -1 : 1, 1);
    context.rotate((turn * Math.PI) / 2);
    context.drawImage(picture, (west - 0.5) * w, (north - 0.5) * h, (east - west) * w, (south - north) * h);
    context.restore();
  }

  /* Window and level on what was drawn. */
  apply(x, y, w, h) {
    const table = windowTable(this.state);
    const shown = this.context.getImageData(x, y, w, h);
    const { data } = shown;
    for (let at = 0; at < data.length; at += 4) {
      data[at] = table[data[at]];
      data[at + 1] = table[data[at + 1]];
      data[at + 2] = table[data[at + 2]];
    }
    this.context.putImageData(shown, x, y);
  }
}
