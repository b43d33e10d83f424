// Drawings as the network knows digits: 8 x 8 levels of ink from 0 to 16, scaled up to 64 x 64.

const SIDE = 8;
const LEVELS = 16;
const FINE = 16; // pixels that a level is counted from, a side

/** A drawing: lines of points, in parts of the pad's side. */
export class Strokes {
  #lines = [];

  get isEmpty() {
    return this.#lines.length === 0;
  }
  begin(point) {
    this.#lines.push([point]);
  }
  extend(point) {
    this.#lines.at(-1).push(point);
  }
  undo() {
    this.#lines.pop();
  }

  /** On a canvas of that side, in that colour. */
  draw(context, side, colour) {
    this.#trace(context, ([x, y]) => [x * side, y * side], side * 0.072, colour);
  }

  /** As the scanned digits are: as large as fits, in the middle, with a pen of one width. */
  drawFitted(context, side) {
    const points = this.#lines.flat();
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const pen = side * 0.125;
    const scale = (side - pen) / Math.max(right - left, bottom - top, 0.12);
    const at = ([x, y]) => [side / 2 + (x - (left + right) / 2) * scale, side / 2 + (y - (top + bottom) / 2) * scale];
    this.#trace(context, at, pen, "#000");
  }

  #trace(context, at, width, colour) {
    Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: width, strokeStyle: colour });
    for (const line of this.#lines) {
      const points = line.map(at);
      context.beginPath();
      context.moveTo(...points[0]);
      // through the middles, so that a hand's corners are round
      for (let i = 1; i < points.length - 1; ++i) {
        const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      }
      context.lineTo(...(points.length > 1 ? points.at(-1) : [points[0][0] + 0.01, points[0][1]]));
      context.stroke();
    }
  }
}

/** The levels of a drawing: 64 numbers. */
export function levels(strokes) {
  const side = SIDE * FINE;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  strokes.drawFitted(context, side);
  const { data } = context.getImageData(0, 0, side, side);
  const sums = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < side; ++y) {
    for (let x = 0; x < side; ++x) sums[Math.floor(y / FINE) * SIDE + Math.floor(x / FINE)] += data[4 * (y * side + x) + 3];
  }
  return Array.from(sums, (sum) => Math.round((LEVELS * sum) / (255 * FINE * FINE)));
}

/** Levels as the network's input: Float32Array of 64 x 64, from 0 to 1, by the weights that it was trained with. */
export function bilinear(pixels) {
  const size = 64;
  const image = new Float32Array(size * size);
  const places = Array.from({ length: size }, (_, i) => Math.min(Math.max(((i + 0.5) * SIDE) / size - 0.5, 0), SIDE - 1));
  const value = (y, x) => pixels[y * SIDE + x] / LEVELS;
  for (let i = 0; i < size; ++i) {
    const top = Math.min(Math.floor(places[i]), SIDE - 2);
    const down = places[i] - top;
    for (let j = 0; j < size; ++j) {
      const left = Math.min(Math.floor(places[j]), SIDE - 2);
      const along = places[j] - left;
      const upper = value(top, left) * (1 - along) + value(top, left + 1) * along;
      const lower = value(top + 1, left) * (1 - along) + value(top + 1, left + 1) * along;
      image[i * size + j] = upper * (1 - down) + lower * down;
    }
  }
  return image;
}
