// The page: a pad and test images on one side, two modules of the same network on the other.

import { load } from "./tesa.js";
import { bilinear, levels, Strokes } from "./image.js";

const $ = (id) => document.getElementById(id);
const REST_MS = 60; // pause after a stroke before the modules are timed

// In the page of one file, everything is in the page.
const inside = globalThis.EMBEDDED;
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const source = (file) => (inside ? inside.files[file] && bytesOf(inside.files[file]) : new URL(file, document.baseURI));

// The modules' names are known before the data of the page is there.
const files = (name) => ({ simd128: source(`models/${name}-simd128.wasm`), relaxed: source(`models/${name}-relaxed.wasm`) });

const state = { pixels: null, strokes: new Strokes(), sample: -1, models: {}, times: {}, turn: 0 };

async function start() {
  const sparse = load(files("sparse"));
  sparse.catch(() => {}); // told of below
  buildScores();
  watchTheme();
  const data = inside ? inside.data : await (await fetch("data.json")).json();
  state.data = data;
  buildStrip(data.images);
  watchPad();
  $("random").addEventListener("click", () => choose((state.sample + 1 + Math.floor(Math.random() * (data.images.length - 1))) % data.images.length));
  $("clear").addEventListener("click", clear);
  $("undo").addEventListener("click", () => { state.strokes.undo(); changed(); });
  refresh();
  try {
    await open("sparse", sparse, data.modules.sparse);
    choose(0);
    performance.mark("interactive");
    document.documentElement.dataset.ready = "sparse";
    await new Promise((resolve) => setTimeout(resolve));
    paintStrip();
    drawMasks(data.mask);
    await open("dense", load(files("dense")), data.modules.dense);
    document.documentElement.dataset.ready = "both";
    await measure();
    // an engine compiles the modules once more while they run: what comes first is slower
    for (const pause of [500, 2000]) setTimeout(measure, pause);
  } catch (error) {
    alert(error);
  }
}

async function open(name, loading, { bytes }) {
  const card = $(name);
  try {
    const model = await loading;
    state.models[name] = model;
    const kind = model.info.target.endsWith("relaxed") ? "relaxed" : "simd128";
    card.querySelector("[data-size]").textContent = `${Math.round(bytes[kind] / 1000)} kB`;
    $("engine").textContent = `Two WebAssembly modules without imports, with ${kind === "relaxed" ? "relaxed SIMD" : "SIMD"}`;
    infer();
  } catch (error) {
    card.classList.add("failed");
    card.querySelector("[data-size]").textContent = "could not be loaded";
    throw error;
  }
}

function alert(error) {
  const place = $("alert");
  const title = document.createElement("b");
  title.textContent = "The network did not load. ";
  place.replaceChildren(title, error.message);
  place.hidden = false;
}

// --- what goes in

function choose(index) {
  state.sample = index;
  state.strokes = new Strokes();
  changed();
  const chosen = $("strip").children[index];
  for (const button of $("strip").children) {
    button.setAttribute("aria-checked", button === chosen);
    button.tabIndex = button === chosen ? 0 : -1;
  }
  const strip = $("strip");
  if (strip.scrollWidth > strip.clientWidth) {
    strip.scrollTo({ left: chosen.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + 28, behavior: "smooth" });
  }
}

function unchoose() {
  state.sample = -1;
  for (const button of $("strip").children) button.setAttribute("aria-checked", false);
}

function clear() {
  unchoose();
  state.strokes = new Strokes();
  changed();
}

// The image has changed: show it, ask the modules, and time them as soon as the hand rests.
let rest = 0;
function changed() {
  state.pixels = state.sample >= 0 ? bilinear(state.data.images[state.sample].pixels) : state.strokes.isEmpty ? null : bilinear(levels(state.strokes));
  refresh();
  infer();
  clearTimeout(rest);
  rest = setTimeout(measure, REST_MS);
}

function infer() {
  for (const name of Object.keys(state.models)) {
    show(name, state.pixels && state.models[name].run({ image: state.pixels }).logits);
  }
}

