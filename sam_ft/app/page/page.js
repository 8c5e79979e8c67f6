// The page: images, buttons, keys and the pointer.

import { attempt, bitmap, call, element } from "./call.js";
import { canvas, colorOf, draw, fit, MODEL_COLORS, move, objectAt, show, size, toCanvas, toImage, view, zoom } from "./canvas.js";
import { addPoint, clear, edit, findAll, isUnsaved, keep, markSaved, masks, predict, remove, setBox, switchTo, undo } from "./masks.js";

const CLICK = 4; // px that a pointer may move in a click
let settings = {};
let drag = null, space = false, highlighted = null;
let listed = null; // the objects in the list

async function open(name) {
  await attempt(`opening ${name} ...`, async () => {
    const image = encodeURIComponent(name);
    try {
      const own = await call(`size?image=${image}`);
      show(name, await bitmap(`picture?image=${image}`), own);
      switchTo(name);
    } finally {
      element("images").value = masks.image; // the image before, if this one cannot be read
    }
  });
}

async function upload(files) {
  for (const file of files) {
    let added = null;
    await attempt(`adding ${file.name} ...`, async () => {
      if (file.size > settings.max_upload) {
        throw new Error(`Error: ${file.name} has ${(file.size / 1e6).toFixed(0)} MB; start the program with images=FOLDER`);
      }
      added = (await call(`upload?name=${encodeURIComponent(file.name)}`, file)).image;
      await list();
    });
    if (added !== null) await open(added);
  }
}

async function list() {
  settings = await call("settings");
  element("compare").disabled = settings.models.length < 2; // of a folder that holds all weights
  element("images").replaceChildren(...settings.images.map((name) => new Option(name, name)));
  element("images").value = masks.image;
}

function step(by) {
  const name = settings.images[settings.images.indexOf(masks.image) + by];
  if (name !== undefined) open(name);
}

async function save(training) {
  await keep();
  if (masks.image === null) return;
  await attempt("saving ...", async () => {
    const numbers = masks.state.objects.map((one) => one.number);
    const { written, command } = await call("save", { image: masks.image, numbers, training });
    markSaved();
    element("again").hidden = !training;
    if (training) element("command").textContent = command;
    return `${numbers.length} masks written to ${written}`;
  });
}

function render() {
  const { objects, answers } = masks.state, open = masks.image !== null;
  highlighted = objects.find((one) => one === highlighted) ?? null;
  redraw();
  if (objects !== listed) element("objects").replaceChildren(...objects.map(row));
  listed = objects;
  element("count").textContent = objects.length;
  element("keep").disabled = element("clear").disabled = !(masks.state.box || masks.state.points.length);
  element("undo").disabled = !masks.history.length;
  element("all").disabled = element("save").disabled = element("train").disabled = !open;
  element("scores").replaceChildren(...Object.keys(MODEL_COLORS).filter((model) => answers[model]).map(score));
}

function score(model) {
  const item = document.createElement("span");
  item.append(swatch(MODEL_COLORS[model]), `${model}: predicted IoU ${masks.state.answers[model].score.toFixed(2)}`);
  return item;
}

function swatch(color) {
  const square = document.createElement("i");
  square.style.background = color;
  return square;
}

function row(one, place) {
  const item = document.createElement("li"), select = document.createElement("button"), cross = document.createElement("button");
  select.append(swatch(colorOf(one)), `${settings.classes[one.label]} ${place + 1} (${one.score.toFixed(2)})`);
  select.title = "correct this mask (E)";
  select.onclick = () => edit(one.number);
  cross.textContent = "×";
  cross.title = cross.ariaLabel = `remove ${place + 1} (Delete)`;
  cross.onclick = () => remove(one.number);
  item.onmouseenter = () => highlight(one);
  item.onmouseleave = () => highlight(null);
  item.append(select, cross);
  return item;
}

function highlight(one) {
  if (one === highlighted) return;
  highlighted = one;
  redraw();
}

function removeHighlighted() {
  if (highlighted) remove(highlighted.number);
}

function redraw() {
  draw({ ...masks.state, box: drag?.box ?? masks.state.box, highlighted });
}

