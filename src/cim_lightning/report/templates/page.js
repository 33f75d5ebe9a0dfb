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

// Convert steps into their cost on an axis; empty for a run that did not record it.
function against(figure, axis) {
  return figure.data.map(({ meta }) => {
    const cost = meta.costs[axis];
    return cost === undefined ? [] : meta.steps.map((step) => step * cost);
  });
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
  const plot = figures.curves;
  const bottom = lowest(plot.layout);
  const changes = { [`${bottom}.title.text`]: input.dataset.title };
  for (const axis of axesOf(plot.layout).filter((key) => key[0] === "x")) changes[`${axis}.autorange`] = true;
  Plotly.update(plot, { x: against(plot, input.value) }, changes);
}
for (const input of document.querySelectorAll('input[name="axis"]')) {
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
