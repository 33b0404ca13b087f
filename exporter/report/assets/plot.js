// Error against depth: three curves, each with its own limit, on a log scale; modules as bands.
const CURVES = [
  ["noise", "float32 PyTorch (noise)", "noise"],
  ["propagated", "ONNX, propagated", "propagated"],
  ["local", "ONNX, layer alone", "local"],
];
const LIMITS = [
  ["limit", "limit, layer alone", "local"],
  ["propagated_limit", "limit, propagated", "propagated"],
];
const MOST_BANDS = 40;
const MOST_NAMES = 12;

// Runs of taps of one module, as deep into the modules as gives at most so many of them.
function bandsOf(layers, count) {
  const deepest = layers.reduce((most, layer) => Math.max(most, layer.split(".").length), 1);
  let best = [];
  for (let depth = 1; depth <= deepest; depth += 1) {
    const bands = [];
    layers.forEach((layer, i) => {
      const path = layer.split(".").slice(0, depth).join(".");
      const last = bands.at(-1);
      if (last?.path === path) last.end = i;
      else bands.push({ path, start: i, end: i });
    });
    if (bands.length > count) break;
    best = bands;
  }
  return best;
}

function drawPlot(taps, choose) {
  const holder = document.getElementById("plot");
  holder.replaceChildren();
  const count = taps.name.length;
  document.getElementById("plot-empty").hidden = count > 0;
  holder.hidden = count === 0;
  if (count === 0) return null;

  // A log axis has no place for 0, NaN and Inf: they are drawn on the lower and the upper edge.
  const finite = CURVES.map(([key]) => key).concat("limit", "propagated_limit").flatMap((key) => taps[key])
    .filter((v) => typeof v === "number" && v > 0);
  const least = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const most = finite.reduce((a, b) => Math.max(a, b), 0);
  const low = finite.length ? least / 2 : 1e-9;
  const high = finite.length ? most * 2 : 1;
  const height = (value) => {
    if (value === null) return NaN;
    const number = numeric(value);
    return number > 0 ? Math.min(number, high) : low;
  };

  const columns = { x: Array.from({ length: count }, (_, i) => i), index: [] };
  for (const key of ["noise", "propagated", "local", "limit", "propagated_limit"]) {
    columns[key] = taps[key].map(height);
    columns[`${key}_text`] = taps[key].map(shown);
  }
  columns.index = columns.x.map(String);
  // A failure without a figure (a change of shape, NaN) stands on the upper edge.
  const failing = (key, test) => columns[key].map(
    (y, i) => (test(i) ? (Number.isNaN(y) ? high : y) : NaN));
  columns.fail = failing("local", (i) => taps.alone[i] === "fail");
  columns.adds_up = failing("propagated",
    (i) => taps.verdict[i] === "fail" && taps.alone[i] !== "fail");
  for (const key of ["name", "layer", "op", "source", "case", "verdict"]) {
    columns[key] = taps[key].map((text) => text || "-");
  }
  const source = new Bokeh.ColumnDataSource({ data: columns });
  const figure = Bokeh.Plotting.figure({
    sizing_mode: "stretch_both",
    y_axis_type: "log",
    x_range: new Bokeh.Range1d({ start: -0.02 * count - 1, end: 1.02 * count }),
    y_range: new Bokeh.Range1d({ start: low / 1.5, end: high * 1.5 }),
    x_axis_label: "depth (tap, in the order of the graph)",
    y_axis_label: "error / scale",
    tools: "pan,box_zoom,wheel_zoom,reset,save",
    toolbar_location: "above",
    output_backend: "canvas",
  });
  figure.toolbar.logo = null;
  figure.toolbar.active_scroll = figure.toolbar.tools.find((tool) => tool.type === "WheelZoomTool")
    ?? null;
  const dressed = [];
  const add = (glyph, name, key, options) => {
    const renderer = figure[glyph]({ x: { field: "x" }, y: { field: name }, source, ...options });
    dressed.push([renderer, key]);
    return renderer;
  };
  // Lines lead over taps that were not measured or are exact: those would tear them apart.
  const curve = (key, hue, options) => {
    const kept = columns.x.filter((i) => taps[key][i] !== null && taps[key][i] !== 0);
    dressed.push([figure.line({ x: kept, y: kept.map((i) => columns[key][i]), ...options }), hue]);
  };
  const bands = bandsOf(taps.layer, MOST_BANDS).map((band, i) => {
    const box = new Bokeh.BoxAnnotation({
      left: band.start - 0.5, right: band.end + 0.5, fill_alpha: i % 2 ? 0.09 : 0, line_alpha: 0,
      level: "underlay",
    });
    figure.add_layout(box);
    return box;
  });
  const wide = bandsOf(taps.layer, MOST_NAMES)
    .filter((band) => (band.end - band.start + 1) / count > 0.04);
  const names = wide.map((band) => {
    const room = Math.max(3, Math.floor(((band.end - band.start + 1) / count) * 110));
    const label = new Bokeh.Label({
      x: (band.start + band.end) / 2, y: 2, y_units: "screen", text_align: "center",
      text: middle(band.path.split(".").slice(-2).join(".") || "(root)", room),
      text_font_size: "10px",
    });
    figure.add_layout(label);
    return label;
  });
  const dots = [];
  const many = count > 600;
  for (const [key, title, hue] of LIMITS) {
    curve(key, hue, { line_dash: "dashed", line_width: 1.5, legend_label: title });
  }
  for (const [key, title, hue] of CURVES) {
    curve(key, hue, { line_width: 1, line_alpha: many ? 0.25 : 0.55, legend_label: title });
    const dot = add("scatter", key, hue, {
      size: many ? 3 : 6, fill_alpha: many ? 0.7 : 1, line_alpha: many ? 0.7 : 1,
      legend_label: title,
    });
    dot.nonselection_glyph = null;
    dots.push(dot);
  }
  const failed = add("scatter", "fail", "fail", {
    size: 13, marker: "x", line_width: 3, legend_label: "fails by itself",
  });
  const summed = add("scatter", "adds_up", "fail", {
    size: 11, marker: "circle_x", fill_alpha: 0, line_width: 2, legend_label: "fails, added up",
  });
  for (const held of [failed, summed]) held.nonselection_glyph = null;
  const cursor = new Bokeh.Span({ dimension: "height", location: 0, visible: false });
  figure.add_layout(cursor);
  figure.add_tools(
    new Bokeh.HoverTool({
      renderers: dots,
      point_policy: "snap_to_data",
      tooltips: [
        ["layer", "@layer"], ["tap", "@name"], ["op", "@op"], ["source", "@source"],
        ["local error", "@local_text, limit @limit_text"],
        ["propagated", "@propagated_text, limit @propagated_limit_text"],
        ["PyTorch", "@noise_text"],
        ["case", "@case"], ["verdict", "@verdict"],
      ],
    }),
    new Bokeh.TapTool({ renderers: [...dots, failed, summed] }),
  );
  placeLegend(figure, holder);
  const paint = () => {
    dress(figure);
    cursor.line_color = colour("ink");
    for (const box of bands) box.fill_color = colour("ink");
    for (const label of names) label.text_color = colour("dim");
    for (const [renderer, key] of dressed) {
      for (const glyph of [renderer.glyph, renderer.selection_glyph]) {
        if (!glyph) continue;
        if ("line_color" in glyph) glyph.line_color = colour(key);
        if ("fill_color" in glyph) glyph.fill_color = colour(key);
      }
    }
  };
  paint();
  source.selected.properties.indices.change.connect(() => {
    const [index] = source.selected.indices;
    if (index !== undefined) choose(index, true);
  });
  Bokeh.Plotting.show(figure, holder);
  return {
    paint,
    figure,
    mark(index) {
      cursor.location = index;
      cursor.visible = true;
    },
  };
}