canvas.onpointerdown = (event) => {
  if (masks.image === null) return;
  canvas.setPointerCapture(event.pointerId);
  const moves = space || event.button === 1;
  drag = { from: toImage(event), at: [event.clientX, event.clientY], view: { ...view }, moves, box: null };
};

canvas.onpointermove = (event) => {
  if (masks.image === null) return;
  if (!drag) return highlight(objectAt(masks.state.objects, toImage(event)) ?? null);
  const dx = event.clientX - drag.at[0], dy = event.clientY - drag.at[1];
  if (drag.moves) return move({ x: drag.view.x + dx * devicePixelRatio, y: drag.view.y + dy * devicePixelRatio });
  if (!drag.box && Math.hypot(dx, dy) <= CLICK) return;
  const [x, y] = toImage(event), [left, top] = drag.from;
  drag.box = [Math.min(x, left), Math.min(y, top), Math.max(x, left), Math.max(y, top)];
  redraw();
};

canvas.onpointerup = (event) => {
  if (!drag) return;
  const { from, box, moves } = drag;
  drag = null;
  if (moves) return;
  if (!box) addPoint(from, event.shiftKey || event.button === 2 ? 0 : 1);
  else if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) setBox(box);
  else redraw();
};

canvas.onpointercancel = () => {
  drag = null;
  redraw();
};
canvas.onpointerleave = () => highlight(null);
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onwheel = (event) => {
  event.preventDefault();
  if (masks.image !== null) zoom(Math.exp(-event.deltaY / 500), toCanvas(event));
};

const BUTTONS = {
  keep, clear, undo, all: () => findAll(settings.nothing_found), save: () => save(false), train: () => save(true),
  in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit,
};
const KEYS = {
  enter: keep, escape: clear, a: BUTTONS.all, s: BUTTONS.save, t: BUTTONS.train, z: () => element("compare").click(),
  e: () => highlighted && edit(highlighted.number), delete: removeHighlighted, backspace: removeHighlighted,
  n: () => step(1), p: () => step(-1), "+": BUTTONS.in, "-": BUTTONS.out, 0: fit,
};

document.onkeydown = (event) => {
  const at = event.target, key = event.key.toLowerCase();
  if (at instanceof HTMLSelectElement || (at instanceof HTMLButtonElement && ["enter", " "].includes(key))) return;
  const command = event.ctrlKey || event.metaKey;
  const action = command || event.altKey ? (command && key === "z" ? undo : null) : KEYS[key];
  if (key === " ") space = true;
  if (action) action();
  if (action || key === " ") event.preventDefault();
};
document.onkeyup = (event) => {
  if (event.key === " ") space = false;
};
// Keys belong to the canvas again after a click on a button.
document.onclick = (event) => event.detail && event.target.closest("button, label") && canvas.focus();
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  upload(event.dataTransfer.files);
};
window.onbeforeunload = (event) => {
  if (isUnsaved()) event.preventDefault();
};

for (const [id, action] of Object.entries(BUTTONS)) element(id).onclick = () => action();
element("compare").onchange = (event) => {
  masks.models = event.target.checked ? settings.models : ["tuned"];
  predict();
};
element("class").onchange = (event) => {
  masks.label = Number(event.target.value);
  predict();
};
element("images").onchange = (event) => {
  canvas.focus();
  open(event.target.value);
};
element("file").onchange = async (event) => {
  await upload([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
};
masks.changed = render;
element("help").open = innerWidth > 700;

new ResizeObserver(() => {
  const { width, height } = canvas.getBoundingClientRect();
  [canvas.width, canvas.height] = [width, height].map((length) => Math.round(length * devicePixelRatio));
  if (size()) fit();
}).observe(canvas);

render();
await attempt("starting ...", async () => {
  await list();
  const classes = Object.entries(settings.classes);
  element("class").replaceChildren(...classes.map(([label, name]) => new Option(name, label)));
  element("classes").hidden = classes.length < 2;
  masks.label = Number(element("class").value);
  return settings.images.length ? "" : "Add an image, or drop one here.";
});
if (settings.images?.length) await open(settings.images[0]);
