"use strict";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const axesOf = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
const lowest = (layout) => axesOf(layout).filter((key) => key[0] === "x").pop();

// Colors of text and grid, which depend on the color scheme of the device.
function themed(layout) {
  const changes = { "font.color": css("--text") };
  for (const axis of axesOf(layout)) {
    changes[`${axis}.gridcolor`] = css("--line");
    changes[`${axis}.linecolor`] = css("--line");
  }
  return changes;
}

// Points against an axis: steps converted into their cost, or the points of each axis; empty for a run or a trace that did
// not record it.
function against(figure, axis) {
  const points = ({ meta, y }) => {
    if (meta.points) return meta.points[axis] ?? { x: [], y: [] };
    const cost = meta.costs[axis];
    return { x: cost === undefined ? [] : meta.steps.map((step) => step * cost), y };
  };
  return figure.data.map(points);
}

const touch = matchMedia("(pointer: coarse)").matches;
const figures = {};
for (const script of document.querySelectorAll('script[type="application/json"]')) {
  const name = script.id.replace("-data", "");
  const figure = JSON.parse(script.textContent);
  figure.layout.font = { family: "system-ui, sans-serif", size: 12 };
  if (figure.layout.meta) document.getElementById(name).style.minWidth = `${figure.layout.meta.width}px`;
  if (touch) figure.layout.dragmode = false; // so that a finger scrolls the page
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.newPlot(name, figure.data, figure.layout, config);
  figures[name] = document.getElementById(name);
}

function paint() {
  for (const plot of Object.values(figures)) Plotly.relayout(plot, themed(plot.layout));
}
paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

function choose(input) {
  const plot = figures[input.dataset.figure];
  const points = against(plot, input.value);
  const changes = { [`${lowest(plot.layout)}.title.text`]: input.dataset.title };
  for (const axis of axesOf(plot.layout).filter((key) => key[0] === "x")) changes[`${axis}.autorange`] = true;
  Plotly.update(plot, { x: points.map(({ x }) => x), y: points.map(({ y }) => y) }, changes);
}
for (const input of document.querySelectorAll('input[name^="axis-"]')) {
  input.addEventListener("change", () => choose(input));
  if (input.checked) choose(input);
}

for (const gallery of document.querySelectorAll("figure")) {
  const pictures = gallery.querySelectorAll("img");
  const slider = gallery.querySelector("input");
  slider.addEventListener("input", () => {
    pictures.forEach((picture, i) => (picture.hidden = i !== Number(slider.value)));
    const step = Number(pictures[slider.value].dataset.step);
    gallery.querySelector("output").textContent = `step ${step.toLocaleString("en")}`;
  });
}