// The median time of a call: the modules take turns, each in batches that are long for the clock of a browser.
async function measure() {
  const turn = ++state.turn;
  const { pixels } = state;
  if (!pixels || !state.models.sparse) return;
  const samples = { sparse: [], dense: [] };
  const calls = { sparse: 4, dense: 2 };
  for (let round = 0; round < 9; ++round) {
    for (const [name, model] of Object.entries(state.models)) {
      await new Promise((resolve) => setTimeout(resolve));
      if (turn !== state.turn || pixels !== state.pixels) return;
      const feeds = { image: pixels };
      const before = performance.now();
      for (let call = 0; call < calls[name]; ++call) model.run(feeds);
      const passed = performance.now() - before;
      samples[name].push(passed / calls[name]);
      calls[name] = Math.min(64, Math.max(1, Math.round((6 / Math.max(passed, 0.1)) * calls[name])));
      if (round > 1) state.times[name] = median(samples[name].slice(2));
    }
  }
  showTimes();
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

// --- what comes out

function buildScores() {
  for (const list of document.querySelectorAll("[data-scores]")) {
    for (let digit = 0; digit < 10; ++digit) {
      const item = document.createElement("li");
      item.append(document.createElement("i"), String(digit));
      list.append(item);
    }
  }
}

function show(name, logits) {
  const card = $(name);
  const digit = card.querySelector("[data-digit]");
  const items = card.querySelector("[data-scores]").children;
  const top = logits ? Math.max(...logits) : 0;
  const odds = logits ? Array.from(logits, (logit) => Math.exp(logit - top)) : Array(10).fill(0);
  const sum = odds.reduce((a, b) => a + b, 0) || 1;
  const best = logits ? logits.indexOf(top) : -1;
  digit.textContent = logits ? best : "–";
  digit.toggleAttribute("data-none", !logits);
  odds.forEach((odd, index) => {
    items[index].style.setProperty("--p", (odd / sum).toFixed(3));
    items[index].classList.toggle("best", index === best);
  });
  card.dataset.answer = best;
}

const milliseconds = (time) => (time >= 9.95 ? time.toFixed(1) : time.toFixed(2));

function showTimes() {
  const { sparse, dense } = state.times;
  for (const name of ["sparse", "dense"]) {
    if (state.times[name]) $(name).querySelector("[data-time]").textContent = milliseconds(state.times[name]);
  }
  if (!sparse || !dense) return;
  const longest = Math.max(sparse, dense);
  $("bar-sparse").style.setProperty("--part", sparse / longest);
  $("bar-dense").style.setProperty("--part", dense / longest);
  const ratio = document.createElement("b");
  ratio.textContent = `${(dense / sparse).toFixed(1)}×`;
  $("gain").replaceChildren(ratio, "as fast");
  const label = state.sample >= 0 ? ` The image is labelled ${state.data.images[state.sample].label}.` : "";
  $("summary").textContent =
    `Sparse says ${$("sparse").dataset.answer} in ${milliseconds(sparse)} milliseconds, ` +
    `dense says ${$("dense").dataset.answer} in ${milliseconds(dense)}.${label}`;
}

// --- pictures

function inkOf(element) {
  const probe = getComputedStyle(element).getPropertyValue("color").match(/\d+(\.\d+)?/g).map(Number);
  return probe.slice(0, 3);
}

// Grey values as ink of that colour, whatever the colours of the page.
function paint(canvas, pixels, size, ink) {
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; ++i) image.data.set([...ink, Math.round(255 * pixels[i])], 4 * i);
  canvas.width = canvas.height = size;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function refresh() {
  const pad = $("pad");
  const ink = inkOf(document.body);
  const side = Math.round(pad.clientWidth * Math.min(devicePixelRatio, 2)) || 400;
  if (pad.width !== side) pad.width = pad.height = side;
  const context = pad.getContext("2d");
  context.clearRect(0, 0, side, side);
  if (state.sample >= 0) {
    const scaled = document.createElement("canvas");
    paint(scaled, state.pixels, 64, ink);
    context.imageSmoothingQuality = "high";
    context.drawImage(scaled, 0, 0, side, side);
  } else {
    state.strokes.draw(context, side, `rgb(${ink})`);
  }
  const isEmpty = state.sample < 0 && state.strokes.isEmpty;
  $("empty").hidden = !isEmpty;
  $("clear").disabled = isEmpty;
  $("undo").disabled = state.strokes.isEmpty;
  $("seen").parentElement.toggleAttribute("data-idle", isEmpty || state.sample >= 0);
  if (state.pixels) paint($("seen"), state.pixels, 64, ink);
  $("origin").textContent =
    state.sample >= 0 ? `test image, labelled ${state.data.images[state.sample].label}` : isEmpty ? "mouse, pen or finger" : "yours";
}

function buildStrip(images) {
  const strip = $("strip");
  images.forEach(({ label }, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", "false");
    button.setAttribute("aria-label", `Test image ${index + 1}, labelled ${label}`);
    button.tabIndex = index === 0 ? 0 : -1;
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => choose(index));
    strip.append(button);
  });
  onColours(() => { paintStrip(); drawMasks(state.data.mask); refresh(); });
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = ([...strip.children].indexOf(document.activeElement) + step + images.length) % images.length;
    strip.children[next].focus({ preventScroll: true });
    choose(next);
  });
}

