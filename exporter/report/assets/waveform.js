// Segments and speech probability over the envelope of a recording.
function drawWaveform(held) {
  const holder = document.getElementById("waveform-plot");
  holder.replaceChildren();
  const seconds = held.samples / held.rate;
  const step = seconds / Math.max(1, held.minimum.length);
  const time = held.minimum.map((_, i) => (i + 0.5) * step);
  const peak = held.minimum.concat(held.maximum)
    .reduce((most, v) => (v === null ? most : Math.max(most, Math.abs(v))), 0) || 1;
  const figure = Bokeh.Plotting.figure({
    sizing_mode: "stretch_both",
    x_range: new Bokeh.Range1d({ start: 0, end: seconds || 1 }),
    y_range: new Bokeh.Range1d({ start: -1.05 * peak, end: 1.05 * peak }),
    x_axis_label: "seconds",
    y_axis_label: "waveform",
    tools: "pan,box_zoom,xwheel_zoom,reset,save",
    toolbar_location: "above",
    output_backend: "canvas",
  });
  figure.toolbar.logo = null;
  figure.toolbar.active_scroll = null;
  figure.extra_y_ranges = { speech: new Bokeh.Range1d({ start: -0.02, end: 1.02 }) };
  const right = new Bokeh.LinearAxis({ y_range_name: "speech", axis_label: "speech probability" });
  figure.add_layout(right, "right");
  const boxes = new Bokeh.ColumnDataSource({
    data: {
      left: held.segments.map(([start]) => start / held.rate),
      right: held.segments.map(([, end]) => end / held.rate),
      bottom: held.segments.map(() => -1.05 * peak),
      top: held.segments.map(() => 1.05 * peak),
      text: held.segments.map(([start, end], i) =>
        `${i}: ${start} to ${end} samples, ${(start / held.rate).toFixed(3)} to `
        + `${(end / held.rate).toFixed(3)} s`),
    },
  });
  const quad = figure.quad({
    left: { field: "left" }, right: { field: "right" }, bottom: { field: "bottom" },
    top: { field: "top" }, source: boxes, fill_alpha: 0.18, legend_label: "segment",
  });
  const area = figure.varea({
    x: time, y1: held.minimum.map((v) => v ?? NaN), y2: held.maximum.map((v) => v ?? NaN),
    fill_alpha: 0.8, legend_label: "waveform",
  });
  const line = figure.line({
    x: held.probs.map((_, i) => Math.min(seconds, ((i + 0.5) * held.hop) / held.rate)),
    y: held.probs.map((v) => v ?? NaN), y_range_name: "speech", line_width: 1.5,
    legend_label: "speech probability",
  });
  const painted = [[quad, "pass"], [area, "noise"], [line, "local"]];
  if (held.threshold !== null) {
    painted.push([figure.line({
      x: [0, seconds], y: [numeric(held.threshold), numeric(held.threshold)],
      y_range_name: "speech", line_dash: "dashed", legend_label: "threshold",
    }), "limit"]);
  }
  figure.add_tools(new Bokeh.HoverTool({ renderers: [quad], tooltips: [["segment", "@text"]] }));
  placeLegend(figure, holder);
  const paint = () => {
    dress(figure);
    for (const [renderer, key] of painted) {
      const glyph = renderer.glyph;
      if ("line_color" in glyph) glyph.line_color = colour(key);
      if ("fill_color" in glyph) glyph.fill_color = colour(key);
    }
  };
  paint();
  Bokeh.Plotting.show(figure, holder);
  document.getElementById("waveform-text").textContent = held.text;
  return { paint, figure };
}
