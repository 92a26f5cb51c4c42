// One run's curve: medians of its bins, and every step that a pixel can show, asked for again at each zoom.
"use strict";
const chart = document.getElementById("chart"), caption = document.getElementById("caption");
if (chart) {
  const at = id => document.getElementById(id);
  const steps = Number(chart.dataset.steps), address = `/run/${encodeURIComponent(chart.dataset.run)}/curve.json`;
  const HEIGHT = 360, LEAST = 4; // [CSS pixels], [steps]
  let plot = null, digest = null, curve = null, marks = {}, window_ = [0, steps - 1], asked = 0;

  const ask = async extra => {
    const query = new URLSearchParams({ metric: at("metric").value, columns: Math.max(100, chart.clientWidth - 70), ...extra });
    const answer = await fetch(`${address}?${query}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.json();
  };

  const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function joined() {
    const positive = value => at("log-y").checked && !(value > 0) ? null : value;
    const one = part => [part.step.map(step => at("log-x").checked ? Math.max(step, 0.5) : step), part.value.map(positive)];
    const empty = { step: [], value: [] };
    return uPlot.join([one(curve ?? empty), one(digest ?? empty)]);
  }

  function drawMarks(u) {
    if (marks.eureka_step == null) return;
    const x = Math.round(u.valToPos(marks.eureka_step, "x", true)), { left, top, width, height } = u.bbox;
    if (x < left || x > left + width) return;
    u.ctx.save();
    u.ctx.strokeStyle = ink("--warn");
    u.ctx.setLineDash([6, 4]);
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.beginPath();
    u.ctx.moveTo(x, top);
    u.ctx.lineTo(x, top + height);
    u.ctx.stroke();
    u.ctx.restore();
  }

  function draw() {
    const quiet = ink("--quiet"), grid = { stroke: ink("--chart-grid"), width: 1 }, font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: quiet, grid, ticks: grid, font, labelFont: font };
    plot?.destroy();
    chart.replaceChildren();
    plot = new uPlot({
      width: chart.clientWidth, height: HEIGHT,
      scales: {
        x: { time: false, distr: at("log-x").checked ? 3 : 1, range: () => limits() },
        y: { distr: at("log-y").checked ? 3 : 1 },
      },
      cursor: { drag: { x: true, y: false, setScale: false } },
      series: [
        { label: "step" },
        { label: `${at("metric").value}, lowest and highest of each pixel`, stroke: ink("--quiet"), width: 1, alpha: .55, spanGaps: true, points: { show: false } },
        { label: "median of a bin", stroke: ink("--accent"), width: 2, spanGaps: true, points: { show: false } },
      ],
      axes: [{ ...axis, label: "step [optimiser steps]", labelSize: 18, size: 36 }, { ...axis, size: 64 }],
      hooks: {
        draw: [drawMarks],
        setSelect: [u => {
          if (u.select.width < 2) return;
          zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
        }],
      },
    }, joined(), chart);
    plot.over.addEventListener("dblclick", () => zoom(0, steps - 1));
    tell();
  }

  const limits = () => at("log-x").checked ? [Math.max(window_[0], 0.5), Math.max(window_[1], 1)] : window_;
  const whole = () => window_[0] <= 0 && window_[1] >= steps - 1;

  function tell() {
    const [low, high] = window_.map(step => Math.round(step).toLocaleString("en"));
    const event = marks.eureka_step == null ? "" : " Dashed: the event.";
    caption.textContent = `${at("metric").value} at steps ${low} to ${high}: ${curve.step.length.toLocaleString("en")} points of the curve.${event} Drag to zoom, double-click for the whole run.`;
    chart.dataset.low = Math.round(window_[0]);
    chart.dataset.high = Math.round(window_[1]);
    chart.dataset.points = curve.step.length;
  }

  async function zoom(low, high) {
    const span = Math.min(Math.max(high - low, LEAST), Math.max(steps - 1, LEAST));
    low = Math.min(Math.max(low, 0), Math.max(steps - 1 - span, 0));
    window_ = [low, low + span];
    const turn = ++asked;
    try {
      const found = await ask(whole() ? {} : { low: window_[0], high: window_[1] });
      if (turn !== asked) return; // a later zoom is under way
      curve = found.curve;
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      plot.setData(joined(), true);
      tell();
    } catch { caption.textContent = "The server does not answer; the curve is as it was."; }
  }

  async function open() {
    const turn = ++asked;
    window_ = [0, Math.max(steps - 1, LEAST)];
    try {
      const found = await ask({});
      if (turn !== asked) return;
      ({ curve, digest, marks } = found);
      draw();
      at("tools").hidden = false;
    } catch { caption.textContent = "The curve could not be read; below are medians of the loss."; }
  }

  const by = factor => { const [low, high] = window_, middle = (low + high) / 2, half = (high - low) / 2 * factor; zoom(middle - half, middle + half); };
  const shift = share => { const [low, high] = window_, move = (high - low) * share; zoom(low + move, high + move); };
  at("zoom-in").addEventListener("click", () => by(.5));
  at("zoom-out").addEventListener("click", () => by(2));
  at("left").addEventListener("click", () => shift(-.5));
  at("right").addEventListener("click", () => shift(.5));
  at("whole").addEventListener("click", () => zoom(0, steps - 1));
  at("metric").addEventListener("change", open);
  at("log-x").addEventListener("change", draw);
  at("log-y").addEventListener("change", draw);
  new ResizeObserver(() => plot && plot.width !== chart.clientWidth && plot.setSize({ width: chart.clientWidth, height: HEIGHT })).observe(chart);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot && draw());
  open();
}
