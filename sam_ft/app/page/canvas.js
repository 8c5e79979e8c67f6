// The canvas: the image with masks and prompts on it, zoomed and moved.

import { bitmap, element } from "./call.js";

const COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf"];
export const MODEL_COLORS = { "zero-shot": "#ffb000", tuned: "#19b5fe" };
export const colorOf = (object) => COLORS[object.number % COLORS.length];

export const canvas = element("canvas");
const pen = canvas.getContext("2d");
let picture = null; // { name, whole, detail, width, height, step }, in pixels of the image
export const view = { scale: 1, x: 0, y: 0 }; // place on the canvas = place in the image * scale + (x, y)
let scene = null;
let timer = null;

export function show(name, whole, size) {
  picture = { name, whole, detail: null, ...size };
  fit();
}

export const size = () => picture;

export function fit() {
  if (!picture) return;
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  move({ scale, x: (canvas.width - picture.width * scale) / 2, y: (canvas.height - picture.height * scale) / 2 });
}

export function move(next) {
  Object.assign(view, next);
  draw();
  clearTimeout(timer);
  timer = setTimeout(loadDetail, 200);
}

// Zooms about a place on the canvas, the center by default.
export function zoom(factor, [x, y] = [canvas.width / 2, canvas.height / 2]) {
  const scale = Math.min(Math.max(view.scale * factor, 1e-3), 200), by = scale / view.scale;
  move({ scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
}

// The place in the image of a pointer, within the image.
export function toImage(event) {
  const [x, y] = toCanvas(event), clamp = (value, most) => Math.min(Math.max(value, 0), most);
  return [clamp((x - view.x) / view.scale, picture.width), clamp((y - view.y) / view.scale, picture.height)];
}

export function toCanvas(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
}

// Of a large image, loads the part that is seen, where the canvas has more pixels than the whole picture.
async function loadDetail() {
  if (!picture || picture.step === 1 || view.scale * picture.step <= 1) return;
  const own = picture, edge = (value, most) => Math.min(Math.max(value, 0), most);
  const left = edge(Math.floor(-view.x / view.scale), own.width), top = edge(Math.floor(-view.y / view.scale), own.height);
  const right = edge(Math.ceil((canvas.width - view.x) / view.scale), own.width);
  const bottom = edge(Math.ceil((canvas.height - view.y) / view.scale), own.height);
  if (left >= right || top >= bottom) return;
  const query = new URLSearchParams({ image: own.name, left, top, right, bottom });
  try {
    own.detail = { left, top, width: right - left, height: bottom - top, part: await bitmap(`picture?${query}`) };
  } catch {
    return; // the whole picture stays
  }
  if (own === picture) draw();
}

// The mask of an object in one color, drawn once.
function tinted(object, color) {
  object.layers ??= {};
  if (!object.layers[color]) {
    const layer = new OffscreenCanvas(object.width, object.height), own = layer.getContext("2d");
    own.drawImage(object.mask, 0, 0);
    own.globalCompositeOperation = "source-in";
    own.fillStyle = color;
    own.fillRect(0, 0, object.width, object.height);
    object.layers[color] = layer;
  }
  return object.layers[color];
}

// The last of some objects whose mask covers a place in the image.
export function objectAt(objects, [x, y]) {
  const column = Math.floor(x), row = Math.floor(y);
  return objects.findLast((one) => {
    if (column < one.x || row < one.y || column >= one.x + one.width || row >= one.y + one.height) return false;
    const layer = tinted(one, colorOf(one)).getContext("2d");
    return layer.getImageData(column - one.x, row - one.y, 1, 1).data[3] > 0;
  });
}

function paint(object, color, alpha) {
  pen.globalAlpha = alpha;
  pen.drawImage(tinted(object, color), object.x, object.y);
  pen.globalAlpha = 1;
}

// next: { objects, answers, box, points, labels, highlighted }; without it the last scene is drawn again
export function draw(next = scene) {
  scene = next;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture || !scene) return;
  pen.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
  pen.imageSmoothingEnabled = view.scale < 2;
  pen.drawImage(picture.whole, 0, 0, picture.width, picture.height);
  const { detail } = picture;
  if (detail) pen.drawImage(detail.part, detail.left, detail.top, detail.width, detail.height);
  for (const one of scene.objects) paint(one, colorOf(one), one === scene.highlighted ? 0.8 : 0.5);
  for (const [model, color] of Object.entries(MODEL_COLORS)) {
    if (scene.answers[model]) paint(scene.answers[model], color, 0.5);
  }
  drawPrompts(scene);
}

function drawPrompts({ box, points, labels }) {
  pen.lineWidth = (2 * devicePixelRatio) / view.scale;
  pen.strokeStyle = "#fff";
  if (box) pen.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  points.forEach(([x, y], place) => {
    pen.beginPath();
    pen.arc(x, y, (5 * devicePixelRatio) / view.scale, 0, 2 * Math.PI);
    pen.fillStyle = labels[place] ? "#28c828" : "#e62828";
    pen.fill();
    pen.stroke();
  });
}
