"use strict";
// One synapse of notebook 01: its input is on for 20 steps, off for 20, and on again.
(() => {
  const root = document.getElementById("synapse");
  const STEPS = 60, DECAY = 0.4, V_TH = 1.0, WEIGHT = 0.5;
  const SLIDERS = {
    gain: ["gain α: how strongly the trace drives the neuron", -0.5, 1.0, 0.05, 0.5],
    rate: ["rate η: how fast the trace grows", 0.0, 0.2, 0.01, 0.1],
    threshold: ["threshold ϑ: activity below it weakens the synapse", -1.0, 1.0, 0.05, 0.0],
    decay: ["decay λ of the trace: 1 never forgets", 0.8, 1.0, 0.01, 0.95],
  };
  const on = (step) => step < 20 || step >= 40;

  function life({ gain, rate, threshold, decay }) {
    let v = 0, z = 0, trace = 0;
    const traces = [], currents = [];
    for (let step = 0; step < STEPS; step++) {
      const x = on(step) ? 1 : 0;
      const current = x * (WEIGHT + gain * trace);
      v = DECAY * (v - V_TH * z) + current;
      z = v > V_TH ? 1 : 0;
      trace = decay * trace + rate * x * Math.tanh(v / V_TH - threshold);
      traces.push(trace);
      currents.push(current);
    }
    return { trace: traces, current: currents };
  }

  const make = (parent, tag, attributes = {}, space = null) => {
    const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  };
  const SVG = "http://www.w3.org/2000/svg";
  const [WIDTH, HEIGHT, LOW, HIGH] = [600, 220, -1.5, 2.0];
  const place = (step, value) =>
    `${(step * WIDTH) / (STEPS - 1)},${HEIGHT - ((value - LOW) * HEIGHT) / (HIGH - LOW)}`;

  const inputs = {};
  for (const [name, [words, min, max, step, value]] of Object.entries(SLIDERS)) {
    const label = make(root, "label");
    const text = make(label, "span");
    inputs[name] = make(label, "input", { type: "range", name, min, max, step, value });
    inputs[name].show = () => {
      text.textContent = `${words} = ${Number(inputs[name].value).toFixed(2)}`;
    };
  }
  const figure = make(root, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, SVG);
  for (const [from, to] of [[0, 19], [40, 59]]) {
    const [left, right] = [from, to].map((step) => (step * WIDTH) / (STEPS - 1));
    make(figure, "rect", { class: "on", x: left, y: 0, width: right - left, height: HEIGHT }, SVG);
  }
  make(figure, "polyline", { class: "zero", points: `${place(0, 0)} ${place(STEPS - 1, 0)}` }, SVG);
  const curves = {};
  for (const name of ["trace", "current"]) {
    curves[name] = make(figure, "polyline", { class: name }, SVG);
  }
  const said = make(root, "output");

  function draw() {
    const chosen = {};
    for (const [name, input] of Object.entries(inputs)) {
      chosen[name] = Number(input.value);
      input.show();
    }
    const seen = life(chosen);
    for (const [name, values] of Object.entries(seen)) {
      curves[name].setAttribute("points", values.map((v, step) => place(step, v)).join(" "));
    }
    const [trace, current] = [seen.trace, seen.current].map((values) => values[STEPS - 1]);
    said.textContent =
      `At the end the trace is ${trace.toFixed(4)}, and the current ${current.toFixed(4)}.`;
    figure.setAttribute("aria-label", `Trace and current of 60 steps. ${said.textContent}`);
  }
  root.addEventListener("input", draw);
  draw();
})();
