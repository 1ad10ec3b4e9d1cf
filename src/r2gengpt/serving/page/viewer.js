/* One image on a canvas: window and level, zoom, moving, inversion, an evidence map over it.
   It changes only what is seen; no pixel of it is sent to anybody. */

const MOST_ZOOM = 8;
const START = { level: 0.5, width: 1, zoom: 1, x: 0, y: 0, invert: false };

/* The displayed value (0 to 255) of each of the 256 values: linear within the window, black below, white above. */
export function windowTable({ level, width, invert }) {
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
    const shown = ((value / 255 - level) / width + 0.5) * 255;
    return invert ? 255 - Math.min(255, Math.max(0, shown)) : shown;
  });
}

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

export class Viewer {
  /* `changed` is called with the state after each change of it. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.changed = changed;
    this.state = { ...START };
    this.image = null;
    this.map = null;
    this.asked = false;
    canvas.addEventListener("pointerdown", (event) => this.hold(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(image) {
    this.image = image;
    this.set({ zoom: 1, x: 0, y: 0 });
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

  /* `x`, `y`: how far the image's middle is from the canvas's, in shares of the image as shown at zoom 1. */
  set(changes) {
    const next = { ...this.state, ...changes };
    next.level = Math.min(1, Math.max(0, next.level));
    next.width = Math.min(2, Math.max(0.01, next.width));
    next.zoom = Math.min(MOST_ZOOM, Math.max(1, next.zoom));
    const far = (next.zoom - 1) / 2 + 0.25 * (next.zoom > 1);
    next.x = Math.min(far, Math.max(-far, next.x));
    next.y = Math.min(far, Math.max(-far, next.y));
    this.state = next;
    this.canvas.classList.toggle("zoomed", next.zoom > 1);
    this.changed(next);
    this.draw();
  }

  /* Zoom so that what is under a point of the canvas stays there; the point as `x` and `y` are. */
  zoomTo(zoom, px = 0, py = 0) {
    const ratio = Math.min(MOST_ZOOM, Math.max(1, zoom)) / this.state.zoom;
    this.set({ zoom, x: px - (px - this.state.x) * ratio, y: py - (py - this.state.y) * ratio });
  }

  /* The image's size on the page at zoom 1. */
  fitted() {
    const { clientWidth, clientHeight } = this.canvas;
    const fit = Math.min(clientWidth / this.image.width, clientHeight / this.image.height);
    return [this.image.width * fit, this.image.height * fit];
  }

  /* Where the image stands on the canvas, in canvas pixels. */
  place() {
    const { width, height } = this.canvas;
    const { zoom, x, y } = this.state;
    const fit = Math.min(width / this.image.width, height / this.image.height);
    const [w, h] = [this.image.width * fit, this.image.height * fit];
    return [width / 2 + x * w - (w * zoom) / 2, height / 2 + y * h - (h * zoom) / 2, w * zoom, h * zoom];
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
    const { canvas, context, image } = this;
    const density = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * density));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * density));
    if (!image) return;
    const [x, y, w, h] = this.place();
    context.imageSmoothingQuality = "high";
    context.drawImage(image, x, y, w, h);
    const [left, top] = [Math.max(0, Math.floor(x)), Math.max(0, Math.floor(y))];
    const [right, bottom] = [Math.min(canvas.width, Math.ceil(x + w)), Math.min(canvas.height, Math.ceil(y + h))];
    if (right > left && bottom > top) this.apply(left, top, right - left, bottom - top);
    if (!this.map) return;
    const [west, north, east, south] = this.map.box;
    context.drawImage(this.map.picture, x + west * w, y + north * h, (east - west) * w, (south - north) * h);
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

  /* Drag moves; with Shift, or the right button, it changes window (sideways) and level (up and down). */
  hold(event) {
    if (!this.image || (event.pointerType === "touch" && this.state.zoom === 1)) return;
    const { canvas, state } = this;
    const windowing = event.shiftKey || event.button === 2;
    const [w, h] = this.fitted();
    const move = (now) => {
      const [dx, dy] = [now.clientX - event.clientX, now.clientY - event.clientY];
      if (windowing) this.set({ width: state.width + dx / 300, level: state.level + dy / 300 });
      else this.set({ x: state.x + dx / w, y: state.y + dy / h });
    };
    canvas.setPointerCapture(event.pointerId);
    canvas.addEventListener("pointermove", move);
    const end = () => canvas.removeEventListener("pointermove", move);
    canvas.addEventListener("pointerup", end, { once: true });
    canvas.addEventListener("pointercancel", end, { once: true });
    canvas.addEventListener("contextmenu", (menu) => menu.preventDefault(), { once: true });
  }

  wheel(event) {
    if (!this.image) return;
    event.preventDefault();
    const [w, h] = this.fitted();
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    this.zoomTo(this.state.zoom * Math.exp(-event.deltaY / 500), px / w, py / h);
  }

  key(event) {
    const { x, y, zoom, invert } = this.state;
    const step = 0.1;
    const acts = {
      ArrowLeft: () => this.set({ x: x + step }),
      ArrowRight: () => this.set({ x: x - step }),
      ArrowUp: () => this.set({ y: y + step }),
      ArrowDown: () => this.set({ y: y - step }),
      "+": () => this.zoomTo(zoom * 1.25),
      "-": () => this.zoomTo(zoom / 1.25),
      i: () => this.set({ invert: !invert }),
      0: () => this.reset(),
    };
    const act = acts[event.key === "=" ? "+" : event.key.toLowerCase()];
    if (!this.image || !act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }
}
