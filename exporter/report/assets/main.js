// Put the parts together: one link is shown at a time; a tap chosen anywhere is shown everywhere.
const data = JSON.parse(document.getElementById("data").textContent);
const WORDS = [
  "layer", "layer_class", "op", "source", "fate", "case", "verdict", "alone", "who", "dtype",
];

function expanded(link) {
  const taps = { ...link.taps };
  for (const key of WORDS) taps[key] = taps[key].map((index) => data.words[index]);
  return taps;
}

function describe(taps, index) {
  const rows = [
    ["tap", `${taps.name[index]} (#${index})`], ["layer", taps.layer[index] || "(root)"],
    ["class", taps.layer_class[index]], ["op", taps.op[index]], ["source", taps.source[index]],
    ["tensor", `${taps.dtype[index]} ${taps.shape[index]}`.trim()],
    ...FIGURES.map(([key, title]) => [title, shown(taps[key][index])]),
    ["case", taps.case[index]], ["verdict", taps.verdict[index]],
    ["verdict on it alone", taps.alone[index]], ["wrong", taps.who[index]],
    ["fate", taps.into[index] ? `${taps.fate[index]} into ${taps.into[index]}` : taps.fate[index]],
    ["why", taps.reason[index]],
  ];
  const list = document.createElement("dl");
  for (const [term, text] of rows) {
    if (!text) continue;
    const pair = document.createElement("div");
    pair.append(cell("dt", "", `${term}: `), cell("dd", "", text));
    list.append(pair);
  }
  breakNames(list);
  document.getElementById("selected").replaceChildren(list);
}

function showLink($, link) {
  const taps = expanded(link);
  let current = -1;
  let plot = null;
  let table = null;
  const choose = (index, jump) => {
    current = index;
    plot?.mark(index);
    describe(taps, index);
    if (jump) table.jump(index, true);
    else table.mark(index);
  };
  plot = drawPlot(taps, choose);
  table = drawTable($, taps, choose);
  drawTree(taps, table.filterModule);
  const holder = document.getElementById("plot");
  holder.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 50, PageUp: -50 };
    const last = taps.name.length - 1;
    if (event.key in steps) {
      choose(Math.min(last, Math.max(0, current + steps[event.key])), false);
    } else if (event.key === "Home" || event.key === "End") {
      choose(event.key === "Home" ? 0 : last, false);
    } else if (event.key === "Enter" && current >= 0) {
      table.jump(current, true);
    } else {
      return;
    }
    event.preventDefault();
  };
  // Where the table opens; the arrow keys begin at the first tap all the same.
  const open = (index) => {
    plot?.mark(index);
    describe(taps, index);
    table.jump(index, false);
  };
  return {
    taps,
    choose,
    open,
    paint: () => plot?.paint(),
    destroy: () => table.destroy(),
  };
}

async function start() {
  startPage();
  let view = null;
  let wave = null;
  onTheme.push(() => view?.paint(), () => wave?.paint());
  if (data.waveforms.length) {
    const select = document.getElementById("waveform-case");
    data.waveforms.forEach((held, i) => select.append(new Option(held.case, String(i))));
    const draw = () => {
      wave = drawWaveform(data.waveforms[Number(select.value)]);
    };
    select.addEventListener("change", draw);
    draw();
  }
  if (!document.getElementById("depth")) return;
  const $ = await loadTables();
  const links = data.links.length
    ? data.links
    : [{ name: "", title: "", taps: Object.fromEntries([...WORDS, "name", "into", "shape", "reason",
      ...FIGURES.map(([key]) => key)].map((key) => [key, []])) }];
  const select = document.getElementById("link");
  links.forEach((link, i) => select.append(new Option(`${link.name}: ${link.title}`, String(i))));
  document.getElementById("link-choice").hidden = links.length < 2;
  const draw = (index) => {
    view?.destroy();
    document.getElementById("selected").replaceChildren();
    select.value = String(index);
    view = showLink($, links[index]);
  };
  select.addEventListener("change", () => draw(Number(select.value)));
  draw(0);
  // On a failure the table opens at the culprit: nobody has to look for it.
  const culprit = document.querySelector("button.jump[data-link]");
  const first = links.findIndex((link) => link.name === culprit?.dataset.link);
  if (first > 0) draw(first);
  const guilty = first < 0 ? -1 : view.taps.name.indexOf(culprit.dataset.tap);
  if (guilty >= 0) view.open(guilty);
  for (const button of document.querySelectorAll("button.jump")) {
    button.addEventListener("click", () => {
      const place = links.findIndex((link) => link.name === button.dataset.link);
      if (place >= 0 && place !== Number(select.value)) draw(place);
      const index = view.taps.name.indexOf(button.dataset.tap);
      if (index >= 0) view.choose(index, true);
    });
  }
}

start().then(
  () => {
    performance.mark("ready");
    root.setAttribute("data-ready", "yes");
  },
  (error) => {
    console.error(error);
    root.setAttribute("data-ready", "failed");
  },
);