function paintStrip() {
  const ink = inkOf(document.body);
  state.data.images.forEach(({ pixels }, i) => paint($("strip").children[i].firstChild, bilinear(pixels), 64, ink));
}

// A corner of a real weight: a dot where it is not zero, next to the same corner with all of its weights.
function drawMasks({ side, bits }) {
  for (const name of ["sparse", "dense"]) {
    const canvas = $(name).querySelector(".mask");
    const colours = getComputedStyle(document.documentElement);
    const context = canvas.getContext("2d");
    const step = canvas.width / side;
    context.clearRect(0, 0, canvas.width, canvas.width);
    for (let i = 0; i < side * side; ++i) {
      const isSet = bits[i] === "1";
      if (name === "sparse" && !isSet) continue;
      context.fillStyle = colours.getPropertyValue(name === "sparse" ? "--accent" : isSet ? "--muted" : "--line-strong");
      context.fillRect((i % side) * step, Math.floor(i / side) * step, step - 1, step - 1);
    }
  }
}

// --- the pad: mouse, pen, touch and keys

function watchPad() {
  const pad = $("pad");
  const point = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const begin = (at) => {
    if (state.sample >= 0) clear();
    state.strokes.begin(at);
    changed();
  };
  let drawing = null;
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drawing !== null) return;
    drawing = event.pointerId;
    pad.setPointerCapture(event.pointerId);
    begin(point(event));
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) state.strokes.extend(point(each));
    changed();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    pad.addEventListener(kind, (event) => { if (event.pointerId === drawing) drawing = null; });
  }
  watchKeys(pad, begin);
  new ResizeObserver(refresh).observe(pad);
}

function watchKeys(pad, begin) {
  const pen = { at: [0.5, 0.3], isDown: false };
  const cursor = $("cursor");
  const place = () => {
    cursor.style.left = `${pen.at[0] * 100}%`;
    cursor.style.top = `${pen.at[1] * 100}%`;
    cursor.classList.toggle("down", pen.isDown);
  };
  pad.addEventListener("focus", () => { cursor.hidden = !pad.matches(":focus-visible"); place(); });
  pad.addEventListener("blur", () => { cursor.hidden = true; pen.isDown = false; });
  pad.addEventListener("pointerdown", () => { cursor.hidden = true; pen.isDown = false; });
  pad.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    const isSwitch = event.key === " " || event.key === "Enter";
    const isClear = event.key === "Delete" || event.key === "Backspace";
    if (!move && !isSwitch && !isClear) return;
    event.preventDefault();
    cursor.hidden = false;
    if (isClear) clear();
    if (isClear) pen.isDown = false;
    if (isSwitch && !event.repeat) {
      pen.isDown = !pen.isDown;
      if (pen.isDown) begin(pen.at);
    }
    if (move) {
      pen.at = pen.at.map((place, axis) => Math.min(0.95, Math.max(0.05, place + move[axis] * 0.03)));
      if (pen.isDown) { state.strokes.extend(pen.at); changed(); }
    }
    place();
  });
}

// --- colours

const listeners = [];
const onColours = (listener) => listeners.push(listener);
const retell = () => requestAnimationFrame(() => listeners.forEach((listener) => listener()));

function watchTheme() {
  const modes = [["", "as the system has them"], ["light", "light"], ["dark", "dark"]];
  let mode = 0;
  $("theme").addEventListener("click", () => {
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    mode = mode !== 0 ? 0 : isDark ? 1 : 2;
    document.documentElement.dataset.theme = modes[mode][0];
    $("theme").setAttribute("aria-label", `Colours: ${modes[mode][1]}`);
    retell();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retell);
}

start().catch(alert);
