// The masks of the open image, and the prompts of the current one.

import { attempt, call } from "./call.js";

// A state is never changed, only replaced: undo takes the one before.
const EMPTY = { box: null, points: [], labels: [], answers: {}, objects: [] };
const NO_PROMPTS = { box: null, points: [], labels: [], answers: {} };

export const masks = { image: null, state: EMPTY, history: [], models: ["tuned"], label: 1, changed: () => {} };
const left = {}; // state and history of the images that were open before
const saved = {}; // the objects of each image that were saved last
let newest = 0; // request: the reply to an earlier one comes too late
let pending = null; // the newest request

export function switchTo(image) {
  if (masks.image !== null) left[masks.image] = { state: masks.state, history: masks.history };
  newest += 1;
  Object.assign(masks, { image, state: EMPTY, history: [], ...left[image] });
  masks.changed();
}

// Whether an image has objects other than those that were saved last.
export function isUnsaved() {
  const all = { ...left, [masks.image]: masks };
  return Object.entries(all).some(([image, { state }]) => state.objects.length && state.objects !== saved[image]);
}

export function markSaved() {
  saved[masks.image] = masks.state.objects;
}

function replace(part) {
  masks.history.push(masks.state);
  masks.state = { ...masks.state, ...part };
  masks.changed();
}

const hasPrompts = () => masks.state.box !== null || masks.state.points.length > 0;

export function setBox(box) {
  replace({ box });
  return predict();
}

export function addPoint(point, label) {
  replace({ points: [...masks.state.points, point], labels: [...masks.state.labels, label] });
  return predict();
}

export function predict() {
  pending = requestMasks(++newest);
  return pending;
}

async function requestMasks(own) {
  const { image, label } = masks, { box, points, labels } = masks.state;
  if (!hasPrompts()) return;
  await attempt("predicting ...", async () => {
    const answers = {};
    for (const model of masks.models) {
      const { object } = await call("predict", { image, model, box, points, labels, label });
      if (own !== newest) return "";
      answers[model] = object && (await decode(object));
    }
    if (own !== newest) return "";
    masks.state = { ...masks.state, answers };
    masks.changed();
    return answers.tuned ? "" : "The mask is empty: click another point.";
  });
}

async function decode(object) {
  const png = await fetch(`data:image/png;base64,${object.png}`);
  return { ...object, mask: await createImageBitmap(await png.blob()) };
}

// Adds the current mask to the objects, once it is there.
export async function keep() {
  const own = newest;
  await pending;
  const { box, points, labels, answers, objects } = masks.state;
  if (own !== newest || !answers.tuned) return;
  const kept = { ...answers.tuned, prompts: { box, points, labels } };
  newest += 1;
  replace({ ...NO_PROMPTS, objects: [...objects, kept] });
}

export function clear() {
  newest += 1;
  if (hasPrompts()) replace(NO_PROMPTS);
}

export function undo() {
  if (!masks.history.length) return;
  newest += 1;
  masks.state = masks.history.pop();
  masks.changed();
  if (hasPrompts() && !("tuned" in masks.state.answers)) predict();
}

export function remove(number) {
  replace({ objects: masks.state.objects.filter((one) => one.number !== number) });
}

// Makes an object the current mask again, with its prompts, or its box where it was found without.
export async function edit(number) {
  await keep();
  const one = masks.state.objects.find((object) => object.number === number);
  if (!one) return;
  const objects = masks.state.objects.filter((object) => object !== one);
  const found = { box: [one.x, one.y, one.x + one.width, one.y + one.height], points: [], labels: [] };
  newest += 1;
  replace({ ...(one.prompts ?? found), answers: { tuned: one }, objects });
}

// Finds all objects; those of an earlier call are replaced.
export function findAll(nothingFound) {
  const { image } = masks;
  return attempt("finding all objects ...", async () => {
    const { objects } = await call("all", { image });
    const found = await Promise.all(objects.map(decode));
    if (image !== masks.image) return "";
    const own = masks.state.objects.filter((one) => one.prompts);
    replace({ objects: [...own, ...found] });
    return found.length ? `${found.length} objects found` : `Nothing found: ${nothingFound}.`;
  });
}
